"""The curves of a run: loss, learning rate and evaluation metrics over steps, from its metrics.jsonl."""

import collections
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

FIRST = ("loss", "perplexity", "learning_rate")  # the order of the panels; the others by alphabet
_NOT_CURVES = ("step", "name", "kind")
PANEL = (4.6, 3.1)  # inches
AROUND = (0.62, 0.12, 0.46, 0.3)  # of them beside the curves: left, right, below, above
_SMOOTHED = 60  # more points than this get a running mean

# metric -> series ("train", or the name of an evaluation) -> (steps, values)
Curves = dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]


def write_curves(metrics_path: str | os.PathLike, png_path: str | os.PathLike) -> None:
    """Writes a PNG with one panel a metric. `metrics_path` has a line `{"step": 50, "name": "train", "loss": 4.2}`
    for each time that something was measured."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    curves, unreadable = read_curves(metrics_path)
    names = [name for name in FIRST if name in curves]
    names += sorted(name for name in curves if name not in FIRST)
    series = sorted({one for panel in curves.values() for one in panel}, key=_train_first)
    found = [steps[-1] for panel in curves.values() for steps, _ in panel.values()]
    last = max([1, *found])
    columns = min(3, max(1, len(names)))
    rows = max(1, -(-len(names) // columns))
    # Places that are given: to find them by drawing everything first takes most of the time.
    (wide, high), (left, right, bottom, top) = PANEL, AROUND
    width, height = wide * columns, high * rows
    figure = Figure(figsize=(width, height), dpi=110)
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        bottom=bottom / height,
        top=1 - top / height,
        wspace=(left + right) / (wide - left - right),
        hspace=(bottom + top) / (high - bottom - top),
    )
    if not names:
        figure.text(0.5, 0.5, "no numbers yet", ha="center", va="center", color="#686d76")
    for index, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.set_title(name, fontsize=11, loc="left", parse_math=False)
        for one, (steps, values) in curves[name].items():
            smooth = (
                len(steps) > _SMOOTHED and name != "learning_rate"
            )  # which is known, not measured
            _draw(axes, steps, values, f"C{series.index(one) % 10}", one, smooth)
        if name == "perplexity":
            axes.set_yscale("log")
        else:
            axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.set_xlim(-0.02 * last, 1.02 * last)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.grid(color="#e2dfd8", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        if index >= len(names) - columns:
            axes.set_xlabel("step", fontsize=9)
        if len(series) > 1:
            axes.legend(fontsize=8, frameon=False)
    if unreadable:
        figure.text(
            0.99, 0.005, f"{unreadable} unreadable lines left out", ha="right", fontsize=8, color="#b3492f"
        )  # fmt: skip
    Path(png_path).parent.mkdir(parents=True, exist_ok=True)
    part = f"{png_path}.part"
    figure.savefig(part, format="png", facecolor="white")
    os.replace(part, png_path)


def read_curves(path: str | os.PathLike) -> tuple[Curves, int]:
    """The curves, and the number of lines that are no JSON object with a step.

    A last line without its end of line, as a killed run leaves it, is not counted. Where a step was measured twice
    (a run that went back to a checkpoint), the later line holds. What is not finite leaves a gap.
    """
    found: dict[str, dict[str, dict[int, float]]] = collections.defaultdict(
        lambda: collections.defaultdict(dict)
    )
    unreadable = 0
    lines = Path(path).read_bytes().split(b"\n")
    for line in lines[:-1]:
        try:
            row = json.loads(line)
            step = row["step"]
        except (ValueError, KeyError, TypeError):
            unreadable += bool(line.strip())
            continue
        series = str(row.get("name", row.get("kind", "train")))
        for name, value in row.items():
            number = _number(value)
            if name not in _NOT_CURVES and number is not None:
                found[name][series][step] = number
    curves = {}
    for name, panel in found.items():
        curves[name] = {}
        for series in sorted(panel, key=_train_first):
            steps = sorted(panel[series])
            values = np.array([panel[series][step] for step in steps], np.float64)
            curves[name][series] = np.array(steps), values
    return curves, unreadable


def _draw(
    axes: Any, steps: np.ndarray, values: np.ndarray, colour: str, label: str, smooth: bool
) -> None:
    values = np.where(np.isfinite(values), values, np.nan)
    marker = "o" if len(steps) <= 30 else ""
    if smooth:
        axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.3)
        values = _running_mean(values, len(values) // 30)
    axes.plot(steps, values, color=colour, linewidth=1.5, marker=marker, markersize=3, label=label)


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of up to `width` values on either side, gaps left out."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    places = np.arange(len(values))
    low, high = np.maximum(places - width, 0), np.minimum(places + width + 1, len(values))
    count = counts[high] - counts[low]
    return np.where(count > 0, (sums[high] - sums[low]) / np.maximum(count, 1), np.nan)


def _number(value: Any) -> float | None:
    """A float of a number, or of what stands for nan and infinity in JSON."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and value.strip().lstrip("+-").lower() not in (
        "nan",
        "inf",
        "infinity",
    ):
        return None
    number = float(value)
    return number if math.isfinite(number) else math.nan


def _train_first(series: str) -> tuple[bool, str]:
    return series != "train", series
