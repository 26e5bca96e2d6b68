"""Distinct n-grams (Li et al., 2016, arXiv 1510.03055): does the model say one thing only?"""

import dataclasses
from collections import Counter
from collections.abc import Sequence

from vlm_jax.metrics.base import Stats
from vlm_jax.metrics.words import WordMetric, count_ngrams, split_words


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistinctStats(Stats):
    ngrams: Counter  # over all predictions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distinct(WordMetric):
    """Different n-grams over all n-grams of all predictions, times 100. References are not read.

    It falls as the corpus grows: compare corpora of one size only.
    """

    max_order: int = 2

    def stats_of_words(self, words: list[str], references: Sequence[list[str]]) -> DistinctStats:
        return DistinctStats(ngrams=count_ngrams(split_words(words), self.max_order))

    def result(self, stats: DistinctStats) -> dict[str, float]:
        different: Counter = Counter(len(gram) for gram in stats.ngrams)
        every: Counter = Counter()
        for gram, count in stats.ngrams.items():
            every[len(gram)] += count
        orders = range(1, self.max_order + 1)
        return {f"distinct_{n}": 100 * different[n] / max(1, every[n]) for n in orders}
