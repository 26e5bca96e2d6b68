"""Where a decoder looked: its attention weights over the picture, one map a word."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

DIM = 0.25  # the brightness that is left where the attention is zero


class NotAMap(ValueError):
    """Weights that cannot be laid over a picture."""


def overlay(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`image` uint8 [h w 3] with its brightness scaled by `weights` [n] or [gh gw], smoothly enlarged.

    The largest weight of the map leaves the picture as it is, zero leaves a quarter of the brightness. Weights [n]
    are a row-major grid: a square, or the one with the picture's proportions (within a factor of 1.5).
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"the image is {image.dtype} {image.shape}, expected uint8 [h w 3]")
    height, width = image.shape[:2]
    relative = enlarged(as_grid(weights, height, width), height, width)
    return np.round(image * (DIM + (1 - DIM) * relative[:, :, None])).astype(np.uint8)


def attention_sheet(
    image: np.ndarray, words: Sequence[str], weights: np.ndarray, path: str | os.PathLike
) -> None:
    """Writes a PNG: the picture, then its `overlay` for each word. `weights` is [l n] or [l gh gw]."""
    from matplotlib.figure import Figure

    weights = np.asarray(weights)
    if len(words) != len(weights):
        raise ValueError(f"{len(words)} words but {len(weights)} maps; expected one map a word")
    height, width = image.shape[:2]
    columns = min(6, len(words) + 1)
    rows = -(-(len(words) + 1) // columns)
    side = 2.2
    figure = Figure(figsize=(side * columns, (side * height / width + 0.35) * rows), dpi=110)
    figure.set_layout_engine("tight")
    shown = [("", image), *((word, overlay(image, one)) for word, one in zip(words, weights))]
    for index, (word, picture) in enumerate(shown):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(picture)
        axes.set_axis_off()
        axes.set_title(printable(word, 30), fontsize=12, parse_math=False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")


def read_image(image: Any) -> np.ndarray:
    """uint8 [h w 3], upright, of a path, of encoded bytes, or of an array that is one already."""
    import io

    from PIL import Image, ImageOps

    if isinstance(image, np.ndarray):
        if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
            image = np.repeat(image.reshape(*image.shape[:2], 1), 3, 2)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"given {image.dtype} {image.shape}, expected uint8 [h w 3]")
        return image
    source = io.BytesIO(image) if isinstance(image, bytes | bytearray | memoryview) else image
    with Image.open(source) as picture:
        return np.array(ImageOps.exif_transpose(picture).convert("RGB"))


def as_grid(weights: np.ndarray, height: int, width: int) -> np.ndarray:
    """Float[gh gw] of weights [n] or [gh gw], for a picture of `height` x `width`. Refuses what is no map."""
    weights = np.asarray(weights, np.float64)
    if weights.ndim == 1:
        weights = weights.reshape(_grid_of(len(weights), height, width))
    if weights.ndim != 2 or not weights.size:
        raise NotAMap(f"the weights are {weights.shape}, expected [n] or [gh gw]")
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise NotAMap("the weights are not all finite and at least 0; expected a softmax's result")
    return weights


def enlarged(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """Float[height width] in [0, 1]: the grid divided by its maximum, bicubic between cell centres."""
    from PIL import Image

    grid = grid / max(grid.max(), np.finfo(np.float64).tiny)
    small = Image.fromarray(grid.astype(np.float32))
    return np.clip(np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)), 0, 1)


def printable(text: str, limit: int) -> str:
    """`text` without control characters and lone surrogates, at most `limit` characters."""
    spaced = (" " if c.isspace() else c for c in text[: limit + 1])
    shown = "".join(c if c.isprintable() or c == "\u200d" else "\ufffd" for c in spaced)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _grid_of(n: int, height: int, width: int) -> tuple[int, int]:
    side = round(n**0.5)
    if side * side == n:
        return side, side
    pairs = [(rows, n // rows) for rows in range(1, n + 1) if n % rows == 0]
    wanted = np.log(width / height)
    rows, columns = min(pairs, key=lambda pair: abs(np.log(pair[1] / pair[0]) - wanted))
    if abs(np.log(columns / rows) - wanted) > np.log(1.5):
        raise NotAMap(
            f"{n} weights are no grid over a picture of {height} x {width}; give [gh gw], without class tokens"
        )
    return rows, columns
