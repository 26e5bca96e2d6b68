"""Questions about scenes, of seven types, each with its one-word answer.

    existence   is there a red circle                      yes | no
    count       how many small circles are there           zero ... four
    color       what color is the large square             red ...
    shape       what shape is the leftmost object          circle ...
    size        what size is the red circle                small | large
    relation    is the circle above the red square         yes | no
    comparison  are there more circles than red objects    yes | no

`yes` and `no` are asked for equally often, and what is not there differs from something that is
by one attribute. A pair of colour and shape that is held out is never asked for where it is not
to be seen: training on the others teaches nothing about it.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vlm_jax.data.datasets.scenes_captions import MARGIN, a, pick
from vlm_jax.data.datasets.scenes_layout import HELD_OUT
from vlm_jax.text.scene_judge import PICTURE_SIZE, Scene, SceneObject, holds
from vlm_jax.text.scene_language import COLORS, NUMBERS, PLURALS, SHAPES, SIZES
from vlm_jax.types import Example

ANSWERS = ("yes", "no", *NUMBERS, *COLORS, *SHAPES, *SIZES)
VALUES = {"size": SIZES, "color": COLORS, "shape": SHAPES}
MAX_QUESTIONS = 10


class Question(NamedTuple):
    """A question, its answer, and its type."""

    text: str
    answer: str
    type: str


def questions(scene: Scene, rng: np.random.Generator) -> tuple[Question, ...]:
    """At most ten different questions, one of each type that the scene allows and some twice."""
    asked: dict[str, Question] = {}
    for kind in (*KINDS, "existence", "count", "comparison", "relation"):
        text, answer = KINDS[kind](scene.objects, rng) or (None, None)
        if text is not None:
            asked.setdefault(text, Question(text, answer, kind))
    return tuple(asked.values())[:MAX_QUESTIONS]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AskAnew:
    """Any question about the example's `scene` in place of the stored `question`: for training, a new draw each epoch.

    The stored ones are ten a picture at most, of which a network learns the rarer answers by heart; there are hundreds.
    `shares` asks for a type with a probability of its own, such as (("relation", 0.4),), where the picture allows it;
    what they leave of 1 goes to all types as they are stored. There is one more that is never stored:

    listing     what is in the picture      small red circle zero four and large green star three one

    the objects from left to right, each with the column and the row, of five, that its centre is in: detection in words, of
    which PaliGemma has much before it is tuned for one thing (Beyer et al. 2024, section 3.2.5).
    """

    shares: tuple[tuple[str, float], ...] = ()

    def __post_init__(self):
        chances = [chance for _, chance in self.shares]
        unknown = {kind for kind, _ in self.shares} - DRAWN.keys()
        if unknown or sum(chances) > 1 or min(chances, default=0) < 0:
            raise ValueError(
                f"AskAnew(shares={self.shares}): expected types among {', '.join(DRAWN)}, with probabilities whose sum "
                "is at most 1"
            )

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        new = self._asked(_scene(example["scene"]), rng)
        drawn = {"question": new.text, "answer": new.answer, "question_type": new.type}
        return {**example, **drawn}

    def _asked(self, scene: Scene, rng: np.random.Generator) -> Question:
        if self.shares:
            kinds, chances = zip(*self.shares)
            drawn = rng.choice(len(kinds) + 1, p=(*chances, max(1 - sum(chances), 0)))
            if drawn < len(kinds):
                kind = kinds[drawn]
                text, answer = DRAWN[kind](scene.objects, rng) or (None, None)
                if text is not None:
                    return Question(text, answer, kind)
        asked = questions(scene, rng)
        return asked[int(rng.integers(len(asked)))]


_scene = functools.lru_cache(maxsize=8192)(Scene.from_json)


class Description(NamedTuple):
    """The attributes asked for; None where any will do."""

    size: str | None = None
    color: str | None = None
    shape: str | None = None

    def among(self, objects: tuple[SceneObject, ...]) -> list[SceneObject]:
        return [
            each
            for each in objects
            if self.size in (None, each.size)
            and self.color in (None, each.color)
            and self.shape in (None, each.shape)
        ]

    def noun(self, *, plural: bool = False) -> str:
        shape = self.shape or "object"
        name = PLURALS.get(shape, "objects") if plural else shape
        return " ".join(filter(None, (self.size, self.color, name)))


FORMS = tuple(
    names for count in (1, 2, 3) for names in itertools.combinations(VALUES, count)
)  # which attributes a description names


def describe(each: SceneObject, names: tuple[str, ...]) -> Description:
    return Description(**{name: getattr(each, name) for name in names})


def unique(
    objects: tuple[SceneObject, ...], each: SceneObject, hidden: str | None = None
) -> list[Description]:
    """The descriptions that mean this object and no other, without the hidden attribute."""
    found = (describe(each, names) for names in FORMS if hidden not in names)
    return [description for description in found if len(description.among(objects)) == 1]


def absent(objects: tuple[SceneObject, ...], rng: np.random.Generator) -> Description | None:
    """A description that fits nothing here, and something when one attribute is changed."""
    for _ in range(10):
        known = describe(pick(rng, objects), pick(rng, FORMS))
        name = pick(rng, [name for name in VALUES if getattr(known, name) is not None])
        changed = known._replace(**{name: pick(rng, VALUES[name])})
        if not changed.among(objects) and (changed.color, changed.shape) not in HELD_OUT:
            return changed
    return None


def _existence(objects, rng):
    if rng.integers(2):
        description = describe(pick(rng, objects), pick(rng, FORMS))
    else:
        description = absent(objects, rng)
    if description is None:
        return None
    if rng.integers(2):
        text = f"is there {a(description.noun())}"
    else:
        text = f"are there any {description.noun(plural=True)}"
    return text, _yes(bool(description.among(objects)))


def _count(objects, rng):
    """Of everything, of what is there, and (one in four) of what is not."""
    choice = rng.integers(8)
    description = Description()
    if choice in (1, 2):
        description = absent(objects, rng) or description
    elif choice > 2:
        description = describe(pick(rng, objects), pick(rng, FORMS[:6]))
    text = f"how many {description.noun(plural=True)} are there"
    return text, NUMBERS[len(description.among(objects))]


def _attribute(objects, rng, name):
    """Of an object that the question describes without it; else of the first or the last."""
    each = pick(rng, objects)
    known = unique(objects, each, hidden=name)
    if len(objects) > 1 and (not known or rng.integers(4) == 0):
        side, each = pick(rng, (("leftmost", objects[0]), ("rightmost", objects[-1])))
        return f"what {name} is the {side} object", getattr(each, name)
    named = pick(rng, known).noun() if known else "object"
    return f"what {name} is the {named}", getattr(each, name)


def _color(objects, rng):
    return _attribute(objects, rng, "color")


def _shape(objects, rng):
    return _attribute(objects, rng, "shape")


def _size(objects, rng):
    return _attribute(objects, rng, "size")


def _relation(objects, rng):
    """Where the answer is plain: the centres lie some pixels apart in that direction."""
    if len(objects) < 2:
        return None
    first, second = (objects[i] for i in np.argsort(rng.random(len(objects)), kind="stable")[:2])
    names = [unique(objects, each) for each in (first, second)]
    if not all(names):
        return None
    directions = [("left of", "right of")]
    if abs(first.y - second.y) >= MARGIN:
        directions.append(("above", "below"))
    relation = pick(rng, pick(rng, directions))
    subject, other = (pick(rng, each).noun() for each in names)
    return f"is the {subject} {relation} the {other}", _yes(holds(relation, first, second))


def _comparison(objects, rng):
    if len(objects) > 1 and rng.integers(2):
        return _compare_two(objects, rng)
    name = pick(rng, tuple(VALUES))
    one = describe(pick(rng, objects), (name,))
    other = one._replace(**{name: pick(rng, [v for v in VALUES[name] if v != getattr(one, name)])})
    pair = (one, other) if rng.integers(2) else (other, one)
    first, second = (len(description.among(objects)) for description in pair)
    word, answer = pick(rng, (("more", first > second), ("fewer", first < second)))
    nouns = [description.noun(plural=True) for description in pair]
    return f"are there {word} {nouns[0]} than {nouns[1]}", _yes(answer)


def _compare_two(objects, rng):
    """Whether two objects are alike in one attribute, which the question does not name."""
    name = pick(rng, tuple(VALUES))
    pairs = list(itertools.permutations(objects, 2))
    wanted = bool(rng.integers(2))
    alike = [pair for pair in pairs if (len({getattr(o, name) for o in pair}) == 1) == wanted]
    first, second = pick(rng, alike or pairs)
    known = [unique(objects, each, hidden=name) for each in (first, second)]
    if not all(known):
        return None
    subject, other = (pick(rng, each).noun() for each in known)
    same = getattr(first, name) == getattr(second, name)
    return f"is the {subject} the same {name} as the {other}", _yes(same)


def _listing(objects, rng):
    def told(each: SceneObject) -> str:
        column, row = (NUMBERS[place * len(NUMBERS) // PICTURE_SIZE] for place in (each.x, each.y))
        return f"{each.size} {each.color} {each.shape} {column} {row}"

    listed = " and ".join(map(told, sorted(objects, key=lambda each: each.x)))
    return "what is in the picture", listed


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


KINDS: dict[str, Callable] = {
    "existence": _existence,
    "count": _count,
    "color": _color,
    "shape": _shape,
    "size": _size,
    "relation": _relation,
    "comparison": _comparison,
}

QUESTION_WORDS = tuple(
    sorted(
        {*SHAPES, *PLURALS.values(), *COLORS, *SIZES, *VALUES}
        | set("is there a an are any how many what the leftmost rightmost object objects".split())
        | set("left right of above below more fewer than same as".split())
    )
)
DRAWN = {**KINDS, "listing": _listing}
