"""Whether a picture in the manner of the scenes dataset shows what its prompt says: read exactly, and judged exactly."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from vlm_jax.metrics.base import Stats, percent
from vlm_jax.text.scene_judge import Scene, Verdict, judge
from vlm_jax.text.scene_language import parse
from vlm_jax.text.scene_reader import read_scene


@dataclasses.dataclass(frozen=True)
class PromptStats(Stats):
    """Counts over pictures, by how many objects the prompt names (0: it is not of the language), and over facts."""

    pictures: Counter
    holding: Counter
    stated: int
    true: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptHolds:
    """A prediction is a picture, uint8 [64 64 3], the reference its prompt.

        prompt_holds           pictures that show all that the prompt says, and no object that it does not name
        prompt_holds_2         the same, of prompts that name two objects
        prompt_facts           facts that prompts state (an object, its size, its place, how two stand, how many there
                               are) that are true of their pictures

    All times 100. Objects are read by `scene_reader`, and held against the prompt by `scene_judge`.
    """

    reference: str = "prompt"

    def stats(self, prediction: np.ndarray, references: Sequence[str]) -> PromptStats:
        prompt = _one(references, self.reference)
        verdict = verdict_of(prediction, prompt)
        facts = parse(prompt)
        number = 0 if facts is None else len(facts.mentions)
        return PromptStats(
            pictures=Counter({number: 1}),
            holding=Counter({number: int(verdict.right)}),
            stated=verdict.stated,
            true=verdict.true,
        )

    def result(self, stats: PromptStats) -> dict[str, float]:
        by_number = {
            f"prompt_holds_{number}": percent(stats.holding[number], stats.pictures[number])
            for number in sorted(stats.pictures)
            if number
        }
        return {
            "prompt_holds": percent(stats.holding.total(), stats.pictures.total()),
            "prompt_facts": percent(stats.true, stats.stated),
            **by_number,
        }


@dataclasses.dataclass(frozen=True)
class PlanStats(Stats):
    """Counts over plans."""

    plans: int
    holding: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanHolds:
    """A prediction is what was planned before a picture, a Scene or None, the reference its prompt: `plan_holds`, plans that are
    of all that the prompt says, times 100. The picture may show something else."""

    reference: str = "prompt"

    def stats(self, prediction: Scene | None, references: Sequence[str]) -> PlanStats:
        prompt = _one(references, self.reference)
        return PlanStats(
            plans=1,
            holding=int(prediction is not None and judge(prompt, prediction, as_prompt=True).right),
        )

    def result(self, stats: PlanStats) -> dict[str, float]:
        return {"plan_holds": percent(stats.holding, stats.plans)}


def verdict_of(picture: np.ndarray, prompt: str) -> Verdict:
    """How the prompt fares against what the picture, uint8 [64 64 3], shows; `right` where the whole of it holds."""
    return judge(prompt, read_scene(picture), as_prompt=True)


def _one(references: Sequence[str], name: str) -> str:
    if len(references) != 1:
        raise ValueError(
            f"given {len(references)} prompts for one picture, expected one; are the references "
            f"{name!r} those of data.prompts.Prompted?"
        )
    return references[0]
