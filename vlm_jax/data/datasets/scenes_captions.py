"""The captions of the scenes dataset: five wordings of the same picture, all of them true.

Every caption names every object with its colour and shape, from left to right, so that what is to
be said is settled by the picture and only the wording is free. What could be doubted in the
picture (who is higher, which half an object lies in) is said only with a margin of some pixels.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from vlm_jax.text.scene_judge import MIDDLE, Scene, SceneObject, holds
from vlm_jax.text.scene_language import NUMBERS, PLACES, PLURALS

NUM_CAPTIONS = 5
MARGIN = 8  # pixels by which one object is higher, or off the middle, before a caption says so
# How often a caption begins with the thing itself and not with `there is` or the like. The plain
# list is the commonest wording: a captioner that always takes the likeliest word settles on it.
BARE_LIST, BARE_OTHER = 0.8, 0.2

T = TypeVar("T")


def captions(scene: Scene, rng: np.random.Generator) -> tuple[str, ...]:
    """Five captions of five kinds, in random order."""
    kinds = _one_object if len(scene.objects) == 1 else _several_objects
    texts = kinds(scene, rng)
    return tuple(texts[i] for i in np.argsort(rng.random(NUM_CAPTIONS), kind="stable"))


def _one_object(scene: Scene, rng: np.random.Generator) -> list[str]:
    (only,) = scene.objects
    sized, plain = noun(only, size=True), noun(only)
    place = place_of(only)
    return [
        lead(rng, BARE_LIST) + a(sized),
        pick(rng, ("there is one ", "one ", "the picture shows one ")) + sized,
        pick(rng, ("there is one object, ", "one object, ", "this is ")) + a(sized),
        f"{lead(rng, BARE_OTHER)}{a(plain)} {place}",
        f"{lead(rng, BARE_OTHER)}{a(sized)} {place}",
    ]


def _several_objects(scene: Scene, rng: np.random.Generator) -> list[str]:
    objects = scene.objects
    total = NUMBERS[len(objects)]
    names = [noun(each) for each in objects]
    sized = [noun(each, size=True) for each in objects]
    return [
        lead(rng, BARE_LIST) + enumerate_(map(a, sized)),
        pick(rng, ("from left to right, ", "left to right, "))
        + enumerate_(map(a, pick(rng, (names, sized)))),
        pick(rng, (f"{total} objects, ", f"there are {total} objects, "))
        + enumerate_(map(a, pick(rng, (names, sized)))),
        _lead_groups(objects, rng) + enumerate_(_grouped(objects)),
        lead(rng, BARE_OTHER)
        + (_related(objects, rng) if len(set(names)) == len(names) else _placed(objects)),
    ]


def _lead_groups(objects: Sequence[SceneObject], rng: np.random.Generator) -> str:
    text = lead(rng, BARE_OTHER)
    plural = sum(noun(each) == noun(objects[0]) for each in objects) > 1
    return text.replace("there is", "there are") if plural else text


def _grouped(objects: Sequence[SceneObject]) -> list[str]:
    """Objects of one colour and shape together: `two red circles`, `a blue square`."""
    groups: dict[str, list[SceneObject]] = {}
    for each in objects:
        groups.setdefault(noun(each), []).append(each)
    return [_group(group) for group in groups.values()]


def _group(group: list[SceneObject]) -> str:
    first, count = group[0], len(group)
    if count == 1:
        return a(noun(first))
    same_size = len({each.size for each in group}) == 1
    return f"{NUMBERS[count]} {noun(first, size=same_size, plural=True)}"


def _placed(objects: Sequence[SceneObject]) -> str:
    return enumerate_(f"{a(noun(each))} {place_of(each)}" for each in objects)


def _related(objects: Sequence[SceneObject], rng: np.random.Generator) -> str:
    """Relations between neighbours, or for four objects a list and then one relation."""
    if len(objects) == 2:
        first, second = objects if rng.integers(3) else objects[::-1]
        return f"{a(noun(first))} {relation_of(first, second, rng)} {a(noun(second))}"
    if len(objects) == 3:
        first, second, third = objects
        return (
            f"{a(noun(first))} {relation_of(first, second, rng)} {a(noun(second))}, "
            f"which is {relation_of(second, third, rng)} {a(noun(third))}"
        )
    listed = enumerate_(a(noun(each)) for each in objects)
    i = int(rng.integers(len(objects) - 1))
    first, second = objects[i : i + 2] if rng.integers(2) else objects[i : i + 2][::-1]
    return f"{listed}, the {noun(first)} {relation_of(first, second, rng)} the {noun(second)}"


def relation_of(a: SceneObject, b: SceneObject, rng: np.random.Generator) -> str:
    """A wording of how `a` stands to `b`: half of the time above or below, where that is plain."""
    if abs(a.y - b.y) >= MARGIN and rng.integers(2):
        return "above" if holds("above", a, b) else "below"
    return pick(
        rng, ("left of", "to the left of") if a.x < b.x else ("right of", "to the right of")
    )


def place_of(each: SceneObject) -> str:
    """Where it lies: `at the top left`, with `top` and `left` only where they are plain."""
    place = []
    if abs(each.y - MIDDLE) >= MARGIN:
        place.append("top" if each.y < MIDDLE else "bottom")
    if abs(each.x - MIDDLE) >= MARGIN:
        place.append("left" if each.x < MIDDLE else "right")
    phrases = {words: phrase for phrase, words in PLACES.items()}
    return phrases[tuple(place) or ("middle",)]


def noun(each: SceneObject, *, size: bool = False, plural: bool = False) -> str:
    shape = PLURALS[each.shape] if plural else each.shape
    return f"{each.size} {each.color} {shape}" if size else f"{each.color} {shape}"


def a(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def enumerate_(parts) -> str:
    """`a`; `a and b`; `a, b and c`."""
    *rest, last = parts
    return f"{', '.join(rest)} and {last}" if rest else last


def lead(rng: np.random.Generator, bare_rate: float) -> str:
    """How a caption may begin."""
    if rng.random() < bare_rate:
        return ""
    return pick(rng, ("there is ", "a picture of ", "the picture shows "))


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]
