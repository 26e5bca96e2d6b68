"""How well captions fit their pictures, as a two-tower model sees it."""

import dataclasses
from collections.abc import Sequence

from vlm_jax.metrics.base import Stats, mean_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosines(Stats):
    """The cosine of a caption with its picture, and the largest with what people wrote, an example each."""

    records: tuple[tuple[float, float | None], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipScore:
    """Hessel et al. 2021, arXiv 2104.08718: `clip_score`, 2.5 max(cos(caption, picture), 0), and `ref_clip_score`, its
    harmonic mean with max(cos(caption, reference), 0) for the nearest reference; means over the captions, times 100.

    A prediction is the cosine of caption and picture, the references are the cosines with the references' texts. The
    paper takes CLIP ViT-B/32, whose cosines are small, hence 2.5; the numbers of two models cannot be compared.
    """

    reference: str = "captions"
    weight: float = 2.5

    def stats(self, prediction: float, references: Sequence[float] = ()) -> Cosines:
        nearest = max(map(float, references)) if len(references) else None
        return Cosines(records=((float(prediction), nearest),))

    def scores(self, stats: Cosines) -> list[float]:
        """The CLIPScore of each caption, times 100."""
        return [100 * self.weight * max(cosine, 0.0) for cosine, _ in stats.records]

    def result(self, stats: Cosines) -> dict[str, float]:
        each = self.scores(stats)
        numbers = {"clip_score": mean_of(each)}
        nearest = [near for _, near in stats.records]
        if None not in nearest:
            numbers["ref_clip_score"] = mean_of(
                [_harmonic_mean(score, 100 * max(near, 0.0)) for score, near in zip(each, nearest)]
            )
        return numbers


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0
