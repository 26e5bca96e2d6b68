"""round_trips.html: pictures beside what came back from their codes, best, worst and at random."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.report.gallery import Item, write_gallery


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundTrips:
    """A report for `Evaluation(reports=(RoundTrips(metrics=(Psnr(),)),))` of a task whose examples have a `picture` and
    its `prediction`, uint8 [h w c]: writes workdir/round_trips_<evaluation>.html.

    Left the picture, right what came back; best and worst go by the first number of the first of `metrics`.
    """

    metrics: tuple[Any, ...]
    per_section: int = 12

    def __call__(
        self,
        workdir: Path,
        step: int,
        name: str,
        examples: Sequence[Mapping[str, Any]],
        numbers: Mapping[str, float],
    ) -> Path:
        items = [
            Item(
                image=np.concatenate([example["picture"], example["prediction"]], axis=1),
                caption=f"{len(np.unique(example['codes']))} codes in {len(example['codes'])} places",
                scores=self._scores(example),
                name=f"id {example['id']}",
            )
            for example in examples
        ]
        path = Path(workdir) / f"round_trips_{name}.html"
        title = f"{Path(workdir).name}: {name} there and back after {step} steps"
        write_gallery(path, items, title, numbers, per_section=self.per_section)
        return path

    def _scores(self, example: Mapping[str, Any]) -> dict[str, float]:
        scores = {}
        for metric in self.metrics:
            scores.update(metric.result(metric.stats(example["prediction"], (example["picture"],))))
        return scores
