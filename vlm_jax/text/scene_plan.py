"""What stands where in a scene, as numbers to write before the picture."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vlm_jax.text.scene_judge import PICTURE_SIZE, Scene, SceneObject
from vlm_jax.text.scene_language import COLORS, SHAPES
from vlm_jax.text.scene_shapes import REACH
from vlm_jax.types import Array

NOTHING = 0
RADII = 16  # pixels, and none as large
GRID = 8  # cells along each side of the picture, as many as codes
CELL = PICTURE_SIZE // GRID  # pixels
PIXELS = range(PICTURE_SIZE)
FIELDS = {"color": COLORS, "shape": SHAPES, "radius": range(RADII), "x": PIXELS, "y": PIXELS}
PARTS = (COLORS, SHAPES, range(RADII), range(GRID), range(CELL), range(GRID), range(CELL))
STARTS = np.cumsum([NOTHING + 1, *map(len, PARTS)])
LARGE = 8  # pixels, the least radius of what is called large


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScenePlan:
    """The objects of a scene from left to right, seven numbers each: colour, shape, radius, the column of 8 pixels that its
    centre is in, the pixel in this column, and the row of 8 and the pixel in this; no two of these kinds share a number, and 0
    stands in the seven places of an object that is not there. After Gafni et al. 2022 (Make-A-Scene, arXiv 2203.13131),
    section 3.1, where tokens of a segmentation precede those of the picture.

    `vocab_size` numbers in all, `length` of them a scene.
    """

    num_objects: int = 4

    @property
    def vocab_size(self) -> int:
        return int(STARTS[-1])

    @property
    def length(self) -> int:
        return len(PARTS) * self.num_objects

    @property
    def num_parts(self) -> int:
        """Numbers of an object."""
        return len(PARTS)

    def encode(self, scene: Scene) -> np.ndarray:
        """Int32[length]."""
        if len(scene.objects) > self.num_objects:
            raise ValueError(
                f"a scene of {len(scene.objects)} objects, expected at most {self.num_objects}; try "
                f"ScenePlan(num_objects={len(scene.objects)})"
            )
        numbers = np.full((self.num_objects, len(PARTS)), NOTHING, np.int32)
        for row, each in zip(numbers, sorted(scene.objects, key=lambda each: each.x)):
            for name, known in FIELDS.items():
                value = getattr(each, name)
                if value not in known:
                    raise ValueError(
                        f"{name} {value!r}, expected one of {known[0]} ... {known[-1]}"
                    )
            kinds = (each.color, each.shape, each.radius)
            values = (*kinds, *divmod(each.x, CELL), *divmod(each.y, CELL))
            row[:] = [
                start + part.index(value) for start, part, value in zip(STARTS, PARTS, values)
            ]
        return numbers.ravel()

    def decode(self, numbers: Sequence[int]) -> Scene | None:
        """The scene of `length` numbers; None where they are of none, such as a shape in the place of a colour."""
        objects = []
        for row in np.reshape(numbers, (self.num_objects, len(PARTS))):
            if (row == NOTHING).all():
                continue
            places = row - STARTS[:-1]
            if not ((places >= 0) & (places < np.diff(STARTS))).all():
                return None
            color, shape, radius, column, x, line, y = (part[i] for part, i in zip(PARTS, places))
            objects.append(
                SceneObject(
                    color=color,
                    shape=shape,
                    size="large" if radius >= LARGE else "small",
                    radius=radius,
                    x=CELL * column + x,
                    y=CELL * line + y,
                )
            )
        return Scene(objects=tuple(sorted(objects, key=lambda each: each.x)))

    def reached(self, numbers: Array, grid: tuple[int, int]) -> Array:
        """Bool[b rows columns]: which cells of a grid the objects of `numbers` [b length] reach into, each as the square in
        which all its outline lies. Of numpy's arrays and of JAX's."""
        numbers = numbers.reshape(len(numbers), self.num_objects, len(PARTS))
        parts = numbers - STARTS[:-1]
        radius, column, x, line, y = (parts[..., i, None] for i in range(2, len(PARTS)))

        def along(pixel, cells):  # [b o cells]; centres are whole pixels
            size = PICTURE_SIZE / cells
            middle = (np.arange(cells) + 0.5) * size - 0.5
            return abs(middle - pixel) < radius * REACH / 100 + 0.5 + size / 2

        there = numbers[..., :1] != NOTHING
        rows = along(CELL * line + y, grid[0]) & there
        return (rows[..., None] & along(CELL * column + x, grid[1])[..., None, :]).any(axis=1)
