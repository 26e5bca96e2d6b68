"""How much of a codebook is used."""

import collections
import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from vlm_jax.metrics.base import Stats


@dataclasses.dataclass(frozen=True)
class CodeCounts(Stats):
    """How often each code is used."""

    counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeUse:
    """Of all pictures together:

    codes_used       codes of the `num_codes` that are used at all, times 100
    code_perplexity  exp of the entropy of the codes, in nats: num_codes where all are used alike, 1 where only one is
                     (van den Oord et al. 2017 call it so)
    """

    num_codes: int
    reference: str = "codes"

    def stats(self, prediction: np.ndarray, references: Sequence[np.ndarray] = ()) -> CodeCounts:
        codes, counts = np.unique(np.asarray(prediction), return_counts=True)
        if len(codes) and not (0 <= codes[0] and codes[-1] < self.num_codes):
            raise ValueError(
                f"CodeUse(num_codes={self.num_codes}) was given codes from {codes[0]} to {codes[-1]}"
            )
        return CodeCounts(collections.Counter(dict(zip(codes.tolist(), counts.tolist()))))

    def result(self, stats: CodeCounts) -> dict[str, float]:
        counts = sorted(stats.counts.values())
        whole = sum(counts)
        entropy = -math.fsum(count / whole * math.log(count / whole) for count in counts)
        return {
            "codes_used": 100.0 * len(counts) / self.num_codes,
            "code_perplexity": math.exp(entropy),
        }
