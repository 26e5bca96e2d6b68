"""Your own classes: MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381; ImageNet weights) on a folder of pictures.

    pictures/cat/01.jpg  pictures/cat/02.jpg  pictures/dog/a.png ...        a folder for each class

    python -m experiments.finetune_classifier frozen train --folder pictures --workdir runs/mine
    python -m experiments.finetune_classifier frozen predict new.jpg --workdir runs/mine

frozen   the network stays as it is and sees every picture once: its features are cached, and a linear layer learns
         from them. Minutes on two cores.
partly   the first 14 of 17 blocks stay as they are (`--optimizer.frozen`, rules that must each match a parameter).
whole    everything is trained.

The weights are the file of vlm_jax/pretrained/mobilenet.py, in $VLM_JAX_DATA/pretrained. Without folders train,
validation and test among the pictures, about 8 of 10 are trained on, 1 is for validation, which says when to stop, and
1 for the test; which one follows from a picture's name. What is found is in runs/mine/classes_test.html.

There is no number of a paper to compare with: the pictures are yours.
"""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn

from experiments import image_data
from experiments.resnet_cifar import tiny
from vlm_jax.data.datasets.class_folder import SPLITS, ClassFolder, classes_of
from vlm_jax.data.encoded import Encoded
from vlm_jax.data.image_transforms import (
    CentreCrop,
    Decode,
    HorizontalFlip,
    Normalise,
    RandomResizedCrop,
    ResizeShorter,
)
from vlm_jax.layers.pooling import pool
from vlm_jax.main import main
from vlm_jax.models.classifier import Classifier
from vlm_jax.pretrained.mobilenet import MEAN, STD, MobileNetV2Weights
from vlm_jax.report.classes import ClassReport
from vlm_jax.tasks.classification import Classification
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.train.optimizers import Adam, AdamW, Cosine, WarmupCosine
from vlm_jax.vision.mobilenet import MobileNetV2, mobilenet_v2_folded
from vlm_jax.vision.precomputed import Precomputed

CITATION = "Sandler et al. 2018"
PAPER = {}
EARLY = (r"image_encoder/stem/", r"image_encoder/block_(\d|1[0-3])/")  # of the names of parameters
NORMALISE = Normalise(mean=(MEAN,), std=(STD,))


def frozen(folder: str = "pictures", size: int = 224) -> Experiment:
    """A linear layer on cached features of the network as it is."""
    sources, classes = sources_of(folder)
    encoded = {
        split: Encoded(
            source=source,
            encoder=mobilenet_v2_folded(),
            init_params=MobileNetV2Weights(),
            transforms=(*_whole_picture(size), NORMALISE),
            pool=True,
            log1p=True,
            standardise=sources["train"],
        )
        for split, source in sources.items()
    }
    data = image_data.pipelines(encoded, classes, batch_size=64)
    model = Classifier(
        num_classes=len(classes), image_encoder=Precomputed(), pooling=pool, dropout_rate=0.2
    )
    optimizer = AdamW(learning_rate=Cosine(peak=1e-3, num_steps=1000), weight_decay=0.1)
    return classifier(model, data, optimizer, num_steps=1000)


def partly(folder: str = "pictures", size: int = 160) -> Experiment:
    """The last blocks and the linear layer are trained."""
    experiment = whole(folder, size)
    optimizer = dataclasses.replace(experiment.optimizer, frozen=EARLY)
    return dataclasses.replace(experiment, optimizer=optimizer)


def whole(folder: str = "pictures", size: int = 160) -> Experiment:
    """Everything is trained, from the weights on."""
    sources, classes = sources_of(folder)
    data = image_data.pipelines(
        sources,
        classes,
        before=(Decode(at_least=size), *_whole_picture(size)[1:]),
        augment=(RandomResizedCrop(size=size, scale=(0.35, 1.0)), HorizontalFlip()),
        normalise=NORMALISE,
        batch_size=32,
        eval_batch_size=32,
    )
    return network_classifier(
        mobilenet_v2_folded(), data, init_params=MobileNetV2Weights(scope="image_encoder")
    )


def smoke() -> Experiment:
    """Two steps, tiny, partly frozen: how many shapes a picture made here shows."""
    network = mobilenet_v2_folded(stages=((1, 4, 1, 2), (2, 4, 1, 1)), stem_width=4, width=8)
    data = image_data.scenes(batch_size=4, size=16, channels=3)
    experiment = network_classifier(network, data)
    optimizer = dataclasses.replace(
        experiment.optimizer, frozen=(r"image_encoder/(stem|block_0)/",)
    )
    return tiny(dataclasses.replace(experiment, optimizer=optimizer))


def network_classifier(
    network: MobileNetV2,
    data: image_data.ImageData,
    *,
    init_params: Callable[[Any], Any] | None = None,
    num_steps: int = 600,
) -> Experiment:
    """Adam with a small rate: the weights are good already."""
    model = Classifier(
        num_classes=len(data.classes), image_encoder=network, pooling=pool, dropout_rate=0.2
    )
    rate = WarmupCosine(peak=3e-4, warmup_steps=num_steps // 12, num_steps=num_steps)
    optimizer = Adam(learning_rate=rate, clip_norm=5.0)
    experiment = classifier(model, data, optimizer, num_steps=num_steps)
    return dataclasses.replace(experiment, init_params=init_params)


def classifier(
    model: nn.Module, data: image_data.ImageData, optimizer: Any, *, num_steps: int
) -> Experiment:
    """Validation ten times; training ends where five of them in a row bring nothing, and the best is kept."""
    every = num_steps // 10
    return Experiment(
        model=model,
        task=Classification(classes=data.classes, label_smoothing=0.1),
        train_data=data.train,
        num_steps=num_steps,
        optimizer=optimizer,
        evaluations=data.evaluations(every=every, reports=(ClassReport,)),
        best=Best(metric="validation/accuracy", patience=5),
        log_every=max(every // 4, 1),
        checkpoint_every=every,
    )


def sources_of(folder: str) -> tuple[dict[str, ClassFolder], tuple[str, ...]]:
    """The pictures by split, and the names of their classes. Where there is no such folder yet, two classes stand for
    what will be there, and training says that it is missing."""
    there = os.path.isdir(Path(folder).expanduser())
    classes = classes_of(folder) if there else ("first class", "second class")
    return {split: ClassFolder(folder, split, classes) for split in SPLITS}, classes


def _whole_picture(size: int) -> tuple[Any, ...]:
    return Decode(at_least=size), ResizeShorter(size=size), CentreCrop(size=size)


if __name__ == "__main__":
    sys.exit(main(frozen, partly, whole, smoke))
