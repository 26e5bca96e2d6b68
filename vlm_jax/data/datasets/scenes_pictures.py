"""The pictures of the scenes dataset: 64 x 64 RGB, drawn with whole numbers only.

Everything is integer arithmetic (4 x 4 samples a pixel for the soft edges), so that a picture has
the same bytes on every machine.
"""

import functools

import numpy as np

from vlm_jax.text.scene_judge import PICTURE_SIZE, Scene

RGB = {
    "red": (215, 35, 40),
    "orange": (245, 135, 25),
    "yellow": (235, 210, 30),
    "green": (45, 150, 65),
    "blue": (40, 90, 215),
    "purple": (140, 55, 180),
}
# Corners in hundredths of the radius, y downwards; the circle is the only shape without any.
CORNERS = {
    "square": ((-90, -90), (90, -90), (90, 90), (-90, 90)),
    "triangle": ((0, -105), (105, 85), (-105, 85)),
    "cross": (
        *((-35, -100), (35, -100), (35, -35), (100, -35), (100, 35), (35, 35)),
        *((35, 100), (-35, 100), (-35, 35), (-100, 35), (-100, -35), (-35, -35)),
    ),
    "star": (
        *((0, -115), (27, -37), (109, -36), (44, 14), (68, 93)),
        *((0, 46), (-68, 93), (-44, 14), (-109, -36), (-27, -37)),
    ),
}
REACH = 120  # hundredths of the radius within which every corner lies, along x and along y
SAMPLES = 4  # along each side of a pixel
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


@functools.cache
def coverage(shape: str, radius: int) -> np.ndarray:
    """How many of a pixel's 16 samples the shape covers; int [s s] around the centre's pixel."""
    reach = radius * REACH // 100 + 1
    # In 1/(2 * SAMPLES) of a pixel from the centre of the middle pixel: samples are odd numbers.
    unit = 2 * SAMPLES
    line = np.arange(-reach * unit - SAMPLES + 1, reach * unit + SAMPLES, 2)
    x, y = line[None, :], line[:, None]
    if shape == "circle":
        inside = x**2 + y**2 <= (radius * unit) ** 2
    else:
        corners = [(cx * radius * unit, cy * radius * unit) for cx, cy in CORNERS[shape]]
        inside = _inside(x * 100, y * 100, corners)
    size = 2 * reach + 1
    return inside.reshape(size, SAMPLES, size, SAMPLES).sum((1, 3))  # [s s]


def _inside(x: np.ndarray, y: np.ndarray, corners: list[tuple[int, int]]) -> np.ndarray:
    """Which points lie in the polygon: a ray to the right crosses its sides an odd number of times."""
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1]):
        straddles = (ay > y) != (by > y)
        side = (x - ax) * (by - ay) - (bx - ax) * (y - ay)
        inside ^= straddles & ((side < 0) == (by > ay))
    return inside
