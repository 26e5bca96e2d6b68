"""What stands where in a scene, as numbers to write before the picture."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vlm_jax.text.scene_judge import PICTURE_SIZE, Scene, SceneObject
from vlm_jax.text.scene_language import COLORS, SHAPES

NOTHING = 0
RADII = 16  # pixels, and none as large
PARTS = (COLORS, SHAPES, range(RADII), range(PICTURE_SIZE), range(PICTURE_SIZE))
NAMES = ("color", "shape", "radius", "x", "y")
STARTS = np.cumsum([NOTHING + 1, *map(len, PARTS)])
LARGE = 8  # pixels, the least radius of what is called large


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScenePlan:
    """The objects of a scene from left to right, five numbers each: colour, shape, radius, x, y, of which no two kinds
    share a number; 0 in the five places of an object that is not there. After Gafni et al. 2022 (Make-A-Scene, arXiv
    2203.13131), section 3.1, where tokens of a segmentation precede those of the picture.

    `vocab_size` numbers in all, `length` of them a scene.
    """

    num_objects: int = 4

    @property
    def vocab_size(self) -> int:
        return int(STARTS[-1])

    @property
    def length(self) -> int:
        return len(PARTS) * self.num_objects

    def encode(self, scene: Scene) -> np.ndarray:
        """Int32[length]."""
        if len(scene.objects) > self.num_objects:
            raise ValueError(
                f"a scene of {len(scene.objects)} objects, expected at most {self.num_objects}; try "
                f"ScenePlan(num_objects={len(scene.objects)})"
            )
        numbers = np.full((self.num_objects, len(PARTS)), NOTHING, np.int32)
        for row, each in zip(numbers, sorted(scene.objects, key=lambda each: each.x)):
            for i, (name, part) in enumerate(zip(NAMES, PARTS)):
                value = getattr(each, name)
                if value not in part:
                    raise ValueError(f"{name} {value!r}, expected one of {part[0]} ... {part[-1]}")
                row[i] = STARTS[i] + part.index(value)
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
            color, shape, radius, x, y = (part[i] for part, i in zip(PARTS, places))
            size = "large" if radius >= LARGE else "small"
            objects.append(
                SceneObject(color=color, shape=shape, size=size, radius=radius, x=x, y=y)
            )
        return Scene(objects=tuple(sorted(objects, key=lambda each: each.x)))
