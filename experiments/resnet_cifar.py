"""Deep Residual Learning for Image Recognition. He et al. 2016, arXiv 1512.03385, section 4.2: CIFAR-10.

    python -m experiments.resnet_cifar resnet20 train --workdir runs/resnet20 --seed 0
    python -m experiments.resnet_cifar resnet20 evaluate --workdir runs/resnet20 --only test --step latest --record

Networks of 6 n + 2 layers with shortcuts without parameters (option A), SGD with momentum 0.9, rate 0.1 divided by
ten after 32,000 and 48,000 of 64,000 steps of 128 pictures, weight decay 1e-4, pictures shifted by up to four pixels
and mirrored. PAPER has 100 minus the errors of table 6 (for 110 layers, the best of five; their mean is 93.39). Not run
here: 64,000 steps want an accelerator. The parameters are the paper's 0.27, 0.46, 0.85 and 1.7 million.

Departures from the paper:
- section 4.2: the mean of each channel is subtracted and the deviation divided by; the paper subtracts the mean of each
  pixel. So the border of a shifted picture is black, which is not the mean.
- section 4.2: weight decay spares biases and the parameters of the norms, as everywhere in this package.
- the pictures of --config jpeg, the default, are lossy copies and are recorded as cifar10_jpeg; --config official
  reads the published ones (see vlm_jax/data/datasets/cifar10.py).
- the number is that of the last step, as in the paper, on a network that saw all 50,000 training pictures;
  --train_split train keeps 5,000 of them for validation.
"""

import dataclasses
import sys

from experiments import image_data
from vlm_jax.layers.pooling import pool
from vlm_jax.main import main
from vlm_jax.models.classifier import Classifier
from vlm_jax.report.classes import ClassReport
from vlm_jax.tasks.classification import Classification
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.optimizers import Sgd, StepDecay
from vlm_jax.vision import resnet

CITATION = "He et al. 2016"
PAPER = {
    "resnet20": {"accuracy": 91.25, "parameters": 0.27e6},
    "resnet32": {"accuracy": 92.49, "parameters": 0.46e6},
    "resnet56": {"accuracy": 93.03, "parameters": 0.85e6},
    "resnet110": {"accuracy": 93.57, "parameters": 1.7e6},
}
DROPS = (32_000, 48_000)
NUM_STEPS = 64_000


def resnet20(config: str = "jpeg", train_split: str = "train+validation") -> Experiment:
    """CIFAR-10, n = 3."""
    return classifier(resnet.cifar_resnet20(), _data(config, train_split))


def resnet32(config: str = "jpeg", train_split: str = "train+validation") -> Experiment:
    """CIFAR-10, n = 5."""
    return classifier(resnet.cifar_resnet32(), _data(config, train_split))


def resnet56(config: str = "jpeg", train_split: str = "train+validation") -> Experiment:
    """CIFAR-10, n = 9."""
    return classifier(resnet.cifar_resnet56(), _data(config, train_split))


def resnet110(config: str = "jpeg", train_split: str = "train+validation") -> Experiment:
    """CIFAR-10, n = 18: a rate of 0.01 for the first 400 steps, then 0.1."""
    experiment = classifier(resnet.cifar_resnet110(), _data(config, train_split))
    rate = StepDecay(start=0.1, boundaries=DROPS, warmup=0.01, warmup_steps=400)
    optimizer = dataclasses.replace(experiment.optimizer, learning_rate=rate)
    return dataclasses.replace(experiment, optimizer=optimizer)


def smoke() -> Experiment:
    """Two steps, tiny: how many shapes a picture made here shows."""
    data = image_data.scenes(
        batch_size=4, size=8, channels=3, augment=image_data.flip_and_shift(8, 1)
    )
    network = resnet.ResNet(
        block=resnet.BasicBlock,
        stage_sizes=(1, 1),
        widths=(4, 8),
        stem=resnet.CifarStem,
        shortcut=resnet.PaddedShortcut,
    )
    return tiny(classifier(network, data))


def classifier(
    network: resnet.ResNet,
    data: image_data.ImageData,
    *,
    num_steps: int = NUM_STEPS,
    drops: tuple[int, ...] = DROPS,
) -> Experiment:
    """He et al.'s optimizer; test and, where the pictures of validation are not trained on, validation."""
    model = Classifier(num_classes=len(data.classes), image_encoder=network, pooling=pool)
    return Experiment(
        model=model,
        task=Classification(classes=data.classes),
        train_data=data.train,
        num_steps=num_steps,
        optimizer=Sgd(
            learning_rate=StepDecay(start=0.1, boundaries=drops), momentum=0.9, weight_decay=1e-4
        ),
        evaluations=data.evaluations(every=num_steps // 16, reports=(ClassReport,)),
        log_every=200,
        checkpoint_every=2_000,
    )


def tiny(experiment: Experiment) -> Experiment:
    """Two steps and one evaluation of it."""
    few = dataclasses.replace(experiment.evaluations[0], every=None)
    return dataclasses.replace(experiment, num_steps=2, log_every=1, evaluations=(few,), best=None)


def _data(config: str, train_split: str) -> image_data.ImageData:
    return image_data.cifar10(batch_size=128, config=config, train_split=train_split)


if __name__ == "__main__":
    sys.exit(main(resnet20, resnet32, resnet56, resnet110, smoke))
