"""How long the predictions are, beside their references."""

import dataclasses
from collections.abc import Sequence

from vlm_jax.metrics.base import Stats
from vlm_jax.metrics.words import WordMetric, split_words


@dataclasses.dataclass(frozen=True, kw_only=True)
class LengthStats(Stats):
    words: int
    predictions: int
    reference_words: int
    references: int
    empty: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lengths(WordMetric):
    """`length` and `reference_length`, mean words a text; `empty`, predictions of no word in 100."""

    def stats_of_words(self, words: list[str], references: Sequence[list[str]]) -> LengthStats:
        length = len(split_words(words))
        return LengthStats(
            words=length,
            predictions=1,
            reference_words=sum(len(split_words(reference)) for reference in references),
            references=len(references),
            empty=int(length == 0),
        )

    def result(self, stats: LengthStats) -> dict[str, float]:
        return {
            "length": stats.words / stats.predictions,
            "reference_length": stats.reference_words / stats.references,
            "empty": 100 * stats.empty / stats.predictions,
        }
