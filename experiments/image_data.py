"""The classification data that several experiments share: sources, preprocessing and augmentation, as ready pipelines.

    data = fashion_mnist(batch_size=128)
    data = cifar10(batch_size=128, augment=(RandomCrop(size=32, padding=4), HorizontalFlip(), RandomErasing()))
    data = data.training_on(First(data.train.source, 1000))

Batches have `image` and `label`. Augmentation is for training alone, and stands between decoding and normalising.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vlm_jax.data.held import Held
from vlm_jax.data.image_transforms import (
    Decode,
    HorizontalFlip,
    Normalise,
    RandomCrop,
    Resize,
)
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import Source, Tfds
from vlm_jax.data.text_transforms import CheckLabels, Keep
from vlm_jax.train.evaluation import Evaluation

FASHION_MNIST = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")  # fmt: skip
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Of the training pictures: mean and standard deviation of a pixel in [0, 1].
FASHION_MNIST_STATISTICS = Normalise(mean=(0.2860,), std=(0.3530,))
CIFAR10_STATISTICS = Normalise(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))


def flip_and_shift(size: int, padding: int) -> tuple[Any, ...]:
    """He et al. 2016, section 4.2: the picture or its mirror image, moved by up to `padding` pixels."""
    return RandomCrop(size=size, padding=padding), HorizontalFlip()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageData:
    """Pipelines of one data set. `held_out` has `validation`, a fixed part of the training pictures, and `test`."""

    classes: tuple[str, ...]
    train: Pipeline
    held_out: Mapping[str, Pipeline]

    def training_on(self, source: Source) -> "ImageData":
        """The same with other examples to train on: a part of them, or an unbalanced one."""
        return dataclasses.replace(self, train=dataclasses.replace(self.train, source=source))

    def evaluations(
        self, *, every: int | None, reports: tuple[Any, ...] = ()
    ) -> tuple[Evaluation, ...]:
        """Validation every so many steps, test at the end. `reports` are made for each pipeline's source."""
        return tuple(
            Evaluation(
                name=split,
                data=pipeline,
                every=every if split == "validation" else None,
                perplexity=False,
                reports=tuple(report(source=pipeline.source) for report in reports),
            )
            for split, pipeline in self.held_out.items()
        )


def fashion_mnist(
    *,
    batch_size: int,
    augment: tuple[Any, ...] = flip_and_shift(28, 2),
    train_split: str = "train",
    seed: int = 0,
) -> ImageData:
    """Grey pictures [28 28 1]: 55,000 / 5,000 / 10,000. `train_split="train+validation"` for all 60,000."""
    return pipelines(
        _splits("fashion_mnist", train_split),
        FASHION_MNIST,
        before=(Decode(channels=1),),
        augment=augment,
        normalise=FASHION_MNIST_STATISTICS,
        batch_size=batch_size,
        seed=seed,
        hold=True,
    )


def cifar10(
    *,
    batch_size: int,
    augment: tuple[Any, ...] = flip_and_shift(32, 4),
    train_split: str = "train",
    config: str = "jpeg",
    seed: int = 0,
) -> ImageData:
    """Colour pictures [32 32 3]: 45,000 / 5,000 / 10,000. config: "official", or "jpeg" for lossy copies of them."""
    return pipelines(
        _splits("cifar10", train_split, config=config),
        CIFAR10,
        before=(Decode(),),
        augment=augment,
        normalise=CIFAR10_STATISTICS,
        batch_size=batch_size,
        seed=seed,
        hold=True,
    )


def scenes(
    *, batch_size: int, size: int = 28, channels: int = 1, augment: tuple[Any, ...] = (), **fields
) -> ImageData:
    """How many shapes a picture made here shows, one to four: for `smoke`, which needs data without files."""
    return pipelines(
        _splits("scenes", "train", config="tiny"),
        ("one", "two", "three", "four"),
        before=(Decode(channels=channels), *((Resize(size=size),) if size != 64 else ())),
        augment=augment,
        normalise=Normalise(mean=(0.5,), std=(0.5,)),
        batch_size=batch_size,
        **fields,
    )


def pipelines(
    sources: Mapping[str, Source],
    classes: tuple[str, ...],
    *,
    before: tuple[Any, ...] = (),
    augment: tuple[Any, ...] = (),
    normalise: Any = None,
    batch_size: int,
    eval_batch_size: int = 200,
    seed: int = 0,
    hold: bool = False,
) -> ImageData:
    """`before` decodes every picture, `augment` changes those of training, `normalise` comes last.

    Features that were computed before need none of these. With `hold`, small pictures stay in memory once they are
    decoded, 43 MB of Fashion-MNIST's and 154 MB of CIFAR-10's: each is read many times."""
    after = (Keep(keys=("image", "label")), CheckLabels(num_classes=len(classes)))
    after = after if normalise is None else (normalise, *after)
    if hold:
        sources = {split: Held(source, before) for split, source in sources.items()}

    def pipeline(split: str) -> Pipeline:
        train = split == "train"
        return Pipeline(
            source=sources[split],
            transforms=(*before, *(augment if train else ()), *after),
            batch_size=batch_size if train else eval_batch_size,
            train=train,
            seed=seed,
            num_workers=1,  # the next batch is made while the device works on this one
        )

    return ImageData(
        classes=classes,
        train=pipeline("train"),
        held_out={split: pipeline(split) for split in sources if split != "train"},
    )


def _splits(name: str, train: str, config: str | None = None) -> dict[str, Source]:
    """Without a validation set where its pictures are trained on."""
    named = {"train": train, "validation": "validation", "test": "test"}
    if "validation" in train:
        named.pop("validation")
    return {key: Tfds(name, split, config=config) for key, split in named.items()}
