"""Softmax against sigmoid over batch sizes, on Flickr8k: the losses of CLIP (Radford et al. 2021, arXiv 2103.00020) and
SigLIP (Zhai et al. 2023, arXiv 2303.15343).

    python -m experiments.contrastive_study all --workdir runs/contrastive_study --seeds 0,1,2
    python -m experiments.contrastive_study sigmoid_64 train --workdir runs/sigmoid_64

The first command makes all runs, one after another, goes on where it was stopped, and writes experiments/results/
contrastive_study.md and .png. The towers are those of experiments/clip.py with frozen encoders: ten epochs whatever the
batch size, the learning rate as the root of the batch size, 1e-3 at 256. The number is the mean of recall at 1, 5 and 10
both ways on the test pictures; each of the six is in the result files. Not run here.

What Zhai et al. find for pre-training on billions of pairs (section 4.2): the sigmoid is ahead in small batches, and
the two are alike in large ones. Here the largest batch has 512 of 30,000 pairs.
"""

import sys

from experiments import clip, siglip
from experiments.studies import main
from vlm_jax import config
from vlm_jax.train.experiment import Experiment

CITATION = "Zhai et al. 2023"
PAPER = {}


def softmax_64() -> Experiment:
    """Softmax, 64 pairs a batch."""
    return _softmax(64)


def softmax_128() -> Experiment:
    """Softmax, 128 pairs a batch."""
    return _softmax(128)


def softmax_256() -> Experiment:
    """Softmax, 256 pairs a batch."""
    return _softmax(256)


def softmax_512() -> Experiment:
    """Softmax, 512 pairs a batch."""
    return _softmax(512)


def sigmoid_64() -> Experiment:
    """Sigmoid, 64 pairs a batch."""
    return siglip.with_sigmoid(_softmax(64))


def sigmoid_128() -> Experiment:
    """Sigmoid, 128 pairs a batch."""
    return siglip.with_sigmoid(_softmax(128))


def sigmoid_256() -> Experiment:
    """Sigmoid, 256 pairs a batch."""
    return siglip.with_sigmoid(_softmax(256))


def sigmoid_512() -> Experiment:
    """Sigmoid, 512 pairs a batch."""
    return siglip.with_sigmoid(_softmax(512))


def smoke() -> Experiment:
    """Two steps, tiny."""
    return siglip.smoke()


def _softmax(batch_size: int) -> Experiment:
    peak = 1e-3 * (batch_size / 256) ** 0.5
    experiment = clip.frozen(batch_size)
    return config.override(experiment, {"optimizer.learning_rate.peak": peak})


TITLE = "Flickr8k, frozen encoders, ten epochs"

if __name__ == "__main__":
    sys.exit(
        main(
            softmax_64,
            softmax_128,
            softmax_256,
            softmax_512,
            sigmoid_64,
            sigmoid_128,
            sigmoid_256,
            sigmoid_512,
            smoke,
            metric="mean_recall",
            title=TITLE,
        )
    )
