"""Picture -> Scene: what a picture in the manner of the scenes dataset shows, so that a prompt can be judged by it.

    judge("a red circle left of a small blue square", read_scene(picture)).right

It learns nothing. An object is found by its colour, which the grey clouds of the background have none of; what it is, by
laying the outlines that the dataset draws (scene_shapes) over the share that the object has in each pixel, in every size
and one pixel around the place that its area and centre of mass call for. What no outline fits, and what has none of the
six colours, is an object too, of the shape or colour `UNKNOWN`, which no prompt can ask for.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from vlm_jax.text.scene_judge import PICTURE_SIZE, Scene, SceneObject
from vlm_jax.text.scene_language import SHAPES
from vlm_jax.text.scene_shapes import RGB, SAMPLES, coverage

UNKNOWN = "unknown"
RADII = range(3, 15)  # pixels; those of the dataset are 5, 6 and 9 to 11
LARGE_FROM = 8
CORE = 0.6  # the share of an object in a pixel that is surely its own
MIN_CORE = 6  # such pixels; less is a speck and no object
MOST = 12  # areas that are looked at, the largest; no prompt names as many objects
WITHIN = 85.0  # levels of 255 by which a colour may be off the one that it is called
DARKER = 45.0  # than the background, or lighter: what has no colour is no cloud either
MAX_MISFIT = 0.22  # squared error of the best outline over the squared shares
SEARCH = 0.10  # a larger one may be that of two objects that touch, if together they fit
MAX_TOGETHER = 0.08  # so well
LARGEST = 1700  # pixels that four objects may cover
SIDE = 2 * (RADII[-1] * 120 // 100 + 1) + 1  # of the square in which any outline lies
SOFTNESS = (0.0, 0.7, 1.2)  # of the edge, in pixels: generated pictures may be a little blurred
NAMES = tuple(RGB)


class Outline(NamedTuple):
    """A shape of one size, around the middle of a square of SIDE pixels."""

    shape: str
    radius: int
    soft: np.ndarray  # [SIDE*SIDE softness], its share in each pixel
    squares: np.ndarray  # [1 softness], the sums of their squares
    mass: float  # in pixels
    centre: np.ndarray  # of mass, (y, x) from the middle


def read_scene(picture: np.ndarray) -> Scene:
    """The objects of a picture, uint8 [64 64 3], from left to right."""
    picture = np.asarray(picture)
    if picture.shape != (PICTURE_SIZE, PICTURE_SIZE, 3) or picture.dtype != np.uint8:
        raise ValueError(
            f"a picture of {picture.dtype} {picture.shape} is no scene, expected uint8 "
            f"[{PICTURE_SIZE} {PICTURE_SIZE} 3]"
        )
    pixels = picture.astype(np.float64)
    objects = []
    for color, core, share in _coloured(pixels):
        objects += _fitted(color, core, share)
    return Scene(objects=tuple(sorted(objects, key=lambda each: (each.x, each.y))))


# ---- by colour


def _coloured(pixels: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Of each connected area of one colour: its name, its core Bool[64 64], its share in every pixel [64 64]."""
    chroma = pixels - pixels.mean(2, keepdims=True)
    grey = np.ptp(pixels, axis=2) < 40
    background = np.median(pixels[grey] if grey.any() else pixels.reshape(-1, 3), axis=0)
    away = chroma - (background - background.mean())  # the clouds are grey: they leave no trace
    named = np.array([RGB[name] for name in NAMES]) - background
    named -= named.mean(1, keepdims=True)
    lengths = np.maximum(np.linalg.norm(named, axis=1), 1.0)
    along = away @ named.T / lengths  # [64 64 6]
    nearest = along.argmax(2)
    amount = along.max(2) / lengths[nearest]
    cores = [
        (name, core)
        for number, name in enumerate(NAMES)
        for core in connected((nearest == number) & (amount > CORE))
    ]
    cores = [(name, core) for name, core in cores if core.sum() >= MIN_CORE]
    taken = _grown([core for _, core in cores]) > 0
    brightness = np.abs(pixels.mean(2) - background.mean())
    pale = (amount > CORE / 2) | (brightness > DARKER)
    cores += [(UNKNOWN, area) for area in connected(pale & ~taken) if area.sum() >= 2 * MIN_CORE]
    cores = sorted(cores, key=lambda each: -each[1].sum())[:MOST]
    owner = _grown([core for _, core in cores])
    for number, (name, core) in enumerate(cores, 1):
        color = np.median(pixels[core], axis=0)
        if name != UNKNOWN and np.linalg.norm(color - RGB[name]) > WITHIN:
            name = UNKNOWN
        direction = np.median(away[core], axis=0)
        share = np.clip(away @ direction / max(direction @ direction, 1.0), 0.0, 1.0)
        yield name, core, np.where(owner == number, share, 0.0) if name != UNKNOWN else core * 1.0


def connected(mask: np.ndarray) -> list[np.ndarray]:
    """The areas Bool[h w] of a mask [h w] whose pixels touch, at a side or a corner."""
    height, width = mask.shape
    across = width + 1  # a column of nothing between the end of a row and the beginning of the next
    left = set(np.flatnonzero(np.pad(mask, ((0, 0), (0, 1)))).tolist())
    around = [dy * across + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    found = []
    while left:
        area, reached = [], [left.pop()]
        while reached:
            place = reached.pop()
            area.append(place)
            beside = left.intersection([place + step for step in around])
            left -= beside
            reached += beside
        flat = np.zeros(height * across, bool)
        flat[area] = True
        found.append(flat.reshape(height, across)[:, :width])
    return found


def _grown(cores: list[np.ndarray]) -> np.ndarray:
    """Whose each pixel is, Int[64 64], 0 of nobody: that of the core within two pixels, where it is the nearest."""
    owner = np.zeros((PICTURE_SIZE, PICTURE_SIZE), int)
    for number, core in enumerate(cores, 1):
        owner[core] = number
    for _ in range(2):
        padded, grown = np.pad(owner, 1), owner.copy()
        for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2), (0, 0), (0, 2), (2, 0), (2, 2)):
            beside = padded[dy : dy + PICTURE_SIZE, dx : dx + PICTURE_SIZE]
            grown = np.where(grown == 0, beside, grown)
        owner = grown
    return owner


# ---- by shape


def _fitted(color: str, core: np.ndarray, share: np.ndarray) -> list[SceneObject]:
    """The object whose outline fits the share; several, where they touch; one of an unknown shape, where none does."""
    misfit, best = _near_its_place(share)
    found = [best]
    if misfit > SEARCH and core.sum() < LARGEST:
        together, several = _one_after_another(share)
        if together < min(misfit, MAX_TOGETHER):
            misfit, found = together, several
    if misfit > MAX_MISFIT:
        y, x = (int(round(float(each.mean()))) for each in np.nonzero(core))
        radius = max(int(round(float(np.sqrt(core.sum() / np.pi)))), 1)
        found = [(UNKNOWN, radius, y, x)]
    return [
        SceneObject(
            shape=shape,
            color=color,
            size="large" if radius >= LARGE_FROM else "small",
            x=x,
            y=y,
            radius=radius,
        )
        for shape, radius, y, x in found
    ]


_Placed = tuple[str, int, int, int]  # shape, radius, y, x


def _near_its_place(share: np.ndarray) -> tuple[float, _Placed]:
    """The misfit of the best outline, and that outline: where its area and its centre of mass call for it."""
    mass, square, lines = share.sum(), (share**2).sum(), np.arange(PICTURE_SIZE)
    centre = np.array([share.sum(1) @ lines, share.sum(0) @ lines]) / mass
    windows = _windows(share)
    best = (np.inf, ("circle", RADII[0], 0, 0))
    for shape in SHAPES:
        sizes = [_outline(shape, radius) for radius in RADII]
        nearest = int(np.argmin([abs(each.mass - mass) for each in sizes]))
        for each in sizes[max(nearest - 1, 0) : nearest + 2]:
            y, x = (int(at) for at in np.round(centre - each.centre).clip(1, PICTURE_SIZE - 2))
            part = windows[y - 1 : y + 2, x - 1 : x + 2].reshape(9, -1)  # one pixel around
            errors = square + (each.squares - 2 * part @ each.soft).min(1)  # of 9 places
            least = int(errors.argmin())
            place = (shape, each.radius, y + least // 3 - 1, x + least % 3 - 1)
            best = min(best, (float(errors[least] / square), place))
    return best


def _one_after_another(share: np.ndarray) -> tuple[float, list[_Placed]]:
    """Up to four outlines anywhere, each the one that explains most of what those before it left."""
    outlines = [_outline(shape, radius) for shape in SHAPES for radius in RADII]
    flat = np.stack([each.soft[:, 0] for each in outlines], axis=1)  # [SIDE*SIDE outlines]
    cost = np.array([each.squares[0, 0] for each in outlines])
    left, found = share.copy(), []
    ys, xs = np.nonzero(share > CORE)
    for _ in range(4):
        gain = 2 * _windows(left)[ys, xs].reshape(len(ys), -1) @ flat - cost
        place, number = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[place, number] < 0.08 * (share**2).sum():
            break
        best = outlines[number]
        found.append((best.shape, best.radius, int(ys[place]), int(xs[place])))
        left = np.clip(left - _laid(best, ys[place], xs[place]), 0.0, 1.0)
    total = sum(_laid(_outline(shape, radius), y, x) for shape, radius, y, x in found)
    misfit = ((share - np.clip(total, 0, 1)) ** 2).sum() / (share**2).sum()
    return float(misfit), found


def _windows(share: np.ndarray) -> np.ndarray:
    """[64 64 SIDE SIDE], the surroundings of every pixel; a view."""
    padded = np.pad(share, SIDE // 2)
    return np.lib.stride_tricks.sliding_window_view(padded, (SIDE, SIDE))


def _laid(outline: Outline, y: int, x: int) -> np.ndarray:
    """The outline around (y, x) in a picture, [64 64]."""
    half = SIDE // 2
    picture = np.zeros((PICTURE_SIZE + 2 * half, PICTURE_SIZE + 2 * half))
    picture[y : y + SIDE, x : x + SIDE] = outline.soft[:, 0].reshape(SIDE, SIDE)
    return picture[half:-half, half:-half]


@functools.cache
def _outline(shape: str, radius: int) -> Outline:
    part = coverage(shape, radius) / SAMPLES**2
    sharp = np.pad(part, (SIDE - len(part)) // 2)
    soft = np.stack([_blurred(sharp, sigma).ravel() for sigma in SOFTNESS], axis=1)
    lines = np.arange(SIDE) - SIDE // 2
    centre = np.array([sharp.sum(1) @ lines, sharp.sum(0) @ lines]) / sharp.sum()
    return Outline(shape, radius, soft, (soft**2).sum(0)[None], float(sharp.sum()), centre)


def _blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """With a Gaussian of so many pixels; [h w]."""
    if not sigma:
        return picture
    weights = np.exp(-0.5 * (np.arange(-3, 4) / sigma) ** 2)
    for axis in (0, 1):
        moved = (np.roll(picture, step, axis) for step in range(-3, 4))
        picture = sum(w * each for w, each in zip(weights / weights.sum(), moved))
    return picture
