"""Which objects stand where: every scene follows from (seed, split, index).

No scene of one split is in another: a checksum of the objects decides to which split they belong,
and `test_unseen` shows, in every picture, a pair of colour and shape that no other split has.
"""

import zlib

import numpy as np

from vlm_jax.text.scene_judge import PICTURE_SIZE, Scene, SceneObject
from vlm_jax.text.scene_language import COLORS, SHAPES

SPLITS = ("train", "validation", "test", "test_unseen")
HELD_OUT = (
    ("red", "cross"),
    ("orange", "square"),
    ("yellow", "star"),
    ("green", "circle"),
    ("blue", "triangle"),
    ("purple", "square"),
)  # (colour, shape), in test_unseen only
PAIRS = tuple((color, shape) for color in COLORS for shape in SHAPES)
SEEN = tuple(pair for pair in PAIRS if pair not in HELD_OUT)

MAX_OBJECTS = 4
RADII = {"small": (5, 6), "large": (9, 10, 11)}  # pixels
GAP = 3  # pixels, at the least, between the circles around two objects
STAGGER = 7  # pixels, at the least, between any two centres from left to right
TWIN_RATE = 0.25  # of the objects after the first, how many repeat the pair of an earlier one
BUCKETS = {"train": range(0, 10), "validation": range(10, 12), "test": range(12, 16)}
NUM_BUCKETS = 16


def generate(seed: int, split: str, index: int) -> Scene:
    """Scene number `index` of a split."""
    if split not in SPLITS or index < 0:
        raise ValueError(f"no scene {index} of split {split!r}; splits are {', '.join(SPLITS)}")
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    count = int(rng.integers(1, MAX_OBJECTS + 1))  # before any is refused: all are as frequent
    while True:
        objects = _objects(rng, count, unseen=split == "test_unseen")
        if objects and _belongs(objects, split):
            return Scene(objects=objects, background=int(rng.integers(2**32)))


def _objects(
    rng: np.random.Generator, count: int, *, unseen: bool
) -> tuple[SceneObject, ...] | None:
    """From left to right; None when one of them found no place."""
    objects: list[SceneObject] = []
    for i in range(count):
        if objects and rng.random() < TWIN_RATE:
            twin = objects[int(rng.integers(len(objects)))]
            color, shape = twin.color, twin.shape
        else:
            pairs = HELD_OUT if unseen and i == 0 else PAIRS if unseen else SEEN
            color, shape = pairs[int(rng.integers(len(pairs)))]
        size = ("small", "large")[int(rng.integers(2))]
        radius = RADII[size][int(rng.integers(len(RADII[size])))]
        edge = radius + 1
        for x, y in rng.integers(edge, PICTURE_SIZE - edge, (20, 2)).tolist():
            if all(_apart(x, y, radius, other) for other in objects):
                break
        else:
            return None
        objects.append(SceneObject(shape=shape, color=color, size=size, x=x, y=y, radius=radius))
    return tuple(sorted(objects, key=lambda each: each.x))


def _apart(x: int, y: int, radius: int, other: SceneObject) -> bool:
    distance = radius + other.radius + GAP
    dx, dy = x - other.x, y - other.y
    return abs(dx) >= STAGGER and dx * dx + dy * dy >= distance * distance


def _belongs(objects: tuple[SceneObject, ...], split: str) -> bool:
    if split == "test_unseen":
        return True
    text = ";".join(f"{o.color} {o.shape} {o.radius} {o.x} {o.y}" for o in objects)
    return zlib.crc32(text.encode()) % NUM_BUCKETS in BUCKETS[split]
