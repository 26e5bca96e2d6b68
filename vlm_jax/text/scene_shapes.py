"""How the objects of the scenes dataset look: their colours, their outlines, and which pixels those cover.

The pictures are drawn with this (data.datasets.scenes_pictures), and read with it (scene_reader).
"""

import functools

import numpy as np

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
