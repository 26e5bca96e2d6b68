"""Finding the text of a picture and the picture of a text among all of a split."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vlm_jax.metrics.base import Stats

AT_ONCE = 512  # queries whose scores are held at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs(Stats):
    """Everything that was embedded: a rank is known only when the last candidate is there."""

    records: tuple[tuple[int, bytes, bytes], ...]  # (picture's id, its vector, the text's vector)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Recall at 1, 5 and 10 times 100 and the median rank, picture to text and text to picture, of (picture, text)
    pairs: `image_to_text_r1` ... `text_to_image_median_rank`, and `mean_recall`, the mean of the six recalls.

    A prediction is the vectors (image, text) of a pair, float32 [d] each; the reference is the picture's id, by which
    pairs belong to one picture. Scores are the products of the vectors. The rank of a picture's best text counts (any
    of five captions), and its other texts do not stand in the way (Karpathy and Fei-Fei 2015, section 4.2). Whatever
    has the same score as what is right, but for what float32 rounds away, comes before it, and nan comes before everything
    but itself: an untrained model that gives all the same score finds nothing.
    """

    recalls: tuple[int, ...] = (1, 5, 10)
    reference: str = "id"

    def stats(self, prediction: Any, references: Sequence[int]) -> Pairs:
        image, text = (np.asarray(vector, np.float32).tobytes() for vector in prediction)
        return Pairs(records=((int(references[0]), image, text),))

    def result(self, stats: Pairs) -> dict[str, float]:
        records = sorted(stats.records)  # so that the order of the data changes no bit
        first = {id: image for id, image, _ in reversed(records)}
        picture_ids, pictures = np.array([*first]), _vectors(first.values())
        text_ids, texts = np.array([r[0] for r in records]), _vectors(r[2] for r in records)
        ranks = {
            "image_to_text": ranks_of(pictures, texts, picture_ids, text_ids),
            "text_to_image": ranks_of(texts, pictures, text_ids, picture_ids),
        }
        numbers, recalls = {}, []
        for direction, found in ranks.items():
            for k in self.recalls:
                numbers[f"{direction}_r{k}"] = 100 * float((found <= k).mean())
                recalls.append(numbers[f"{direction}_r{k}"])
            numbers[f"{direction}_median_rank"] = float(np.median(found))
        return {**numbers, "mean_recall": sum(recalls) / len(recalls)}


def ranks_of(
    queries: np.ndarray, candidates: np.ndarray, query_ids: np.ndarray, candidate_ids: np.ndarray
) -> np.ndarray:
    """Int[q], the rank from 1 of the best right candidate of each query [q d] among the candidates [c d].

    Right is what has the query's id. 1 + the number of wrong candidates whose score is not less, by more than a product of d
    numbers is rounded: equal vectors in other places of a large product need not give equal scores.
    """
    return np.concatenate([*_ranks(queries, candidates, query_ids, candidate_ids)])


def _ranks(queries, candidates, query_ids, candidate_ids) -> Iterator[np.ndarray]:
    eps = float(np.finfo(np.float32).eps) * math.sqrt(queries.shape[1])
    lengths = np.linalg.norm(candidates, axis=1)
    for start in range(0, len(queries), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        scores = queries[part] @ candidates.T  # [q c]
        right = query_ids[part, None] == candidate_ids
        best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
        rounded = eps * np.linalg.norm(queries[part], axis=1, keepdims=True) * lengths
        yield 1 + (~right & ~(scores < best - rounded)).sum(axis=1)


def _vectors(each) -> np.ndarray:
    return np.stack([np.frombuffer(vector, np.float32) for vector in each])
