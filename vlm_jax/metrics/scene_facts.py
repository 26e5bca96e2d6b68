"""How much of what a caption says of a scene is true, and how much of the scene it says.

The references are no texts to resemble: they are the scene's truth, and the judge is exact.
"""

import dataclasses
import functools
from collections.abc import Sequence

from vlm_jax.metrics.base import Stats, percent
from vlm_jax.text.scene_judge import Scene, judge


@dataclasses.dataclass(frozen=True)
class SceneFactsStats(Stats):
    """Counts over captions (`parsed`, `right`), stated facts (`true`) and objects (`mentioned`)."""

    captions: int = 0
    parsed: int = 0
    right: int = 0
    stated: int = 0
    true: int = 0
    objects: int = 0
    mentioned: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneFacts:
    """Facts right, of captions of the scenes dataset.

        facts_right      captions of which every fact is true and that name every object by colour
                         and shape
        facts_precision  stated facts that are true, of the captions that parse; 0 if none does
        facts_recall     objects of the scenes named by colour and shape
        parsed           captions that are of the language at all

    All times 100. A caption that says little but that truly gains precision and nothing else.
    """

    reference: str = "scene"

    def stats(self, prediction: str, references: Sequence[str]) -> SceneFactsStats:
        """`references` holds one text, the scene as JSON."""
        if len(references) != 1:
            raise ValueError(
                f"given {len(references)} truths for one picture, expected one scene as JSON; "
                f"are the references {self.reference!r} those of the scenes dataset?"
            )
        verdict = judge(prediction, _scene(references[0]))
        return SceneFactsStats(
            captions=1,
            parsed=int(verdict.parsed),
            right=int(verdict.right),
            stated=verdict.stated,
            true=verdict.true,
            objects=verdict.num_objects,
            mentioned=verdict.mentioned,
        )

    def result(self, stats: SceneFactsStats) -> dict[str, float]:
        return {
            "facts_right": percent(stats.right, stats.captions),
            "facts_precision": percent(stats.true, stats.stated),
            "facts_recall": percent(stats.mentioned, stats.objects),
            "parsed": percent(stats.parsed, stats.captions),
        }


_scene = functools.lru_cache(maxsize=4096)(Scene.from_json)
