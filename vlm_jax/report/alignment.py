"""Which words of a source each word of a target came from: attention as a table of grey squares."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.report.attention import printable

MAX_WORDS = 60  # of either text, in one picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alignments:
    """A report for `Evaluation(reports=(Alignments(),))`: workdir/alignments_<evaluation>/<id>.png, of the first few
    examples that have `words`, `source_words` and `attention` [len(words) len(source_words)]."""

    count: int = 6

    def __call__(
        self,
        workdir: Path,
        step: int,
        name: str,
        examples: Sequence[Mapping[str, Any]],
        numbers: Mapping[str, float],
    ) -> list[Path]:
        shown = [
            e for e in examples if "attention" in e and len(e["words"]) and len(e["source_words"])
        ]
        paths = []
        for example in shown[: self.count]:
            path = Path(workdir) / f"alignments_{name}" / f"{example['id']}.png"
            alignment(example["source_words"], example["words"], example["attention"], path)
            paths.append(path)
        return paths


def alignment(
    source: Sequence[str], target: Sequence[str], weights: np.ndarray, path: str | os.PathLike
) -> None:
    """Writes a PNG of `weights` [len(target) len(source)], white at 0 and black at 1: a row for each word of the
    target, a column for each of the source (as Bahdanau et al. 2015, figure 3)."""
    from matplotlib.figure import Figure

    weights = np.asarray(weights, np.float64)
    if weights.shape != (len(target), len(source)):
        raise ValueError(
            f"the weights are {weights.shape}, expected a row for each of the {len(target)} target words and a "
            f"column for each of the {len(source)} source words"
        )
    if not weights.size or not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError(
            "the weights are not all finite and at least 0; expected a softmax's result"
        )
    source, target, weights = (
        source[:MAX_WORDS],
        target[:MAX_WORDS],
        weights[:MAX_WORDS, :MAX_WORDS],
    )
    size = (0.32 * len(source) + 2.2, 0.32 * len(target) + 1.6)
    figure = Figure(figsize=size, dpi=110)
    figure.set_layout_engine("tight")
    axes = figure.add_subplot()
    axes.imshow(weights, cmap="gray_r", vmin=0.0, vmax=1.0, aspect="equal")
    axes.xaxis.tick_top()
    for axis, words in ((axes.xaxis, source), (axes.yaxis, target)):
        labels = [printable(word.strip() or "␣", 20) for word in words]
        axis.set_ticks(range(len(words)), labels, parse_math=False)
    axes.tick_params(axis="x", labelrotation=90, length=0)
    axes.tick_params(axis="y", length=0)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
