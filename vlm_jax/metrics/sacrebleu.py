"""BLEU of a corpus of translations as sacreBLEU computes it (Post 2018, arXiv 1804.08771)."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from vlm_jax.metrics.bleu import BleuStats


@dataclasses.dataclass(frozen=True, kw_only=True)
class SacreBleu:
    """BLEU, times 100, of detokenised texts: sacreBLEU cuts both sides into words itself, so nobody else must.

    `reference` names the references, of which each text has `num_references`; `tokenize` is one of sacreBLEU's
    tokenisers. The counts of n-grams and words are summed over the corpus, and the number is computed once.
    """

    reference: str
    num_references: int = 1
    tokenize: str = "13a"
    lowercase: bool = False

    def stats(self, prediction: str, references: Sequence[str]) -> BleuStats:
        if isinstance(references, str) or len(references) != self.num_references:
            raise ValueError(
                f"SacreBleu got references {references!r} for the prediction {prediction[:60]!r}; expected a sequence "
                f"of {self.num_references} texts (num_references)"
            )
        found = _scorer(self).corpus_score([prediction], [[text] for text in references])
        return BleuStats(
            correct=Counter(dict(enumerate(found.counts, 1))),
            guessed=Counter(dict(enumerate(found.totals, 1))),
            length=found.sys_len,
            reference_length=found.ref_len,
        )

    def result(self, stats: BleuStats) -> dict[str, float]:
        scorer = _scorer(self)
        orders = range(1, scorer.max_ngram_order + 1)
        found = scorer.compute_bleu(
            correct=[stats.correct[order] for order in orders],
            total=[stats.guessed[order] for order in orders],
            sys_len=stats.length,
            ref_len=stats.reference_length,
            smooth_method=scorer.smooth_method,
        )
        return {"bleu": found.score}

    def signature(self) -> str:
        """sacreBLEU's own: `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0`."""
        scorer = _scorer(self)
        scorer.num_refs = self.num_references
        return str(scorer.get_signature())


@functools.cache
def _scorer(metric: SacreBleu) -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=metric.tokenize, lowercase=metric.lowercase)
