"""Spearman's rank correlation: how well scores of pairs of words agree with people's."""

import dataclasses
import math
from collections.abc import Sequence

from vlm_jax.metrics.base import Stats, mean_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairStats(Stats):
    pairs: tuple[tuple[float, float], ...]  # (predicted, gold) of the covered examples
    examples: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spearman:
    """`spearman`, rho times 100, over the examples that have a prediction, and `coverage`, their share times 100.

    A prediction of None is a pair with a word that is not known. Equal values share the mean of their ranks; rho is
    the Pearson correlation of the ranks, nan where all predictions or all gold scores are equal.
    """

    reference: str = "score"

    def stats(self, prediction: float | None, references: Sequence[float]) -> PairStats:
        pairs = () if prediction is None else ((float(prediction), float(references[0])),)
        return PairStats(pairs=pairs, examples=1)

    def result(self, stats: PairStats) -> dict[str, float]:
        predicted, gold = zip(*stats.pairs) if stats.pairs else ((), ())
        return {
            "spearman": 100 * correlation(ranks(predicted), ranks(gold)),
            "coverage": 100 * len(stats.pairs) / stats.examples,
        }


def ranks(values: Sequence[float]) -> list[float]:
    """1 for the smallest; equal values share the mean of their ranks: `[7, 3, 7] -> [2.5, 1, 2.5]`."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found, start = [0.0] * len(values), 0
    while start < len(order):
        stop = start
        while stop < len(order) and values[order[stop]] == values[order[start]]:
            stop += 1
        for place in order[start:stop]:
            found[place] = (start + 1 + stop) / 2
        start = stop
    return found


def correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Pearson's; nan of fewer than two values, or where one side does not vary."""
    mean_x, mean_y = mean_of(x), mean_of(y)
    covariance = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y))
    scale = math.fsum((a - mean_x) ** 2 for a in x) * math.fsum((b - mean_y) ** 2 for b in y)
    return covariance / math.sqrt(scale) if scale > 0 else math.nan
