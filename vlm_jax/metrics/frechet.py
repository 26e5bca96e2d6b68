"""The Frechet distance between what was made and what is real, in the vectors of a network of the domain."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vlm_jax.metrics.base import Stats


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vectors(Stats):
    """Every vector: mean and covariance are those of all."""

    made: tuple[bytes, ...]
    real: tuple[bytes, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrechetDistance:
    """Heusel et al. 2017, arXiv 1706.08500, section 1: |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), of the means m and the
    covariances C of vectors of pictures that were made, and of real ones. 0 is best; its size is that of the vectors.

    The paper's vectors are Inception's, trained on ImageNet; here they are those of a network of the domain, so that the
    number can only be compared with others of the same network, and of as many samples (`frechet_samples`): fewer have a
    larger distance.

    A prediction is the vector of a picture, [d]; the references are vectors of real pictures, of which each is to be
    given once.
    """

    reference: str = "picture"

    def stats(self, prediction: np.ndarray, references: Sequence[np.ndarray] = ()) -> Vectors:
        return Vectors(made=(_bytes(prediction),), real=tuple(map(_bytes, references)))

    def result(self, stats: Vectors) -> dict[str, float]:
        made, real = (_matrix(sorted(vectors)) for vectors in (stats.made, stats.real))
        distance = frechet_distance(*moments(made), *moments(real))
        return {"frechet_distance": distance, "frechet_samples": float(len(made))}


def moments(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [d] and covariance [d d], divided by n - 1, of vectors [n d], in float64."""
    if len(vectors) < 2:
        raise ValueError(f"the covariance of {len(vectors)} vectors; give at least 2 pictures")
    vectors = np.asarray(vectors, np.float64)
    mean = vectors.mean(0)
    away = vectors - mean
    return mean, away.T @ away / (len(vectors) - 1)


def frechet_distance(
    mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other_covariance: np.ndarray
) -> float:
    """Between two normal distributions. With S = C^(1/2), the trace of (C C')^(1/2) is that of (S C' S)^(1/2), whose
    eigenvalues are real: no square root of a matrix that is not symmetric is taken."""
    values, columns = np.linalg.eigh(covariance)
    root = columns * np.sqrt(np.maximum(values, 0.0)) @ columns.T
    inner = np.linalg.eigvalsh(root @ other_covariance @ root)
    cross = np.sqrt(np.maximum(inner, 0.0)).sum()
    away = np.square(mean - other_mean).sum()
    distance = away + np.trace(covariance) + np.trace(other_covariance) - 2 * cross
    return max(float(distance), 0.0)


def _bytes(vector: np.ndarray) -> bytes:
    return np.asarray(vector, np.float32).tobytes()


def _matrix(vectors: Sequence[bytes]) -> np.ndarray:
    if not vectors:
        return np.zeros((0, 1))
    return np.stack([np.frombuffer(vector, np.float32) for vector in vectors])
