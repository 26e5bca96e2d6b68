"""How many predictions were not in the training captions word for word."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from vlm_jax.metrics.base import Stats
from vlm_jax.metrics.words import WordMetric


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoveltyStats(Stats):
    novel: int
    count: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Novelty(WordMetric):
    """`novelty`: predictions whose words are no training caption, in 100. References are not read.

    `training` is a tuple of captions, or a Source: a description with `.references`, of which
    those named `reference` are read on first use. A description keeps the configuration small.
    """

    training: Any

    def stats_of_words(self, words: list[str], references: Sequence[list[str]]) -> NoveltyStats:
        known = _known(self.training, self.reference, self.tokenize)
        return NoveltyStats(novel=int(tuple(words) not in known), count=1)

    def result(self, stats: NoveltyStats) -> dict[str, float]:
        return {"novelty": 100 * stats.novel / stats.count}


@functools.lru_cache(maxsize=4)
def _known(training: Any, reference: str, tokenize: Callable) -> frozenset[tuple[str, ...]]:
    if isinstance(training, str) or not (
        isinstance(training, tuple) or hasattr(training, "references")
    ):
        raise TypeError(
            f"Novelty.training is a {type(training).__name__}; expected a tuple of captions or a "
            "Source, whose .references hold them"
        )
    if isinstance(training, tuple):
        texts = training
    else:
        texts = [text for gold in training.references.values() for text in gold[reference]]
    return frozenset(tuple(tokenize(text)) for text in texts)
