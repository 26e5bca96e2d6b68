"""A metric for each kind of example by itself: the accuracy of every type of question."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vlm_jax.metrics.base import Metric, Stats


@dataclasses.dataclass(frozen=True, kw_only=True)
class ByKind:
    """`number` of `metric` over the examples of each kind: accuracy_count, accuracy_color ...

    An example's kind is its first text at `by`. Letters are lowered, and what is no letter or digit is "_".
    """

    metric: Metric
    by: str = "question_type"
    number: str = "accuracy"

    @property
    def reference(self) -> str:
        return self.metric.reference

    def stats(self, prediction: str, references: Sequence[str], kind: str) -> "Kinds":
        return Kinds(kinds=Sums({kind: self.metric.stats(prediction, references)}))

    def result(self, stats: "Kinds") -> dict[str, float]:
        return {
            f"{self.number}_{_as_name(kind)}": self.metric.result(each)[self.number]
            for kind, each in sorted(stats.kinds.items())
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kinds(Stats):
    kinds: "Sums"  # kind -> its statistics


class Sums(dict[str, Any]):
    """Statistics by name, which add name by name."""

    def __add__(self, other: Mapping[str, Any]) -> "Sums":
        both = self.keys() & other.keys()
        return Sums({**self, **other, **{name: self[name] + other[name] for name in both}})


def _as_name(kind: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in kind.lower())
