"""CIDEr (Vedantam, Zitnick and Parikh, 2015, arXiv 1411.5726): consensus with the references.

Three numbers go by this name, and papers rarely say which:

  cider        what the official COCO scorer prints as "CIDEr", and so what nearly every captioning
               paper reports. Its code is CIDEr-D, in spite of the name.
  cider_d      what the authors' own "CIDEr-D" code prints. With document frequencies taken from
               the evaluated references (here always) it is the same number as `cider`.
  cider_plain  the paper's CIDEr, equations 1 to 3: no clipping, no penalty for length. Neither
               stems here, though the paper does. No table of captioning results means this one.

An n-gram's weight is its count times log(images / images with the n-gram in a reference), n-grams
of no reference counting as in one. On a single image all weights, and the score, are therefore 0;
and the score of a corpus is not the mean of the scores of its parts.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Sequence

from vlm_jax.metrics.base import Stats, mean_of
from vlm_jax.metrics.words import WordMetric, count_ngrams, split_words

Words = tuple[str, ...]
MAX_ORDER = 4
SIGMA = 6.0  # of the Gaussian that CIDEr-D multiplies with, in words
SCALE = 10.0  # the paper's section 7: so that CIDEr-D resembles other metrics in size


@dataclasses.dataclass(frozen=True, kw_only=True)
class CiderStats(Stats):
    examples: tuple[tuple[Words, tuple[Words, ...]], ...]  # (prediction, references) each


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cider(WordMetric):
    """`cider` and `cider_d`, times 100. See the top of the file for what they are."""

    def stats_of_words(self, words: list[str], references: Sequence[list[str]]) -> CiderStats:
        prediction = tuple(split_words(words))
        return CiderStats(
            examples=((prediction, tuple(tuple(split_words(r)) for r in references)),)
        )

    def scores(self, stats: CiderStats) -> list[float]:
        """One number an example, times 100, in the order in which their statistics were added."""
        return [100 * value for value in _scores(stats, _clipped_similarity)]

    def result(self, stats: CiderStats) -> dict[str, float]:
        value = mean_of(self.scores(stats))
        return {"cider": value, "cider_d": value}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainCider(Cider):
    """`cider_plain`, the paper's CIDEr without stemming, times 100."""

    def scores(self, stats: CiderStats) -> list[float]:
        return [100 * value for value in _scores(stats, _cosine)]

    def result(self, stats: CiderStats) -> dict[str, float]:
        return {"cider_plain": mean_of(self.scores(stats))}


@dataclasses.dataclass(frozen=True)
class Vector:
    """Weights of a text's n-grams, and for each order their Euclidean norm."""

    weights: dict[Words, float]
    norms: list[float]
    length: int  # officially the number of bigrams


class NgramWeights:
    """log(images / images with the n-gram in a reference), from the references of each image."""

    def __init__(self, images: Iterable[Iterable[Counter]]):
        documents, count = Counter(), 0
        for texts in images:
            documents.update(set().union(*texts))
            count += 1
        self.unseen = math.log(count)
        self._of = {gram: self.unseen - math.log(n) for gram, n in documents.items()}

    def vector(self, words: Sequence[str]) -> Vector:
        return self.vector_of_counts(count_ngrams(words, MAX_ORDER), len(words))

    def vector_of_counts(self, counts: Counter, length: int) -> Vector:
        of, unseen = self._of, self.unseen
        weights = {gram: n * of.get(gram, unseen) for gram, n in counts.items()}
        squares = [0.0] * MAX_ORDER
        for gram, weight in weights.items():
            squares[len(gram) - 1] += weight * weight
        return Vector(weights, [math.sqrt(value) for value in squares], max(0, length - 1))


def cider_d(prediction: Vector, references: Sequence[Vector]) -> float:
    """CIDEr-D of one text, 1.0 being what is printed as 100."""
    return _mean_similarity(prediction, references, _clipped_similarity)


def _mean_similarity(prediction: Vector, references: Sequence[Vector], similarity) -> float:
    return SCALE * sum(similarity(prediction, v) for v in references) / len(references)


def _scores(stats: CiderStats, similarity) -> list[float]:
    references = [[count_ngrams(r, MAX_ORDER) for r in texts] for _, texts in stats.examples]
    weights = NgramWeights(references)
    scores = []
    for (prediction, texts), counts in zip(stats.examples, references):
        theirs = [weights.vector_of_counts(n, len(text)) for n, text in zip(counts, texts)]
        scores.append(_mean_similarity(weights.vector(prediction), theirs, similarity))
    return scores


def _clipped_similarity(prediction: Vector, reference: Vector) -> float:
    """CIDEr-D: repeating a word gains nothing, and the lengths should agree. Mean over orders."""
    gap = prediction.length - reference.length
    penalty = math.exp(-(gap**2) / (2 * SIGMA**2))
    products = [0.0] * MAX_ORDER
    for gram, weight in prediction.weights.items():
        other = reference.weights.get(gram)
        if other is not None:
            products[len(gram) - 1] += min(weight, other) * other
    return penalty * _normalised(products, prediction, reference)


def _cosine(prediction: Vector, reference: Vector) -> float:
    """The paper's equation 2, mean over orders (equation 3)."""
    products = [0.0] * MAX_ORDER
    for gram, weight in prediction.weights.items():
        products[len(gram) - 1] += weight * reference.weights.get(gram, 0.0)
    return _normalised(products, prediction, reference)


def _normalised(products: list[float], prediction: Vector, reference: Vector) -> float:
    norms = [a * b for a, b in zip(prediction.norms, reference.norms)]
    return sum(p / norm for p, norm in zip(products, norms) if norm) / MAX_ORDER
