"""How often each class is drawn in training: `Pipeline(sampling=PowerSampling(power=0.0))`.

An epoch has as many draws as the source has examples. A class of share p has p times as many of them, rounded up or
down, and these are spread over its examples as evenly as they can be, in an order of their own every epoch.

    labels [0 0 0 0 0 0 1 1], power 0 -> [3 6 1 6 7 0 7 2]: four of each class
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from vlm_jax.data.source import Source


class Sampling(Protocol):
    """A frozen dataclass."""

    def shares(self, counts: np.ndarray, epoch: int) -> np.ndarray:
        """Float[k], of sum 1, from the number of examples of each class, Int[k]; 0 where there is none."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class PowerSampling:
    """Shares proportional to n^power (Kang et al. 2020, arXiv 1910.09217, eq. 1).

    1: every example once, 0: classes alike, 1/2: their square root.
    """

    power: float

    def shares(self, counts: np.ndarray, epoch: int) -> np.ndarray:
        return _normalised(np.where(counts > 0, np.maximum(counts, 1.0) ** self.power, 0.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgressiveSampling:
    """From every example once, in the first of `num_epochs`, towards classes alike (Kang et al. 2020, eq. 2)."""

    num_epochs: int

    def __post_init__(self):
        if self.num_epochs < 1:
            raise ValueError(
                f"ProgressiveSampling: given num_epochs {self.num_epochs}, expected at least 1"
            )

    def shares(self, counts: np.ndarray, epoch: int) -> np.ndarray:
        done = min(epoch / self.num_epochs, 1.0)
        examples, classes = (PowerSampling(power=power).shares(counts, epoch) for power in (1, 0))
        return (1.0 - done) * examples + done * classes


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightedSampling:
    """Every example as often as its class weighs in a loss: `WeightedSampling(weights=EffectiveNumber(...))`."""

    weights: Any  # with `values`, Float[k]

    def shares(self, counts: np.ndarray, epoch: int) -> np.ndarray:
        values = np.asarray(self.weights.values)
        if len(values) != len(counts):
            raise ValueError(
                f"WeightedSampling: given weights of {len(values)} classes; the labels of the source have "
                f"{len(counts)}"
            )
        return _normalised(counts * values)


def _normalised(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()


@functools.lru_cache(maxsize=8)
def labels_of(source: Source) -> np.ndarray:
    """Int[size], the label of each example. Pictures are not decoded.

    A source that knows them has them as `labels`; of another, the examples are read once, which takes seconds for some
    ten thousand.
    """
    found = getattr(source, "labels", None)
    if found is None:
        examples = (source[index] for index in range(len(source)))
        found = [_label(example, source) for example in examples]
    return np.asarray(found, np.int64)


def _label(example: Any, source: Source) -> int:
    label = example.get("label")
    if not isinstance(label, int | np.integer) or label < 0:
        raise ValueError(
            f"{source}: example id {int(example['id'])} has the label {label!r}, expected a number from 0 on; "
            f"it has {sorted(example)}"
        )
    return int(label)


def sampled_order(
    sampling: Sampling, labels: np.ndarray, epoch: int, random: Callable[[int], np.ndarray]
) -> np.ndarray:
    """Int[size], the examples of an epoch. `random(n)` gives the next n numbers of 64 random bits.

    Points at equal distances are laid over the shares of the examples, class by class, from a random start: so a
    class, and an example, has its expected number of draws, rounded up or down.
    """
    size = len(labels)
    counts = np.bincount(labels)
    each = (sampling.shares(counts, epoch) / np.maximum(counts, 1))[labels]
    by_class = np.lexsort((random(size), labels))
    ends = np.cumsum(each[by_class])
    start = (random(1)[0] >> np.uint64(11)) / 2.0**53
    points = (np.arange(size) + start) / size * ends[-1]
    drawn = by_class[np.minimum(np.searchsorted(ends, points, side="right"), size - 1)]
    return drawn[np.argsort(random(size), kind="stable")]
