"""Analogies: Athens is to Greece as Baghdad is to ..."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from vlm_jax.metrics.base import Stats


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalogyStats(Stats):
    right: int
    covered: int
    questions: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Analogies:
    """`analogies`, the share of right answers times 100 among the questions whose four words are all known, and
    `coverage`, the share of those. A prediction of None is a question with a word that is not known."""

    reference: str = "answer"

    def stats(self, prediction: Any | None, references: Sequence[Any]) -> AnalogyStats:
        covered = prediction is not None
        right = covered and prediction == references[0]
        return AnalogyStats(right=int(right), covered=int(covered), questions=1)

    def result(self, stats: AnalogyStats) -> dict[str, float]:
        """Without a covered question there are no right answers: 0."""
        return {
            "analogies": 100 * stats.right / max(stats.covered, 1),
            "coverage": 100 * stats.covered / stats.questions,
        }
