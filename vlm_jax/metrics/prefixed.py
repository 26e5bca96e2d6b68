"""A metric under other names, where one table has it twice."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from vlm_jax.metrics.base import Metric, Stats


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prefixed:
    """`metric`, with `prefix` before the name of each of its numbers: "best_of_8_" -> best_of_8_prompt_holds."""

    metric: Metric
    prefix: str

    @property
    def reference(self) -> str:
        return self.metric.reference

    def stats(self, prediction: Any, references: Sequence[Any]) -> Stats:
        return self.metric.stats(prediction, references)

    def result(self, stats: Stats) -> dict[str, float]:
        return {f"{self.prefix}{name}": x for name, x in self.metric.result(stats).items()}
