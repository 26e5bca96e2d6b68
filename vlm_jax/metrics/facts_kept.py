"""Text -> picture -> text: what a caption of the picture still says of the prompt that the picture was made of."""

import dataclasses
from collections.abc import Sequence

from vlm_jax.metrics.base import Stats, percent
from vlm_jax.text.scene_judge import matches
from vlm_jax.text.scene_language import OPPOSITE, Facts, Mention, parse

FACING = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptStats(Stats):
    """Counts over captions, `whole` those that kept everything, and over the facts of their prompts."""

    captions: int
    whole: int
    facts: int
    kept: int
    stated: int  # by the prompts, whether the captions speak of it or not


@dataclasses.dataclass(frozen=True, kw_only=True)
class FactsKept:
    """A prediction is the caption of a picture, the reference the prompt that it was made of; both of the scenes' language.

        facts_kept      facts of the prompts, of those that the captions speak of, that they state too
        prompts_kept    captions that keep every fact that they speak of, and name as many objects
        facts_repeated  facts of the prompts that their captions state too; what a caption leaves out is lost

    Times 100. The facts of a prompt: every object with its colour, and how many there are; the size of an object, its place
    and how two of them stand. The first two a caption always speaks of. A caption that cannot be parsed keeps nothing.
    """

    reference: str = "prompt"

    def stats(self, prediction: str, references: Sequence[str]) -> KeptStats:
        prompt, caption = parse(references[0]), parse(prediction)
        if prompt is None:
            return KeptStats(captions=1, whole=0, facts=0, kept=0, stated=0)
        said = max(kept_facts(prompt, caption), key=sum) if caption is not None else []
        facts = len(said) or len(prompt.mentions) + 1
        whole = bool(said) and all(said)
        stated = 1 + len(prompt.relations) + sum(_number(each) for each in prompt.mentions)
        return KeptStats(captions=1, whole=int(whole), facts=facts, kept=sum(said), stated=stated)

    def result(self, stats: KeptStats) -> dict[str, float]:
        return {
            "facts_kept": percent(stats.kept, stats.facts),
            "prompts_kept": percent(stats.whole, stats.captions),
            "facts_repeated": percent(stats.kept, stats.stated),
        }


def is_of_scenes(prompt: str) -> bool:
    """Whether it is of the scenes' language, so that its facts are known."""
    return parse(prompt) is not None


def kept_facts(prompt: Facts, caption: Facts) -> list[list[bool]]:
    """Of every way to find the prompt's objects in the caption: which facts of the prompt are kept."""
    stands = {(i, j): relation for i, relation, j in caption.relations}
    stands |= {(j, i): OPPOSITE[relation] for i, relation, j in caption.relations}
    ways = []
    for match in matches(prompt.mentions, caption.mentions):
        found = [each is not None for each in match]
        found.append(len(prompt.mentions) == len(caption.mentions))
        for mention, other in zip(prompt.mentions, match):
            if other is not None and mention.size and caption.mentions[other].size:
                found.append(mention.size == caption.mentions[other].size)
            if other is not None:
                found += _places(mention.place, caption.mentions[other].place)
        for i, relation, j in prompt.relations:
            theirs = stands.get((match[i], match[j]))
            if theirs in (relation, OPPOSITE[relation]):  # left of says nothing of above
                found.append(theirs == relation)
        ways.append(found)
    return ways


def _number(mention: Mention) -> int:
    """Facts that a prompt states of one object."""
    return 1 + bool(mention.size) + len(mention.place)


def _places(prompt: tuple[str, ...], caption: tuple[str, ...]) -> list[bool]:
    """Of the places of an object in the prompt those that the caption says or denies: on the left says nothing of the top,
    the middle denies all others."""
    found = []
    for place in prompt:
        if place in caption:
            found.append(True)
        elif FACING.get(place) in caption or (caption and "middle" in (place, *caption)):
            found.append(False)
    return found
