"""What every metric is made of: statistics that add exactly, and the mean that lives on the device.

    stats = metric.stats(prediction, references)      one example, on the host
    metric.result(total([stats, stats, ...]))         the corpus, {"bleu_4": 19.5, ...}, times 100

A corpus number is computed once, from the summed statistics; it is never a mean over batches,
hosts or shards.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Protocol, TypeVar

import flax.struct
import jax.numpy as jnp

from vlm_jax.types import Array

S = TypeVar("S", bound="Stats")


class Stats:
    """Base of the statistics of one metric: a frozen dataclass whose fields all know `+`.

    Fields are of kinds whose sum does not depend on the order: int, Fraction (see `exact`),
    collections.Counter, tuples of per-example records (whose order the result ignores), or Stats.
    Never float: float addition depends on the order, and so on the number of hosts.
    """

    def __add__(self: S, other: S) -> S:
        if type(other) is not type(self):
            return NotImplemented
        names = [field.name for field in dataclasses.fields(self)]
        return type(self)(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def __radd__(self: S, other: Any) -> S:
        return self if other == 0 else NotImplemented  # so that the built-in sum() works


class Metric(Protocol):
    """A frozen dataclass with a field `reference: str`, the name of the references it reads."""

    reference: str

    def stats(self, prediction: str, references: Sequence[str]) -> Any: ...

    def result(self, stats: Any) -> dict[str, float]: ...


def stats_of(metric: Any, prediction: str, texts: Mapping[str, Sequence[str]]) -> Any:
    """The statistics of one example whose gold texts by name are `texts`; a metric may read more than one kind of
    them (`by`: the kind of example)."""
    if hasattr(metric, "by"):
        return metric.stats(prediction, texts[metric.reference], texts[metric.by][0])
    return metric.stats(prediction, texts[metric.reference])


def exact(value: float) -> Fraction:
    """The float as a fraction, so that sums of it are the same in any order."""
    return Fraction(value)


def mean_of(values: Sequence[float]) -> float:
    """The mean, bit-equal for every order of the values; nan of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def total(stats: Iterable[S]) -> S:
    """The sum, added in pairs: tuples of n records are copied log n times and not n times."""
    level = list(stats)
    if not level:
        raise ValueError("total() of no statistics: the evaluation saw no example")
    while len(level) > 1:
        pairs = [a + b for a, b in zip(level[::2], level[1::2])]
        level = pairs + level[len(level) - len(level) % 2 :]
    return level[0]


def score(
    metric: Metric, predictions: Mapping[Any, str], references: Mapping[Any, Sequence[str]]
) -> dict[str, float]:
    """The metric of a whole corpus, ids to texts; both must have the same ids."""
    if predictions.keys() != references.keys():
        only = sorted(map(str, predictions.keys() ^ references.keys()))
        raise ValueError(
            f"predictions and references differ in {len(only)} ids, first {only[:5]}; "
            "expected one prediction and a list of references for each id"
        )
    return metric.result(total(metric.stats(predictions[i], references[i]) for i in predictions))


@flax.struct.dataclass
class Mean:
    """A mean as its two sums, so that batches and devices add and the division happens once, last.

    Both sums are float32 whatever the values are: a bfloat16 sum stops growing at 256 ones.
    """

    total: Array  # Float[]
    count: Array  # Float[]

    @classmethod
    def of(cls, values: Array, mask: Array | None = None) -> "Mean":
        """Of values [...] where mask, broadcast to the same shape, keeps them.

        A mask of fractions weighs; masked values are not read, not even a nan.
        """
        values = jnp.asarray(values, jnp.float32)
        if mask is None:
            return cls(total=values.sum(), count=jnp.float32(values.size))
        mask = jnp.broadcast_to(jnp.asarray(mask), values.shape)
        weights = mask.astype(jnp.float32)
        return cls(total=jnp.where(weights != 0, values * weights, 0.0).sum(), count=weights.sum())

    def __add__(self, other: "Mean") -> "Mean":
        if not isinstance(other, Mean):
            return NotImplemented
        return Mean(total=self.total + other.total, count=self.count + other.count)

    def __radd__(self, other: Any) -> "Mean":
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def merge(self, other: "Mean") -> "Mean":
        """The same as `+`."""
        return self + other

    def value(self) -> Array:
        """total / count; nan when nothing was counted, with a gradient of zero and not nan."""
        kept = self.count > 0
        return jnp.where(kept, self.total / jnp.where(kept, self.count, 1.0), jnp.nan)


def percent(part: int, whole: int) -> float:
    """100 part / whole; 0 of nothing."""
    return 100.0 * part / whole if whole else 0.0
