"""The truth of a scene, and the exact judge of what a caption says of it.

    scene = Scene.from_json(example["scene"])
    verdict = judge("a red circle above a small blue square", scene)
    verdict.right, verdict.facts            # True, (("red circle", True), ...)

Relations and places are those of the objects' centres; y grows downwards.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence

from vlm_jax.text.scene_language import NUMBERS, Facts, Mention, parse

PICTURE_SIZE = 64
MIDDLE = (PICTURE_SIZE - 1) / 2  # centres are whole pixels, so that none lies on the line
MIDDLE_REACH = 12  # pixels from the middle in which 'in the middle' is true


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
        node = {"objects": [vars(each) for each in self.objects], "background": self.background}
        return json.dumps(node, separators=(",", ":"))

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
class Verdict:
    """How a caption fares against a scene.

    `facts` are (the fact in words, whether it is true). An object is `mentioned` when the caption
    names its shape and, unless it was judged as a prompt, its colour. `right`: parsed, nothing false, every object
    mentioned.
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


def judge(caption: str, scene: Scene, *, as_prompt: bool = False) -> Verdict:
    """Every fact that the caption states, held against the scene. Never raises for any text.

    Mentions are matched to distinct objects so that as many facts as possible are true: `a red
    circle left of a red circle` is judged in the reader's favour. What is said of an object that
    is not there (no object of that shape and colour is left) is false. A caption has to say of every
    object which colour it has; `as_prompt` what a text leaves open may be anything.
    """
    facts = parse(caption)
    if facts is None:
        return Verdict(parsed=False, facts=(), mentioned=0, num_objects=len(scene.objects))
    verdicts = (
        _verdict(facts, scene, match, as_prompt) for match in matches(facts.mentions, scene.objects)
    )
    return max(verdicts, key=lambda verdict: (verdict.true, verdict.mentioned))


def matches(
    mentions: Sequence[Mention], objects: Sequence[SceneObject]
) -> Iterator[tuple[int | None, ...]]:
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


def _verdict(facts: Facts, scene: Scene, match: tuple[int | None, ...], as_prompt: bool) -> Verdict:
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
        each is not None and (as_prompt or mention.color is not None)
        for mention, each in zip(facts.mentions, found)
    )
    return Verdict(
        parsed=True, facts=tuple(judged), mentioned=named, num_objects=len(scene.objects)
    )


def _name(mention: Mention) -> str:
    return " ".join(filter(None, (mention.color, mention.shape)))
