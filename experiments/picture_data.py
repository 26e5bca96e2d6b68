"""The data that pictures are made from: prompts beside pictures, as ready pipelines.

    data = scenes(batch_size=64)               # 64x64, one caption as prompt
    data = fashion_mnist(batch_size=128)       # 28x28 grey, the name of the class as prompt

Batches have `text`, the prompt as in captioning (BOS words EOS PAD), and `image`, in [-1, 1]; references have `prompt`,
and of scenes `scene`. In training a caption is drawn anew each epoch, in evaluation a picture keeps its first.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.datasets import SCALE
from experiments.image_data import FASHION_MNIST
from vlm_jax.data.codes import ToPlan
from vlm_jax.data.held import Held
from vlm_jax.data.image_transforms import (
    CentreCrop,
    Decode,
    HorizontalFlip,
    ResizeShorter,
)
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.prompts import ClassPrompted, Prompted
from vlm_jax.data.source import Rows, Source, Tfds
from vlm_jax.data.text_transforms import ChooseCaption, Keep, Tokenize
from vlm_jax.metrics.prompt_holds import PromptHolds
from vlm_jax.report.painted import PaintedGallery
from vlm_jax.text.scene_plan import ScenePlan
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.train.evaluation import Evaluation


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureData:
    """Pipelines of one data set, all with the same tokenizer and preprocessing."""

    tokenizer: Any
    max_length: int  # of a prompt, with BOS and EOS
    train: Pipeline
    held_out: Mapping[str, Pipeline]  # one prompt a picture
    metrics: tuple[Any, ...] = ()  # that judge a picture by its prompt

    def evaluations(
        self, *, every: int | None, reports: tuple[Any, ...] = (), **fields: Any
    ) -> tuple[Evaluation, ...]:
        """Validation every so many steps, and what is left at the end, each with its gallery, and with other `reports`,
        made for its source; `fields` are those of Evaluation."""
        return tuple(
            Evaluation(
                name=split,
                data=pipeline,
                every=every if split == "validation" else None,
                perplexity=False,
                reports=(
                    PaintedGallery(source=pipeline.source, metrics=self.metrics),
                    *(report(source=pipeline.source) for report in reports),
                ),
                **fields,
            )
            for split, pipeline in self.held_out.items()
        )


def scenes(
    *,
    batch_size: int,
    config: str | None = None,
    train_config: str | None = None,
    eval_batch_size: int = 50,
    seed: int = 0,
    plan: ScenePlan | None = None,
) -> PictureData:
    """The pictures made here, float32 [64 64 3]. 8,000 / 500 / 1,000 and 500 of unseen pairs; to train on those of
    `train_config` where it is given ("large": 64,000). With a `plan` batches have what stands where as its numbers, `plan` [b m]."""
    splits = ("train", "validation", "test", "test_unseen")
    sources = {split: Tfds("scenes", split, config=config) for split in splits}
    words = WordTokenizer(corpus=sources["train"], vocab_size=64)
    if train_config is not None:
        sources["train"] = Tfds("scenes", "train", config=train_config)
    return _pipelines(
        {s: source if s == "train" else Prompted(source) for s, source in sources.items()},
        words,
        before=(Decode(),),
        draw=(ChooseCaption(output="prompt"),),
        max_length=36,
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
        seed=seed,
        metrics=(PromptHolds(),),
        plan=plan,
    )


def fashion_mnist(*, batch_size: int, eval_batch_size: int = 100, seed: int = 0) -> PictureData:
    """Grey pictures, float32 [28 28 1], each with the name of its class: 55,000 / 5,000 / 10,000."""
    names = Rows(names=("captions",), rows=((FASHION_MNIST,),))
    splits = {s: Tfds("fashion_mnist", s) for s in ("train", "validation", "test")}
    return _pipelines(
        {s: ClassPrompted(source, classes=FASHION_MNIST) for s, source in splits.items()},
        WordTokenizer(corpus=names, vocab_size=20),
        before=(Decode(channels=1),),
        draw=(),
        max_length=5,
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
        seed=seed,
    )


def flickr8k(*, batch_size: int, eval_batch_size: int = 50, seed: int = 0) -> PictureData:
    """The middle square of photographs, float32 [64 64 3], mirrored at random: 6,000 / 1,000 / 1,000."""
    sources = {split: Tfds("flickr8k", split) for split in ("train", "validation", "test")}
    return _pipelines(
        {s: source if s == "train" else Prompted(source) for s, source in sources.items()},
        WordTokenizer(corpus=sources["train"], vocab_size=2560, min_count=5),
        before=(Decode(at_least=64), ResizeShorter(size=64), CentreCrop(size=64)),
        draw=(ChooseCaption(output="prompt"), HorizontalFlip()),
        max_length=24,
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
        seed=seed,
    )


def _pipelines(
    sources: Mapping[str, Source],
    tokenizer: Any,
    *,
    before: tuple[Any, ...],
    draw: tuple[Any, ...],
    max_length: int,
    batch_size: int,
    eval_batch_size: int,
    seed: int,
    metrics: tuple[Any, ...] = (),
    plan: ScenePlan | None = None,
) -> PictureData:
    """`draw` finds the prompt of a training picture, where its source does not say. What `before` makes of pictures stays in
    memory."""
    tokenize = Tokenize(tokenizer=tokenizer, max_length=max_length, key="prompt", output="text")
    planned = () if plan is None else (ToPlan(plan=plan),)
    kept = ("image", "text", *(step.output for step in planned))
    after = (tokenize, SCALE, *planned, Keep(keys=kept))

    def pipeline(split: str) -> Pipeline:
        train = split == "train"
        return Pipeline(
            source=Held(sources[split], before),
            transforms=(*draw, *after) if train else after,
            batch_size=batch_size if train else eval_batch_size,
            train=train,
            seed=seed,
            num_workers=1,  # the next batch is made while the device works on this one
        )

    return PictureData(
        tokenizer=tokenizer,
        max_length=max_length,
        train=pipeline("train"),
        held_out={split: pipeline(split) for split in sources if split != "train"},
        metrics=metrics,
    )
