"""Softmax against sigmoid over batch sizes, on Flickr8k: the losses of CLIP (Radford et al. 2021, arXiv 2103.00020) and
SigLIP (Zhai et al. 2023, arXiv 2303.15343).

    python -m experiments.contrastive_study run --folder runs/contrastive_study --seeds 0,1,2
    python -m experiments.contrastive_study sigmoid_64 train --workdir runs/sigmoid_64

`run` trains and records every run that has no record yet, one after another, and writes table.md and recall.png of all
records into the folder; stopped at any time, it goes on where it was. The towers are those of experiments/clip.py with
frozen encoders: ten epochs whatever the batch size, the learning rate as the root of the batch size, 1e-3 at 256.

What Zhai et al. find for pre-training on billions of pairs (section 4.2): the sigmoid is ahead in small batches, and
the two are alike in large ones. Here the largest batch has 512 of 30,000 pairs.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import clip, siglip
from vlm_jax import config
from vlm_jax import main as command_line
from vlm_jax.main import RESULTS, main
from vlm_jax.report.results import mean_and_deviation, read_results
from vlm_jax.train.experiment import Experiment

CITATION = "Zhai et al. 2023"
PAPER = {}
BATCH_SIZES = (64, 128, 256, 512)
LOSSES = ("softmax", "sigmoid")
METRICS = {
    "mean_recall": "mean recall",
    "image_to_text_r1": "image to text R@1",
    "text_to_image_r1": "text to image R@1",
}


def softmax_64() -> Experiment:
    """Softmax, 64 pairs a batch."""
    return _softmax(64)


def softmax_128() -> Experiment:
    """Softmax, 128 pairs a batch."""
    return _softmax(128)


def softmax_256() -> Experiment:
    """Softmax, 256 pairs a batch."""
    return _softmax(256)


def softmax_512() -> Experiment:
    """Softmax, 512 pairs a batch."""
    return _softmax(512)


def sigmoid_64() -> Experiment:
    """Sigmoid, 64 pairs a batch."""
    return siglip.with_sigmoid(_softmax(64))


def sigmoid_128() -> Experiment:
    """Sigmoid, 128 pairs a batch."""
    return siglip.with_sigmoid(_softmax(128))


def sigmoid_256() -> Experiment:
    """Sigmoid, 256 pairs a batch."""
    return siglip.with_sigmoid(_softmax(256))


def sigmoid_512() -> Experiment:
    """Sigmoid, 512 pairs a batch."""
    return siglip.with_sigmoid(_softmax(512))


def smoke() -> Experiment:
    """Two steps, tiny."""
    return siglip.smoke()


def _softmax(batch_size: int) -> Experiment:
    peak = 1e-3 * (batch_size / 256) ** 0.5
    experiment = clip.frozen(batch_size)
    return config.override(experiment, {"optimizer.learning_rate.peak": peak})


RUNS = {
    f.__name__: f
    for f in (
        *(softmax_64, softmax_128, softmax_256, softmax_512),
        *(sigmoid_64, sigmoid_128, sigmoid_256, sigmoid_512),
    )
}


def run(argv: Sequence[str]) -> int:
    """All runs that have no record, then the table and the plot."""
    parser = argparse.ArgumentParser(prog="python -m experiments.contrastive_study run")
    parser.add_argument("--folder", default="runs/contrastive_study", help="where the runs lie")
    parser.add_argument("--results", default=RESULTS, help="where their records lie")
    parser.add_argument("--seeds", default="0", help="0,1,2: each of the runs with each of these")
    parser.add_argument("--table", action="store_true", help="only of what is recorded")
    options = parser.parse_args(argv)
    folder, results = Path(options.folder), Path(options.results)
    for seed in () if options.table else map(int, options.seeds.split(",")):
        for name, function in RUNS.items():
            if (name, seed) in _recorded(results):
                continue
            workdir = ["--workdir", str(folder / f"{name}.s{seed}")]
            for verb in (
                [name, "train", *workdir, "--seed", str(seed)],
                [name, "evaluate", *workdir, "--only", "test", "--record", str(results)],
            ):
                print(f"contrastive_study {' '.join(verb)}", file=sys.stderr, flush=True)
                code = command_line.main(function, argv=verb)
                if code:
                    return code
    folder.mkdir(parents=True, exist_ok=True)
    found = _recorded(results)
    (folder / "table.md").write_text(table(found))
    plot(found, folder / "recall.png")
    print(table(found), end="")
    return 0


def table(found: Mapping[tuple[str, int], Mapping[str, float]]) -> str:
    """Markdown: a row for each batch size and loss, mean and deviation over the seeds."""
    lines = [f"| pairs a batch | loss | {' | '.join(METRICS.values())} | seeds |"]
    lines += ["|---:|---|" + "---:|" * (len(METRICS) + 1)]
    for size in BATCH_SIZES:
        for loss in LOSSES:
            runs = [numbers for (name, _), numbers in found.items() if name == f"{loss}_{size}"]
            cells = [mean_and_deviation(key, [run[key] for run in runs]) for key in METRICS]
            lines.append(f"| {size} | {loss} | {' | '.join(cells)} | {len(runs) or ''} |")
    return "\n".join(lines) + "\n"


def plot(found: Mapping[tuple[str, int], Mapping[str, float]], path: Path) -> None:
    """Mean recall over the batch size, a curve a loss, a point a seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 3.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for colour, loss in enumerate(LOSSES):
        points: dict[int, list[float]] = {}
        for (name, _), numbers in found.items():
            if name.startswith(loss):
                points.setdefault(int(name.split("_")[1]), []).append(numbers["mean_recall"])
        means = {size: statistics.fmean(points[size]) for size in sorted(points)}
        axes.plot([*means], [*means.values()], color=f"C{colour}", marker="o", label=loss)
        for size, values in points.items():
            axes.plot([size] * len(values), values, ".", color=f"C{colour}", alpha=0.4)
    axes.set_xscale("log", base=2)
    axes.set_xticks(BATCH_SIZES, [str(size) for size in BATCH_SIZES])
    axes.set_xlabel("pairs a batch")
    axes.set_ylabel("mean recall, Flickr8k test")
    axes.grid(color="#e2dfd8", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    part = path.with_name(f"{path.name}.part")
    figure.savefig(part, format="png", facecolor="white")
    os.replace(part, path)


def _recorded(results: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """(function, seed) -> metrics of the runs of this study that are recorded on test."""
    mine = Path(__file__).stem
    return {
        (result["function"], result["seed"]): result["metrics"]
        for result in (read_results(results) if results.is_dir() else ())
        if (result["experiment"], result["split"]) == (mine, "test")
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        sys.exit(run(sys.argv[2:]))
    sys.exit(
        main(
            softmax_64,
            softmax_128,
            softmax_256,
            softmax_512,
            sigmoid_64,
            sigmoid_128,
            sigmoid_256,
            sigmoid_512,
            smoke,
        )
    )
