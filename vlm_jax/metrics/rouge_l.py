"""ROUGE-L (Lin, 2004), as the COCO caption scorer computes it."""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction

from vlm_jax.metrics.base import Stats, exact
from vlm_jax.metrics.words import WordMetric

BETA = 1.2  # recall weighs beta^2 times as much as precision


@dataclasses.dataclass(frozen=True, kw_only=True)
class RougeLStats(Stats):
    total: Fraction  # of the examples' scores, 0 to 1 each
    count: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class RougeL(WordMetric):
    """The mean over examples of F(best precision, best recall), times 100.

    Precision and recall of the longest common subsequence are maximised separately, each over all
    references: the official departure from Lin's F of the best reference.
    """

    def stats_of_words(self, words: list[str], references: Sequence[list[str]]) -> RougeLStats:
        words = words or [""]  # officially a text of no words is one empty word
        common = [(common_subsequence(words, r or [""]), len(r or [""])) for r in references]
        precision = max(length for length, _ in common) / len(words)
        recall = max(length / size for length, size in common)
        value = 0.0
        if precision and recall:
            value = (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
        return RougeLStats(total=exact(value), count=1)

    def result(self, stats: RougeLStats) -> dict[str, float]:
        return {"rouge_l": float(100 * stats.total / stats.count)}


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    One column of the usual table at a time, as the bits of an integer (Hyyro, 2004): a zero bit i
    says that the length grows at first[i].
    """
    places: dict[str, int] = {}
    for i, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << i
    everything = (1 << len(first)) - 1
    column = everything
    for word in second:
        matches = column & places.get(word, 0)
        column = (column + matches | column - matches) & everything
    return len(first) - column.bit_count()
