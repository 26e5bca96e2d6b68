"""Data and corpus scores."""

import numpy as np

from tests.invariants import (
    data_checks,
)
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.data import (
    pipeline,
)
from vlm_jax.metrics import base as metrics

IN_ORDER = (pipeline._MakeBatch, "_in_order")
ORDER = (pipeline, "_order")
BATCHES = (pipeline.Pipeline, "batches")
GENERATOR = (pipeline, "_generator")


@bug("the last batch is dropped", "data", (pipeline.Pipeline, "num_batches"))
def _(real):
    return property(lambda self: len(self.source) // self.batch_size)


@bug("copies in the last batch are valid", "data", IN_ORDER)
def _(real):
    def in_order(self, slots):
        made = real(self, slots)
        made.batch["id"] = np.abs(made.batch["id"])
        made.batch["valid"][:] = True
        return made

    return in_order


@bug("every epoch has the same order", "data", ORDER)
def _(real):
    return lambda seed, epoch, size: real(seed, 0, size)


@bug("the seed is ignored", "data", ORDER)
def _(real):
    return lambda seed, epoch, size: real(0, epoch, size)


@bug("training is not shuffled", "data", ORDER)
def _(real):
    return lambda seed, epoch, size: np.arange(size)


@bug("drawn with replacement", "data", ORDER)
def _(real):
    return lambda seed, epoch, size: np.random.default_rng((seed, epoch)).integers(0, size, size)


@bug("resumes one batch too late", "data", BATCHES)
def _(real):
    return lambda self, position=0, **options: real(self, position + (position > 0), **options)


@bug("resumes at the batch before", "data", BATCHES)
def _(real):
    return lambda self, position=0, **options: real(self, max(position - 1, 0), **options)


@bug("all examples share their draws", "data", GENERATOR)
def _(real):
    return lambda seed, stream: real(seed, 0)


@bug("every epoch has the same draws", "data", GENERATOR)
def _(real):
    return lambda seed, stream: real(seed, stream & ((1 << 40) - 1))


@bug("all hosts read the same rows", "data", BATCHES)
def _(real):
    return lambda self, position=0, shard=(0, 1): real(self, position, shard=(0, shard[1]))


@bug("the corpus score is that of the last batch", "data", (metrics, "total"))
def _(real):
    return lambda stats: list(stats)[-1]


ROOMS = {"data": Room(data_checks.CHECKS)}
