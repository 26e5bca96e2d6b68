"""BLEU of a corpus (Papineni et al., 2002), as the COCO caption scorer computes it."""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence

from vlm_jax.metrics.base import Stats
from vlm_jax.metrics.words import WordMetric, count_ngrams, split_words

TINY, SMALL = 1e-15, 1e-9  # the official smoothing: no precision is ever 0 / 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class BleuStats(Stats):
    correct: Counter  # order -> n-grams found in a reference, clipped
    guessed: Counter  # order -> n-grams predicted
    length: int  # words predicted
    reference_length: int  # words of the references closest in length


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bleu(WordMetric):
    """BLEU-1 to BLEU-4, times 100.

    Each n-gram counts at most as often as in the reference that has it most; the brevity penalty
    compares with the reference closest in length, the shorter one of two equally close.
    """

    max_order: int = 4

    def stats_of_words(self, words: list[str], references: Sequence[list[str]]) -> BleuStats:
        words = split_words(words)
        references = [split_words(reference) for reference in references]
        most: Counter = Counter()
        for reference in references:
            most |= count_ngrams(reference, self.max_order)
        correct: Counter = Counter()
        for gram, count in count_ngrams(words, self.max_order).items():
            correct[len(gram)] += min(count, most[gram])
        orders = range(1, self.max_order + 1)
        return BleuStats(
            correct=correct,
            guessed=Counter({order: max(0, len(words) - order + 1) for order in orders}),
            length=len(words),
            reference_length=min((abs(len(r) - len(words)), len(r)) for r in references)[1],
        )

    def result(self, stats: BleuStats) -> dict[str, float]:
        ratio = (stats.length + TINY) / (stats.reference_length + SMALL)
        penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
        product, scores = 1.0, {}
        for order in range(1, self.max_order + 1):
            product *= (stats.correct[order] + TINY) / (stats.guessed[order] + SMALL)
            scores[f"bleu_{order}"] = 100 * penalty * product ** (1 / order)
        return scores
