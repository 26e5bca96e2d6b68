"""ROUGE-1, ROUGE-2 and ROUGE-L of summaries (Lin, 2004), as the library `rouge-score` computes them.

Not metrics/rouge_l.py, which is the caption scorer's ROUGE-L: other words (PTB tokenizer, no stems) and another
F (beta 1.2, precision and recall maximised apart).
"""

import dataclasses
import functools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from vlm_jax.metrics.base import Stats, exact

TYPES = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RougeStats(Stats):
    means: tuple[
        Fraction, ...
    ]  # of F over the references, 0 to 1 each, summed over the examples, a type each
    bests: tuple[Fraction, ...]  # of the best reference, likewise
    most_references: int
    count: int

    def __add__(self, other: "RougeStats") -> "RougeStats":
        if not isinstance(other, RougeStats):
            return NotImplemented
        return RougeStats(
            means=tuple(a + b for a, b in zip(self.means, other.means, strict=True)),
            bests=tuple(a + b for a, b in zip(self.bests, other.bests, strict=True)),
            most_references=max(self.most_references, other.most_references),
            count=self.count + other.count,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rouge:
    """The mean over examples of F1 (beta 1), times 100: rouge_1, rouge_2, rouge_l.

    Words are runs of a-z and 0-9 of the lower-cased text, everything else between them dropped; those of more than
    three letters are cut to their Porter stem where `stemmer`. Of several references it is the mean over them, and,
    under rouge_1_best and so on, the F1 of the best one. `prefix` tells two of these metrics in one task apart.

    The published numbers for AESLC that we compare with (Zhang et al. 2020, arXiv 1912.08777, table 1, where that
    of Zhang and Tetreault 2019 is quoted) are of one reference, the subject that the e-mail had: their data set,
    TFDS's `aeslc`, has no other. Their code calls this library with the stemmer.
    """

    reference: str = "subject"
    stemmer: bool = True
    prefix: str = ""

    def stats(self, prediction: str, references: Sequence[str]) -> RougeStats:
        if isinstance(references, str) or not references:
            raise ValueError(
                f"Rouge got references {references!r} for the prediction {prediction[:60]!r}; expected a sequence "
                "of at least one text"
            )
        scores = [_scorer(self.stemmer).score(text, prediction) for text in references]
        values = [[exact(score[name].fmeasure) for score in scores] for name in TYPES]
        return RougeStats(
            means=tuple(sum(of_type) / len(of_type) for of_type in values),
            bests=tuple(max(of_type) for of_type in values),
            most_references=len(references),
            count=1,
        )

    def result(self, stats: RougeStats) -> dict[str, float]:
        def of(totals, ending=""):
            values = (float(100 * total / stats.count) for total in totals)
            return {f"{self.prefix}{name}{ending}": v for name, v in zip(TYPES.values(), values)}

        several = of(stats.bests, "_best") if stats.most_references > 1 else {}
        return of(stats.means) | several

    def signature(self) -> str:
        """What a number of this metric depends on besides the texts."""
        from importlib.metadata import version

        stems = "porter" if self.stemmer else "none"
        return f"rouge|f1|tokeniser:a-z0-9-lowercase|stems:{stems}|rouge-score:{version('rouge-score')}"


@functools.cache
def _scorer(stemmer: bool) -> Any:
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(list(TYPES), use_stemmer=stemmer)
