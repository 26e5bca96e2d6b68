"""The captioning scores of the official scorer in one metric."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from vlm_jax.metrics.base import Stats
from vlm_jax.metrics.bleu import Bleu
from vlm_jax.metrics.cider import Cider
from vlm_jax.metrics.meteor import Meteor
from vlm_jax.metrics.rouge_l import RougeL
from vlm_jax.metrics.words import WordMetric, tokeniser_of, version


@dataclasses.dataclass(frozen=True)
class Parts(Stats):
    """One statistics for each metric of the bundle."""

    parts: tuple[Any, ...]

    def __add__(self, other: "Parts") -> "Parts":
        if not isinstance(other, Parts):
            return NotImplemented
        return Parts(tuple(a + b for a, b in zip(self.parts, other.parts, strict=True)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionMetrics(WordMetric):
    """BLEU-1 to BLEU-4, ROUGE-L and CIDEr, times 100; every text is tokenised once for all.

    Other word metrics join by `metrics=(*CaptionMetrics().metrics, Distinct())`; their own `tokenize` is not
    used. `meteor` adds METEOR, which takes Java and a few seconds: `evaluate --task.metrics.0.meteor true`.
    """

    metrics: tuple[WordMetric, ...] = (Bleu(), RougeL(), Cider())
    meteor: bool = False

    @property
    def parts(self) -> tuple[WordMetric, ...]:
        return (*self.metrics, Meteor()) if self.meteor else self.metrics

    def stats_of_words(self, words: list[str], references: Sequence[list[str]]) -> Parts:
        return Parts(tuple(metric.stats_of_words(words, references) for metric in self.parts))

    def result(self, stats: Parts) -> dict[str, float]:
        scores: dict[str, float] = {}
        for metric, part in zip(self.parts, stats.parts, strict=True):
            scores.update(metric.result(part))
        return scores

    def signature(self) -> str:
        names = "+".join(type(metric).__name__.lower() for metric in self.parts)
        return "|".join([names, tokeniser_of(self), version()])
