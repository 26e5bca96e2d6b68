"""The captioning data that several experiments share: sources, preprocessing, vocabulary, as ready pipelines.

Each function is called by an experiment file, so that one line there says which data it trains on.
"""

import dataclasses
from typing import Any

from vlm_jax.data import image_transforms as images
from vlm_jax.data.buckets import Buckets
from vlm_jax.data.encoded import Encoded
from vlm_jax.data.held import Held
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.sampling import EachCaption
from vlm_jax.data.source import Source, Tfds
from vlm_jax.data.text_transforms import FirstCaption, Tokenize
from vlm_jax.data.views import ChooseView, MeanOfViews, Views
from vlm_jax.metrics.cider import Cider
from vlm_jax.metrics.scene_facts import SceneFacts
from vlm_jax.pretrained import mobilenet as mobilenet_weights
from vlm_jax.report.gallery import Gallery
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.train.evaluation import Evaluation
from vlm_jax.vision.mobilenet import mobilenet_v2_folded


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionData:
    """Pipelines of one data set, all with the same tokenizer and preprocessing.

    `train` yields every (picture, caption) pair; `train_pictures` every picture once, with its first caption, for what
    learns from captions of its own. `pictures` has one row a picture and is what captions are written for; `pairs` has
    one row a pair and is what perplexity is measured on.
    """

    tokenizer: Any
    max_length: int  # of a target, with BOS and EOS
    train: Pipeline
    train_pictures: Pipeline
    pictures: dict[str, Pipeline]
    pairs: dict[str, Pipeline]

    def evaluations(self, *, every: int | None) -> tuple[Evaluation, ...]:
        """Captions and perplexity on validation every so many steps, and on what is left at the end."""
        metrics = (SceneFacts(),) if "test_unseen" in self.pictures else (Cider(),)
        found = []
        for split in self.pictures:
            often = every if split == "validation" else None
            gallery = Gallery(source=self.pictures[split].source, metrics=metrics)
            found += [
                Evaluation(
                    name=split,
                    data=self.pictures[split],
                    every=often,
                    loss=False,
                    reports=(gallery,),
                ),
                Evaluation(
                    name=f"{split}_pairs", data=self.pairs[split], every=often, predict=False
                ),
            ]
        return tuple(found)


SCENES = ("train", "validation", "test", "test_unseen")
SCENE = (images.Decode(), images.Resize(size=64))
SCALE = images.Normalise(mean=(0.5,), std=(0.5,))  # Painting has the same two numbers, to undo it


def held_scenes(config: str | None = None) -> dict[str, Held]:
    """The pictures made here by split, uint8 [64 64 3], decoded once: 8,000 / 500 / 1,000, and 500 with pairs of colour
    and shape that training never shows (`test_unseen`)."""
    return {split: Held(Tfds("scenes", split, config=config), SCENE) for split in SCENES}


def encoded_scenes(split: str, config: str | None = None, **fields: Any) -> Held:
    """What a network makes of the pictures of one split, computed once and held in memory; `fields` are those of Encoded."""
    pictures = Tfds("scenes", split, config=config)
    return Held(Encoded(source=pictures, transforms=(*SCENE, SCALE), **fields), ())


def scenes(*, batch_size: int, config: str | None = None, seed: int = 0) -> CaptionData:
    """The pictures made here, 64x64, as float32 [64 64 3]. 8,000 / 500 / 1,000 and 500 of unseen pairs."""
    sources = held_scenes(config)
    tokenizer = WordTokenizer(corpus=sources["train"].source, vocab_size=64)
    return _captions(sources, tokenizer, (SCALE,), batch_size, max_length=36, seed=seed)


def flickr8k(*, batch_size: int, pool: bool, seed: int = 0) -> CaptionData:
    """Flickr8k in Karpathy's split with the features of MobileNetV2 (ImageNet), computed once and cached.

    [1 1280], the mean over positions, where `pool`; else the 7x7 grid [49 1280]. In both: log(1 + x), then
    standardised over the training pictures. In training one of several views of the picture is drawn: as it is,
    mirrored, and four (of the grid, two) random parts of at least half its area, half of them mirrored; none that is
    mirrored for a caption that says left or right. Captions are written for the mean of the picture and its mirror image,
    place by place. Words seen at least five times, as in Karpathy's and Tanti's work. Captions of like length come in one
    batch, which halves the padding.
    """
    splits = {split: Tfds("flickr8k", split) for split in ("train", "validation", "test")}
    part = images.RandomResizedCrop(size=224, scale=(0.5, 1.0), ratio=(0.85, 1.18))
    whole = images.Resize(size=224)
    flip = images.HorizontalFlip(rate=1.0, even_with_left_right=True)
    plain, mirrored = _mobilenet(whole), _mobilenet(whole, flip)
    parts = _mobilenet(part), _mobilenet(part, flip)

    def encoded(split):
        return mobilenet_features(splits[split], splits["train"], pool=pool)

    views = (plain, mirrored, *parts * (2 if pool else 1))
    sources = {"train": Views(source=encoded("train"), transforms=views)}
    for split in ("validation", "test"):
        sources[split] = Views(source=encoded(split), transforms=(plain, mirrored))
    mean = MeanOfViews() if pool else MeanOfViews(grid=(7, 7), mirrored=(1,))
    tokenizer = WordTokenizer(corpus=splits["train"], vocab_size=2560, min_count=5)
    return _captions(
        sources,
        tokenizer,
        (mean,),
        batch_size,
        max_length=24,
        seed=seed,
        train_before=(ChooseView(mirrored=tuple(range(1, len(views), 2))),),
        bucket_lengths=(11, 14, 18, 24),
    )


def mobilenet_features(source: Source, train: Source, *, pool: bool) -> Encoded:
    """`source` with MobileNetV2's features of the whole picture, squashed to 224x224: [49 1280], where `pool` [1 1280];
    log(1 + x), standardised over the pictures of `train`."""
    return Encoded(
        source=source,
        encoder=mobilenet_v2_folded(),
        init_params=mobilenet_weights.MobileNetV2Weights(),
        transforms=_mobilenet(images.Resize(size=224)),
        pool=pool,
        log1p=True,
        standardise=train,
    )


def flickr8k_pixels(*, batch_size: int, seed: int = 0) -> CaptionData:
    """Flickr8k in Karpathy's split, 224x224 as MobileNetV2's weights want it, for an encoder that is trained along.

    In training a random part of at least half the picture, mirrored or not; else the whole, squashed. No picture is
    mirrored whose caption may say left or right. Words as in `flickr8k`.
    """
    sources = {split: Tfds("flickr8k", split) for split in ("train", "validation", "test")}
    part = images.RandomResizedCrop(size=224, scale=(0.5, 1.0), ratio=(0.85, 1.18))
    return _captions(
        sources,
        WordTokenizer(corpus=sources["train"], vocab_size=2560, min_count=5),
        _mobilenet(images.Resize(size=224)),
        batch_size,
        max_length=24,
        seed=seed,
        train_before=_mobilenet(part, images.HorizontalFlip()),
        bucket_lengths=(11, 14, 18, 24),
    )


def _mobilenet(*transforms: Any) -> tuple:
    """Picture file -> what the weights were trained on, with `transforms` between."""
    mean, std = mobilenet_weights.MEAN, mobilenet_weights.STD
    return (images.Decode(), *transforms, images.Normalise(mean=(mean,), std=(std,)))


def _captions(
    sources: dict[str, Source],
    tokenizer: Any,
    before: tuple,
    batch_size: int,
    max_length: int,
    seed: int,
    train_before: tuple | None = None,
    bucket_lengths: tuple[int, ...] | None = None,
) -> CaptionData:
    tokenize = Tokenize(tokenizer=tokenizer, max_length=max_length)
    buckets = bucket_lengths and Buckets(lengths=bucket_lengths, measure=tokenize)

    def pipeline(source, *transforms, train=False, buckets=None):
        return Pipeline(
            source=source,
            transforms=transforms,
            batch_size=batch_size if train else 100,
            train=train,
            seed=seed,
            buckets=buckets,
            num_workers=1,  # the next batch is made while the device works on this one
        )

    drawn = train_before or before
    held_out = {split: source for split, source in sources.items() if split != "train"}
    return CaptionData(
        tokenizer=tokenizer,
        max_length=max_length,
        train=pipeline(
            EachCaption(sources["train"]), *drawn, tokenize, train=True, buckets=buckets
        ),
        train_pictures=pipeline(sources["train"], *drawn, FirstCaption(), tokenize, train=True),
        pictures={
            split: pipeline(source, *before, FirstCaption(), tokenize)
            for split, source in held_out.items()
        },
        pairs={
            split: pipeline(EachCaption(source), *before, tokenize)
            for split, source in held_out.items()
        },
    )
