"""The pictures of the scenes dataset: 64 x 64 RGB, drawn with whole numbers only.

Everything is integer arithmetic (4 x 4 samples a pixel for the soft edges), so that a picture has
the same bytes on every machine.
"""

import numpy as np

from vlm_jax.text.scene_judge import PICTURE_SIZE, Scene
from vlm_jax.text.scene_shapes import RGB, SAMPLES, coverage

GRID = 8  # pixels between the nodes of the background's noise


def render(scene: Scene) -> np.ndarray:
    """The picture, uint8 [64 64 3]."""
    rng = np.random.default_rng(scene.background)
    picture = _background(rng)
    for each in scene.objects:
        color = np.array(RGB[each.color]) + rng.integers(-10, 11, 3)
        mask = coverage(each.shape, each.radius)  # [s s]
        reach = mask.shape[0] // 2
        top, left = each.y - reach, each.x - reach
        rows = slice(max(top, 0), min(each.y + reach + 1, PICTURE_SIZE))
        columns = slice(max(left, 0), min(each.x + reach + 1, PICTURE_SIZE))
        part = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        part = part[..., None]
        full = SAMPLES**2
        picture[rows, columns] = (
            picture[rows, columns] * (full - part) + color * part + full // 2
        ) // full
    return np.clip(picture, 0, 255).astype(np.uint8)


def _background(rng: np.random.Generator) -> np.ndarray:
    """A light grey with a tint and soft clouds, which are absent in one of four; int [64 64 3]."""
    base = int(rng.integers(185, 236)) + rng.integers(-8, 9, 3)
    strength = (0, 6, 10, 14)[int(rng.integers(4))]
    count = PICTURE_SIZE // GRID + 1
    nodes = rng.integers(-strength, strength + 1, (count, count))
    clouds = (_WEIGHTS @ nodes @ _WEIGHTS.T) // GRID**2
    return base + clouds[..., None]


def _weights() -> np.ndarray:
    """Linear interpolation from the nodes to the pixels, times GRID; int [64 9]."""
    weights = np.zeros((PICTURE_SIZE, PICTURE_SIZE // GRID + 1), np.int64)
    for pixel in range(PICTURE_SIZE):
        node, rest = divmod(pixel, GRID)
        weights[pixel, node], weights[pixel, node + 1] = GRID - rest, rest
    return weights


_WEIGHTS = _weights()
