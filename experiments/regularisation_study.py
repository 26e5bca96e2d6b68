"""What works against overfitting: Fashion-MNIST with 1,000 labelled pictures, about 100 of each class.

    python -m experiments.regularisation_study all --workdir runs/regularisation --seeds 0,1,2
    python -m experiments.regularisation_study mixup train --workdir runs/mixup
    python -m experiments.regularisation_study plain train --task.mixing.mixup 0.4 --workdir runs/mixup

The first command makes all runs, one after another, goes on where it was stopped, and writes experiments/results/
regularisation_study.md and .png; the other two are one and the same run. `plain` has every switch off; each other
function differs from it in what OVERRIDES says, and `everything` has them all.

A ResNet of 10 layers (171,000 parameters), 1,000 steps of 50 pictures, momentum, a cosine and weight decay in all of
them. Numbers are of the 10,000 test pictures at the last step; only where early stopping is on do 1,000 pictures of
validation choose the step. No strength was tuned: they are those of the papers, crop and magnitude for 28 pixels.

crop               shifted by up to two pixels          He et al. 2016
flip               mirrored                             Krizhevsky et al. 2012
colour             brightness and contrast +- 40 %      Krizhevsky et al. 2012; grey pictures have no saturation
rand_augment       2 of 14 changes, magnitude 5         Cubuk et al. 2020, arXiv 1909.13719
erasing            a random box, 0.5                    Zhong et al. 2020, arXiv 1708.04896
mixup              Beta(0.4, 0.4)                       Zhang et al. 2018, arXiv 1710.09412
cutmix             Beta(1, 1)                           Yun et al. 2019, arXiv 1905.04899
smoothing          0.1                                  Szegedy et al. 2016, arXiv 1512.00567
stochastic_depth   up to 0.2                            Huang et al. 2016, arXiv 1603.09382
ema                0.99 of the parameters               Polyak and Juditsky 1992
early_stopping     validation every 100 steps, 3 times without a gain
"""

import sys

from experiments import image_data
from experiments.resnet_cifar import tiny
from experiments.studies import main
from vlm_jax import config
from vlm_jax.data.augmentation import ColourJitter, RandAugment, RandomErasing
from vlm_jax.data.image_transforms import HorizontalFlip, RandomCrop
from vlm_jax.data.sampling import First
from vlm_jax.layers.pooling import pool
from vlm_jax.models.classifier import Classifier
from vlm_jax.report.classes import ClassReport
from vlm_jax.tasks.classification import Classification
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.train.optimizers import Sgd, WarmupCosine
from vlm_jax.vision import resnet

CITATION = "the papers of the methods"
PAPER = {}
NUM_TRAIN, BATCH_SIZE, NUM_STEPS = 1_000, 50, 1_000
OVERRIDES = {
    "crop": {"train_data.transforms.1.padding": 2},
    "flip": {"train_data.transforms.2.rate": 0.5},
    "colour": {
        "train_data.transforms.3.brightness": 0.4,
        "train_data.transforms.3.contrast": 0.4,
    },
    "rand_augment": {"train_data.transforms.4.num_ops": 2},
    "erasing": {"train_data.transforms.5.rate": 0.5},
    "mixup": {"task.mixing.mixup": 0.4},
    "cutmix": {"task.mixing.cutmix": 1.0},
    "smoothing": {"task.label_smoothing": 0.1},
    "stochastic_depth": {"model.image_encoder.drop_path_rate": 0.2},
    "ema": {"optimizer.ema_decay": 0.99},
    "early_stopping": {
        "best": Best(metric="validation/accuracy", patience=3),
        "evaluations.0.every": 100,
    },
}


def plain() -> Experiment:
    """Every switch off."""
    data = image_data.fashion_mnist(batch_size=BATCH_SIZE, augment=switched_off(28))
    return study(data.training_on(First(data.train.source, NUM_TRAIN)))


def crop() -> Experiment:
    """Shifted by up to two pixels."""
    return with_switches("crop")


def flip() -> Experiment:
    """Mirrored or not."""
    return with_switches("flip")


def colour() -> Experiment:
    """Other brightness and contrast."""
    return with_switches("colour")


def rand_augment() -> Experiment:
    """Two of fourteen changes."""
    return with_switches("rand_augment")


def erasing() -> Experiment:
    """A random box in half of the pictures."""
    return with_switches("erasing")


def mixup() -> Experiment:
    """Two pictures laid over each other, and their labels."""
    return with_switches("mixup")


def cutmix() -> Experiment:
    """A box of another picture, and its label by the area."""
    return with_switches("cutmix")


def smoothing() -> Experiment:
    """Label smoothing."""
    return with_switches("smoothing")


def stochastic_depth() -> Experiment:
    """Blocks left out at random."""
    return with_switches("stochastic_depth")


def ema() -> Experiment:
    """Tested with a moving average of the parameters."""
    return with_switches("ema")


def early_stopping() -> Experiment:
    """The best step on validation."""
    return with_switches("early_stopping")


def everything() -> Experiment:
    """All of these at once."""
    return with_switches(*OVERRIDES)


def smoke() -> Experiment:
    """Two steps of everything, tiny: how many shapes a picture made here shows."""
    data = image_data.scenes(batch_size=4, size=64, augment=switched_off(64))
    return tiny(switched(study(data, width=4), *OVERRIDES))


def with_switches(*names: str) -> Experiment:
    return switched(plain(), *names)


def switched(experiment: Experiment, *names: str) -> Experiment:
    """The experiment with the overrides of these names."""
    for name in names:
        experiment = config.override(experiment, OVERRIDES[name])
    return experiment


def switched_off(size: int) -> tuple:
    """Every augmentation with a strength of zero."""
    return (
        RandomCrop(size=size, padding=0),
        HorizontalFlip(rate=0.0),
        ColourJitter(brightness=0.0, contrast=0.0, saturation=0.0),
        RandAugment(num_ops=0),
        RandomErasing(rate=0.0),
    )


def study(data: image_data.ImageData, *, width: int = 32) -> Experiment:
    """A small ResNet with nothing against overfitting but weight decay."""
    network = resnet.ResNet(
        block=resnet.BasicBlock,
        stage_sizes=(2, 2),
        widths=(width, 2 * width),
        stem=resnet.ImageNetStem,
        shortcut=resnet.ProjectionShortcut,
    )
    validation, test = data.evaluations(every=None, reports=(ClassReport,))
    some = First(validation.data.source, NUM_TRAIN)
    return Experiment(
        model=Classifier(num_classes=len(data.classes), image_encoder=network, pooling=pool),
        task=Classification(classes=data.classes),
        train_data=data.train,
        num_steps=NUM_STEPS,
        optimizer=Sgd(
            learning_rate=WarmupCosine(peak=0.05, warmup_steps=50, num_steps=NUM_STEPS),
            momentum=0.9,
            nesterov=True,
            weight_decay=5e-4,
        ),
        evaluations=(config.override(validation, {"data.source": some, "reports": ()}), test),
        log_every=100,
        checkpoint_every=NUM_STEPS,
        keep_checkpoints=1,
    )


TITLE = "Fashion-MNIST with 1,000 labels"

if __name__ == "__main__":
    sys.exit(
        main(
            plain,
            crop,
            flip,
            colour,
            rand_augment,
            erasing,
            mixup,
            cutmix,
            smoothing,
            stochastic_depth,
            ema,
            early_stopping,
            everything,
            smoke,
            metric="accuracy",
            title=TITLE,
        )
    )
