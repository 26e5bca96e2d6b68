"""Large pictures as squares of the size that an encoder reads, and the prompt that says where each of them lies.

A 1000 x 600 picture with Tiles(size=364, longest=1456) and its prompt, where "." stands for the places of a square:

    1456 x 1092, four columns and three rows of squares, then all of it once more in 364 x 364
    <fake_token_around_image><row_1_col_1>...<fake_token_around_image><row_1_col_2>... and so on, a line for each row
    <fake_token_around_image><global-img>...<fake_token_around_image>

Laurençon et al. 2024, arXiv 2408.12637, section 3.1; Marafioti et al. 2025, arXiv 2504.05299.
"""

import dataclasses
import math

import numpy as np

from vlm_jax.data.image_transforms import Method, Resize, picture_of
from vlm_jax.data.prompted import Prompt
from vlm_jax.types import Example

MOST_PIXELS = 4096  # of a side


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tiles:
    """uint8 [h w c] -> uint8 [t*size size c], squares one below the other, and `tiles` Int32[2], the rows and columns that
    they are of the picture: (0, 0) where the picture is one square. `StackTiles` makes them an axis of their own.

    The longer side becomes `longest`, both are rounded up to whole squares, and the whole picture in one square is the
    last. Without `split` this last one is all, whatever the proportions are.
    """

    size: int
    longest: int
    method: Method = "lanczos"
    split: bool = True

    @property
    def most(self) -> tuple[int, int]:
        """The rows and columns that the `tiles` of a picture can have."""
        side = math.ceil(min(self.longest, MOST_PIXELS) / self.size) if self.split else 1
        return (0, 0) if side == 1 else (side, side)

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        height, width = self._first(*picture_of(example, self).shape[:2])
        example = self._resized(example, height, width)
        rows, columns = self._squares(height, width) if self.split else (1, 1)
        example = self._resized(example, rows * self.size, columns * self.size)
        whole = self._resized(example, self.size, self.size)["image"]
        if rows * columns == 1:
            return {**example, "image": whole, "tiles": np.zeros(2, np.int32)}
        split = example["image"].reshape(rows, self.size, columns, self.size, -1).swapaxes(1, 2)
        squares = split.reshape(rows * columns * self.size, self.size, -1)
        return {
            **example,
            "image": np.concatenate([squares, whole]),
            "tiles": np.array([rows, columns], np.int32),
        }

    def _resized(self, example: Example, height: int, width: int) -> Example:
        return Resize(size=(height, width), method=self.method)(example)

    def _first(self, height: int, width: int) -> tuple[int, int]:
        """Height and width with a longer side of `longest`; the shorter one is even."""
        ratio = width / height
        if width >= height:
            width, height = self.longest, _even(int(self.longest / ratio))
        else:
            width, height = _even(int(self.longest * ratio)), self.longest
        longest = max(height, width)
        if longest > MOST_PIXELS:
            ratio = width / height
            wide = width >= height
            width = MOST_PIXELS if wide else int(MOST_PIXELS * ratio)
            height = int(MOST_PIXELS / ratio) if wide else MOST_PIXELS
        return max(height, 1), max(width, 1)

    def _squares(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns: the longer side rounded up, then the other one, as long as it is for the proportions."""
        ratio = width / height
        if width >= height:
            columns = math.ceil(width / self.size)
            return math.ceil(int(columns * self.size / ratio) / self.size), columns
        rows = math.ceil(height / self.size)
        return rows, math.ceil(int(rows * self.size * ratio) / self.size)


def _even(n: int) -> int:
    return n + n % 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class StackTiles:
    """[t*size size c] of `tiles` -> float32 [most size size c]; squares that a picture does not have are zeros, which is how
    vision.tiled.Tiled knows them."""

    tiles: Tiles

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        image, size = picture_of(example, self), self.tiles.size
        squares = image.reshape(-1, size, size, image.shape[2]).astype(np.float32)
        missing = math.prod(self.tiles.most) + 1 - len(squares)
        return {**example, "image": np.pad(squares, ((0, missing), (0, 0), (0, 0), (0, 0)))}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TiledPrompt(Prompt):
    """A `Prompt` whose "<image>" says of each square of `example["tiles"]` where it lies; `num_images` are the places of
    one square."""

    def image_ids(self, example: Example) -> list[int]:
        return self.tokenizer.encode_special(layout(self.num_images, *map(int, example["tiles"])))


def layout(places: int, rows: int, columns: int) -> str:
    """The text that keeps so many `places` for each square of a picture, with its special tokens; (0, 0): it is one."""
    kept = "<image>" * places
    whole = f"<fake_token_around_image><global-img>{kept}<fake_token_around_image>"
    if rows * columns == 0:
        return whole
    square = f"<fake_token_around_image><row_{{}}_col_{{}}>{kept}"
    lines = (
        "".join(square.format(row, column) for column in range(1, columns + 1))
        for row in range(1, rows + 1)
    )
    return "".join(f"{line}\n" for line in lines) + f"\n{whole}"
