"""WUPS: answers compared by their meaning (Malinowski and Fritz 2014, arXiv 1410.0210, section 4)."""

import dataclasses
import functools
import logging
import math
from collections.abc import Sequence
from fractions import Fraction

from vlm_jax.metrics.base import Stats, exact
from vlm_jax.text.wordnet import INSTRUCTIONS, WordNet, find_wordnet

DOWNWEIGHT = 0.1  # of a similarity below the threshold

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WupsStats(Stats):
    sums: tuple[tuple[Fraction, ...], ...]  # one a question: its score at each threshold


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wups:
    """`wups_0.9` and `wups_0.0`, times 100: the mean over questions of how well answer A and truth T cover each other,

        min( prod over a in A of max over t in T of mu(a, t), prod over t in T of max over a in A of mu(a, t) )

    Both are sets of words, separated by commas. mu is 1 of equal words; else the largest similarity of Wu and Palmer of
    a meaning of the one and a meaning of the other, times 0.1 where it is below the threshold; 0 where WordNet does not
    know a word. As in the authors' program: nouns only. At threshold 1 it would be the accuracy of whole sets.

    WordNet's files are placed by hand (text/wordnet.py). Where they are not there, no number comes out, and a warning
    says so once: not run.
    """

    reference: str = "answer"
    thresholds: tuple[float, ...] = (0.9, 0.0)

    def stats(self, prediction: str, references: Sequence[str]) -> WupsStats:
        folder = find_wordnet()
        if folder is None:
            _warn()
            return WupsStats(sums=())
        given, truth = _words(prediction), _words(references[0])
        scores = tuple(exact(_score(given, truth, t, folder)) for t in self.thresholds)
        return WupsStats(sums=(scores,))

    def result(self, stats: WupsStats) -> dict[str, float]:
        count = len(stats.sums)
        return {
            f"wups_{threshold}": float(100 * sum(column) / count)
            for threshold, column in zip(self.thresholds, zip(*stats.sums))
        }


def _words(answer: str) -> tuple[str, ...]:
    return tuple(word for word in (part.strip() for part in answer.split(",")) if word)


@functools.lru_cache(maxsize=1 << 16)
def _score(given: tuple, truth: tuple, threshold: float, folder: str) -> float:
    if not given or not truth:
        return float(given == truth)

    def covered(these, by):
        return math.prod(max(_similarity(a, b, threshold, folder) for b in by) for a in these)

    return min(covered(given, truth), covered(truth, given))


@functools.lru_cache(maxsize=1 << 16)
def _similarity(one: str, other: str, threshold: float, folder: str) -> float:
    if one == other:
        return 1.0
    wordnet = _wordnet(folder)
    pairs = [(a, b) for a in wordnet.meanings(one) for b in wordnet.meanings(other)]
    best = max((wordnet.similarity(a, b) for a, b in pairs), default=0.0)
    return best if best >= threshold else DOWNWEIGHT * best


@functools.lru_cache(maxsize=2)
def _wordnet(folder: str) -> WordNet:
    return WordNet(folder)


@functools.cache
def _warn() -> None:
    log.warning("WUPS is not run: there is no WordNet. %s", INSTRUCTIONS)
