"""The language of the scenes dataset: what its captions may say, and an exact judge of them.

A scene is one to four coloured shapes in a 64 x 64 picture. Its truth is a `Scene`; a caption is
parsed into the facts that it states, and `judge` says of every one whether it is true.

    caption  := prefix* group (connective group)*
    prefix   := 'there is' | 'a picture of' | ... | 'from left to right' | number 'objects'
    group    := number [size] [color] shape [place]  |  'the' [size] [color] shape [place]
    place    := 'at the top left' | 'on the right' | 'in the middle' | ...
    connective := ['and' | 'with']  |  ['which'] ['is'] ('left of' | 'above' | ...)

Punctuation is ignored. `the red circle` means the one red circle already named, or names a new one
when there is none. Relations and places are about the centres of the objects, y grows downwards.
"""

import dataclasses
import itertools
import json
import re

SHAPES = ("circle", "square", "triangle", "cross", "star")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple")
SIZES = ("small", "large")
NUMBERS = ("zero", "one", "two", "three", "four")
RELATIONS = ("left of", "right of", "above", "below")
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

PICTURE_SIZE = 64
MIDDLE = (PICTURE_SIZE - 1) / 2  # centres are whole pixels, so that none lies on the line
MIDDLE_REACH = 8  # pixels from the middle in which 'in the middle' is true

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
class SceneObject:
    """One shape; x and y are the pixel of its centre, radius is half its height in pixels."""

    shape: str
    color: str
    size: str
    x: int
    y: int
    radius: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """The whole truth of a picture. Objects stand from left to right; `background` is its seed."""

    objects: tuple[SceneObject, ...]
    background: int = 0

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Scene":
        try:
            node = json.loads(text)
            objects = tuple(SceneObject(**each) for each in node["objects"])
            return cls(objects=objects, background=node.get("background", 0))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"not the truth of a scene: {text[:80]!r} ({error}); "
                'expected {"objects": [{"shape", "color", "size", "x", "y", "radius"}, ...]}, '
                "as Scene.to_json writes it; is the metric reading references other than 'scene'?"
            ) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mention:
    """One object as a caption describes it; None and () where the caption does not say."""

    shape: str
    color: str | None = None
    size: str | None = None
    place: tuple[str, ...] = ()

    def fits(self, other: "Mention | SceneObject") -> bool:
        """Same shape, and the same colour where one is named."""
        return self.shape == other.shape and self.color in (None, other.color)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What a caption states: objects, (subject, relation, object) between them, their number."""

    mentions: tuple[Mention, ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    total: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a caption fares against a scene.

    `facts` are (the fact in words, whether it is true). An object is `mentioned` when the caption
    names its colour and its shape. `right`: parsed, nothing false, every object mentioned.
    """

    parsed: bool
    facts: tuple[tuple[str, bool], ...]
    mentioned: int
    num_objects: int

    @property
    def stated(self) -> int:
        return len(self.facts)

    @property
    def true(self) -> int:
        return sum(truth for _, truth in self.facts)

    @property
    def right(self) -> bool:
        return self.parsed and self.true == self.stated and self.mentioned == self.num_objects


def holds(relation: str, a: SceneObject, b: SceneObject) -> bool:
    """Whether `a relation b`, by their centres."""
    return {
        "left of": a.x < b.x,
        "right of": a.x > b.x,
        "above": a.y < b.y,
        "below": a.y > b.y,
    }[relation]


def lies(place: str, a: SceneObject) -> bool:
    """Whether the centre of `a` is in that half of the picture, or near its middle."""
    return {
        "left": a.x < MIDDLE,
        "right": a.x > MIDDLE,
        "top": a.y < MIDDLE,
        "bottom": a.y > MIDDLE,
        "middle": max(abs(a.x - MIDDLE), abs(a.y - MIDDLE)) < MIDDLE_REACH,
    }[place]


def judge(caption: str, scene: Scene) -> Verdict:
    """Every fact that the caption states, held against the scene. Never raises for any text.

    Mentions are matched to distinct objects so that as many facts as possible are true: `a red
    circle left of a red circle` is judged in the reader's favour. What is said of an object that
    is not there (no object of that shape and colour is left) is false.
    """
    facts = parse(caption)
    if facts is None:
        return Verdict(parsed=False, facts=(), mentioned=0, num_objects=len(scene.objects))
    verdicts = (_verdict(facts, scene, match) for match in _matches(facts.mentions, scene.objects))
    return max(verdicts, key=lambda verdict: (verdict.true, verdict.mentioned))


def _matches(mentions, objects):
    """Every way to give the mentions (in order) distinct objects that fit, or None.

    A mention goes without an object only where its rivals could take all that it fits: one more
    pair never makes a fact false.
    """
    fitting = [{j for j, each in enumerate(objects) if m.fits(each)} for m in mentions]
    rivals = [sum(bool(mine & theirs) for theirs in fitting) for mine in fitting]
    choices = [
        (*sorted(mine), None) if not mine or count > len(mine) else tuple(sorted(mine))
        for mine, count in zip(fitting, rivals)
    ]

    def extend(i, used):
        if i == len(choices):
            yield ()
            return
        for j in choices[i]:
            if j is None or j not in used:
                for rest in extend(i + 1, used if j is None else used | {j}):
                    yield (j, *rest)

    return extend(0, frozenset())


def _verdict(facts: Facts, scene: Scene, match: tuple[int | None, ...]) -> Verdict:
    found = [None if j is None else scene.objects[j] for j in match]
    judged = []
    if facts.total is not None:
        count = len(scene.objects)
        judged.append((f"{NUMBERS[facts.total]} objects", facts.total == count))
    for mention, each in zip(facts.mentions, found):
        name = _name(mention)
        judged.append((name, each is not None))
        if mention.size:
            judged.append(
                (f"{name}: {mention.size}", each is not None and each.size == mention.size)
            )
        for place in mention.place:
            judged.append((f"{name}: {place}", each is not None and lies(place, each)))
    for i, relation, j in facts.relations:
        a, b = found[i], found[j]
        text = f"{_name(facts.mentions[i])} {relation} {_name(facts.mentions[j])}"
        judged.append((text, a is not None and b is not None and holds(relation, a, b)))
    named = sum(
        each is not None and mention.color is not None
        for mention, each in zip(facts.mentions, found)
    )
    return Verdict(
        parsed=True, facts=tuple(judged), mentioned=named, num_objects=len(scene.objects)
    )


def _name(mention: Mention) -> str:
    return " ".join(filter(None, (mention.color, mention.shape)))


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
