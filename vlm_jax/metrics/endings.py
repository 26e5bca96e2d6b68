"""How captions go wrong that are trained on a score: they stop short, or say a thing twice."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

from vlm_jax.metrics.base import Stats
from vlm_jax.metrics.words import WordMetric, split_words

# Words after which an English sentence goes on.
UNFINISHED = frozenset(
    "a an the and or but of in at with to from into onto for its his their is are as while that which who".split()
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndingStats(Stats):
    predictions: int
    unfinished: int
    repeating: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Endings(WordMetric):
    """Predictions in 100: `bad_endings`, whose last word is an article, a conjunction or the like ("a dog with a"), and
    `repeating`, which say two words in a row twice, or one word twice running. References are not read.

    People have 0.06 and 4.0 (Flickr8k, validation and test).
    """

    def stats_of_words(self, words: list[str], references: Sequence[list[str]]) -> EndingStats:
        words = split_words(words)
        pairs = list(zip(words, words[1:]))
        twice = any(a == b for a, b in pairs) or max(Counter(pairs).values(), default=0) > 1
        return EndingStats(
            predictions=1,
            unfinished=int(bool(words) and words[-1] in UNFINISHED),
            repeating=int(twice),
        )

    def result(self, stats: EndingStats) -> dict[str, float]:
        return {
            "bad_endings": 100 * stats.unfinished / stats.predictions,
            "repeating": 100 * stats.repeating / stats.predictions,
        }
