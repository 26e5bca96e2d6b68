"""The language of the scenes dataset: what its captions may say, and what they then state.

A scene is one to four coloured shapes; `scene_judge` holds the truth of one and says which of the
facts parsed here are true of it.

    caption    := [lead] [number 'objects'] [order] group (connective group)*
    group      := number [size] [color] shape [place]  |  'the' [size] [color] shape [place]
    connective := ['and' | 'with']  |  ['which'] ['is'] ('left of' | 'above' | ...)
    lead       := 'there is' | 'a picture of' | ...
    order      := 'from left to right'
    place      := 'at the top left' | 'on the right' | 'in the middle' | ...

Punctuation is ignored. A relation is between its two neighbours. `the red circle` means the one red
circle named before, or names a new one when there was none. The dataset's own captions use part of
this; people and models may use the rest.
"""

import dataclasses
import itertools
import re
from typing import Any

SHAPES = ("circle", "square", "triangle", "cross", "star")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple")
SIZES = ("small", "large")
NUMBERS = ("zero", "one", "two", "three", "four")
OPPOSITE = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "left": "right",
    "right": "left",
    "top": "bottom",
    "bottom": "top",
}

LEADS = (
    "there is",
    "there are",
    "this is",
    "a picture of",
    "a picture with",
    "the picture shows",
    "the picture has",
)
ORDERS = ("from left to right", "left to right")
TO_RELATION = {
    "to the left of": "left of",
    "to the right of": "right of",
    "left of": "left of",
    "right of": "right of",
    "above": "above",
    "over": "above",
    "below": "below",
    "under": "below",
}
PLACES = {
    "at the top left": ("top", "left"),
    "at the top right": ("top", "right"),
    "at the bottom left": ("bottom", "left"),
    "at the bottom right": ("bottom", "right"),
    "at the top": ("top",),
    "at the bottom": ("bottom",),
    "on the left": ("left",),
    "on the right": ("right",),
    "in the middle": ("middle",),
}
PLURALS = {shape: "crosses" if shape == "cross" else shape + "s" for shape in SHAPES}
SINGULARS = {plural: shape for shape, plural in PLURALS.items()}
LINKS = ("which is", "which are", "is", "are", "which")
DETERMINERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4}

WORDS = tuple(
    sorted(
        {
            word
            for phrase in (*LEADS, *ORDERS, *TO_RELATION, *PLACES, *LINKS)
            for word in phrase.split()
        }
        | {*SHAPES, *PLURALS.values(), *COLORS, *SIZES, *DETERMINERS}
        | {"and", "with", "the", "object", "objects"}
    )
)  # every word that a caption can have, punctuation apart

MAX_CHARACTERS = 1000  # of a caption that is worth parsing
MAX_MENTIONS = 8  # objects named; the search for who is meant grows with this


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mention:
    """One object as a caption describes it; None and () where the caption does not say."""

    shape: str
    color: str | None = None
    size: str | None = None
    place: tuple[str, ...] = ()

    def fits(self, other: Any) -> bool:
        """Whether `other`, a mention or an object, has this shape, and this colour if one is named."""
        return self.shape == other.shape and self.color in (None, other.color)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What a caption states: objects, (subject, relation, object) between them, their number."""

    mentions: tuple[Mention, ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    total: int | None = None


def parse(caption: str) -> Facts | None:
    """What the caption states, or None when it is not of the grammar, in whole or in part."""
    caption = caption[: MAX_CHARACTERS + 1].lower()
    if len(caption) > MAX_CHARACTERS or not re.fullmatch(r"[a-z\s,.;:]*", caption):
        return None
    try:
        return _Reader(re.findall(r"[a-z]+", caption)).facts()
    except _Unreadable:
        return None


class _Unreadable(Exception):
    """The caption left the grammar."""


class _Reader:
    """Recursive descent over the words of one caption."""

    def __init__(self, words: list[str]):
        self.words = words
        self.mentions: list[Mention] = []

    def facts(self) -> Facts:
        total, ordered = self._prefix()
        relations = []
        groups = [self._group()]
        while self.words:
            relation = self._relation()
            if relation is None:
                self._take(("and", "with"))
            groups.append(self._group())
            if relation is not None:
                pairs = itertools.product(groups[-2], groups[-1])
                relations += [(i, relation, j) for i, j in pairs]
        if ordered:
            pairs = itertools.pairwise(range(len(self.mentions)))
            relations += [(i, "left of", j) for i, j in pairs]
        if any(i == j for i, _, j in relations):
            raise _Unreadable
        return Facts(mentions=tuple(self.mentions), relations=tuple(relations), total=total)

    def _take(self, phrases) -> str | None:
        """The longest of the phrases that comes next, which is then consumed."""
        for length in (4, 3, 2, 1):
            phrase = " ".join(self.words[:length])
            if len(self.words) >= length and phrase in phrases:
                del self.words[:length]
                return phrase
        return None

    def _prefix(self) -> tuple[int | None, bool]:
        """A lead, a total number of objects and an order from left to right, each at most once."""
        self._take(LEADS)
        total, ordered = None, False
        for _ in range(2):
            if total is None and len(self.words) > 1 and self.words[1] in ("object", "objects"):
                total = DETERMINERS.get(self.words[0])
                if total is None or (self.words[1] == "object") != (total == 1):
                    raise _Unreadable
                del self.words[:2]
            ordered = self._take(ORDERS) is not None or ordered
        return total, ordered

    def _group(self) -> tuple[int, ...]:
        """The indices of the mentions that the next noun phrase makes or refers to."""
        determiner = self._take((*DETERMINERS, "the"))
        size, color = self._take(SIZES), self._take(COLORS)
        count = DETERMINERS.get(determiner, 1)
        noun = self._take(SINGULARS if count > 1 else SHAPES)
        if determiner is None or noun is None:
            raise _Unreadable
        shape = SINGULARS.get(noun, noun)
        place = PLACES.get(self._take(PLACES), ())
        mention = Mention(shape=shape, color=color, size=size, place=place)
        if determiner == "the":
            earlier = [i for i, each in enumerate(self.mentions) if _same(mention, each)]
            if len(earlier) > 1:
                raise _Unreadable  # which of them?
            if earlier:
                self._add(earlier[0], mention)
                return tuple(earlier)
        first = len(self.mentions)
        if first + count > MAX_MENTIONS:
            raise _Unreadable
        self.mentions += [mention] * count
        return tuple(range(first, first + count))

    def _add(self, index: int, mention: Mention):
        """Add what a second naming says of an object to what the first said."""
        known = self.mentions[index]
        new = tuple(place for place in mention.place if place not in known.place)
        self.mentions[index] = dataclasses.replace(
            known, size=known.size or mention.size, place=known.place + new
        )

    def _relation(self) -> str | None:
        link = self._take(LINKS)
        phrase = self._take(TO_RELATION)
        if link is not None and phrase is None:
            raise _Unreadable
        return TO_RELATION.get(phrase)


def _same(definite: Mention, earlier: Mention) -> bool:
    """Whether `the small red circle` can mean that earlier mention."""
    sizes = {definite.size, earlier.size} - {None}
    return definite.fits(earlier) and len(sizes) < 2
