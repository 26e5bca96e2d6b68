"""How close a picture is to another: PSNR and SSIM of uint8 pictures [h w c]."""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from vlm_jax.metrics.base import Stats, exact

PEAK = 255.0


@dataclasses.dataclass(frozen=True)
class PictureStats(Stats):
    """The sum of a number over pictures, and how many there are."""

    pictures: int = 0
    total: Fraction = Fraction(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Psnr:
    """10 log10(255^2 / mean squared error) in decibels, the mean over pictures.

    Two equal pictures, whose ratio would be infinite, count as if one of their numbers were one off.
    """

    reference: str = "picture"

    def stats(self, prediction: np.ndarray, references: Sequence[np.ndarray]) -> PictureStats:
        one, other = _pair(prediction, references)
        squared = max(float(np.square(one - other).sum()), 1.0)
        return PictureStats(1, exact(10.0 * math.log10(PEAK**2 * one.size / squared)))

    def result(self, stats: PictureStats) -> dict[str, float]:
        return {"psnr": float(stats.total / max(stats.pictures, 1))}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ssim:
    """Structural similarity (Wang et al. 2004, eq. 13), the mean over windows, channels and pictures, times 100.

    Windows are Gaussians of 11 x 11 pixels with a deviation of 1.5, all within the picture; K1 = 0.01, K2 = 0.03,
    L = 255, as in the paper. Equal pictures have 100.
    """

    reference: str = "picture"

    def stats(self, prediction: np.ndarray, references: Sequence[np.ndarray]) -> PictureStats:
        return PictureStats(1, exact(_ssim(*_pair(prediction, references))))

    def result(self, stats: PictureStats) -> dict[str, float]:
        return {"ssim": 100.0 * float(stats.total / max(stats.pictures, 1))}


def _ssim(x: np.ndarray, y: np.ndarray) -> float:
    if min(x.shape[:2]) < len(_WINDOW):
        raise ValueError(
            f"SSIM was given pictures of {x.shape[:2]}, expected at least {len(_WINDOW)} pixels a side"
        )
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x**2
    variance_y = _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast_structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float((luminance * contrast_structure).mean())


def _gaussian(size: int = 11, deviation: float = 1.5) -> np.ndarray:
    places = np.arange(size) - size // 2
    weights = np.exp(-(places**2) / (2 * deviation**2))
    return weights / weights.sum()


_WINDOW = _gaussian()


def _blur(x: np.ndarray) -> np.ndarray:
    """Weighted means over the windows that lie within x [h w c]: one axis after the other."""
    size = len(_WINDOW)
    height, width = x.shape[0] - size + 1, x.shape[1] - size + 1
    x = sum(weight * x[i : i + height] for i, weight in enumerate(_WINDOW))
    return sum(weight * x[:, i : i + width] for i, weight in enumerate(_WINDOW))


def _pair(
    prediction: np.ndarray, references: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    if len(references) != 1:
        raise ValueError(f"given {len(references)} reference pictures, expected one")
    one, other = prediction, np.asarray(references[0])
    if one.dtype != np.uint8 or other.dtype != np.uint8 or one.shape != other.shape:
        raise ValueError(
            f"given pictures {one.dtype} {one.shape} and {other.dtype} {other.shape}, expected two uint8 pictures of "
            "one shape"
        )
    return one.astype(np.float64), other.astype(np.float64)
