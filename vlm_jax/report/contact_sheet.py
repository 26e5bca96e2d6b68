"""A contact sheet: many pictures of one size in a PNG, as sharp as they are, each marked as right or wrong if that is known."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vlm_jax.report.attention import printable

SIDE = 160  # pixels, at least, of an enlarged picture
GAP, FRAME = 12, 4
PAPER, INK, SOFT = (250, 249, 246), (29, 31, 35), (120, 124, 130)
RIGHT, WRONG = (47, 125, 79), (196, 64, 40)


def write_sheet(
    path: str | os.PathLike,
    pictures: np.ndarray,
    title: str = "",
    *,
    columns: int | None = None,
    right: Sequence[bool] | None = None,
    below: Sequence[str] | None = None,
) -> None:
    """Writes the PNG. `pictures` uint8 [n h w 1 or 3], row by row; `right`, where it is known of each, gives it a green or
    a red frame. `below` has a line for each picture."""
    from PIL import Image, ImageDraw, ImageFont

    pictures = in_colour(pictures)
    count, height, width, _ = pictures.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    factor = max(1, -(-SIDE // max(height, width)))
    high, wide = height * factor, width * factor
    font, small = ImageFont.load_default(18), ImageFont.load_default(13)
    letters = columns * (wide + GAP) // 10  # that fit into a line
    head = textwrap.wrap(printable(title, 400), letters)
    top = GAP + 24 * len(head) + FRAME
    step = high + GAP + 18 * (below is not None)
    lines = -(-count // columns)
    sheet = Image.new("RGB", (GAP + columns * (wide + GAP), top + lines * step + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(head):
        draw.text((GAP, GAP + 24 * number), line, INK, font)
    for index, picture in enumerate(pictures):
        line, column = divmod(index, columns)
        x, y = GAP + column * (wide + GAP), top + line * step
        if right is not None:
            box = (x - FRAME, y - FRAME, x + wide + FRAME - 1, y + high + FRAME - 1)
            draw.rectangle(box, RIGHT if right[index] else WRONG)
        enlarged = picture.repeat(factor, 0).repeat(factor, 1)
        sheet.paste(Image.fromarray(enlarged), (x, y))
        if below is not None:
            draw.text((x, y + high + FRAME), printable(below[index], wide // 7), SOFT, small)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    sheet.save(part, "PNG")
    os.replace(part, path)


def in_colour(pictures: np.ndarray) -> np.ndarray:
    """[n h w 3] of pictures [n h w 1 or 3]."""
    pictures = np.asarray(pictures)
    if pictures.ndim != 4 or pictures.dtype != np.uint8 or pictures.shape[3] not in (1, 3):
        raise ValueError(
            f"given pictures {pictures.dtype} {pictures.shape}, expected uint8 [n h w 1 or 3]"
        )
    return pictures if pictures.shape[3] == 3 else pictures.repeat(3, 3)
