"""Runs of one experiment side by side: a table in Markdown and a picture, made from their result files."""

import dataclasses
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlm_jax.report.results import NAMES, mean_and_deviation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One function of an experiment: a value a seed, in the order of the seeds."""

    name: str
    values: Sequence[float]
    hours: Sequence[float] = ()


def rows_of(
    results: Iterable[Mapping[str, Any]],
    experiment: str,
    functions: Sequence[str],
    metric: str,
    split: str = "test",
) -> list[Row]:
    """The rows of these functions in their order, from what `read_results` found. A function without a run has none."""
    rows = []
    results = sorted(results, key=lambda result: result["seed"])
    for function in functions:
        wanted = {"experiment": experiment, "function": function, "split": split}
        runs = [r for r in results if wanted.items() <= r.items() and metric in r["metrics"]]
        hours = [run["hours"] for run in runs if run["hours"] is not None]
        rows.append(Row(name=function, values=[r["metrics"][metric] for r in runs], hours=hours))
    return rows


def markdown(rows: Sequence[Row], metric: str) -> str:
    """Mean +- standard deviation (n - 1) over seeds, and how far above the first row's mean."""
    lines = [
        f"| | {NAMES.get(metric, metric)} | against {rows[0].name} | seeds | minutes a run |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        gain = "" if row is rows[0] or not (row.values and rows[0].values) else _gain(row, rows[0])
        minutes = f"{60 * statistics.fmean(row.hours):.1f}" if row.hours else ""
        value = mean_and_deviation(metric, row.values)
        lines.append(f"| {row.name} | {value} | {gain} | {len(row.values)} | {minutes} |")
    return "\n".join(lines) + "\n"


def write_plot(path: str | os.PathLike, rows: Sequence[Row], metric: str, title: str) -> None:
    """A PNG with a line a row: a dot a seed, and a bar at their mean."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if row.values]
    figure = Figure(figsize=(6.4, 0.9 + 0.34 * len(rows)), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        axes.plot(row.values, [place] * len(row.values), "o", color="#7fa99b", markersize=5)
        mean = statistics.fmean(row.values)
        axes.plot([mean, mean], [place - 0.3, place + 0.3], color="#2f6f5e", linewidth=2.5)
    if rows:
        axes.axvline(statistics.fmean(rows[0].values), color="#b3492f", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(rows)), [row.name.replace("_", " ") for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(NAMES.get(metric, metric))
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)
    axes.grid(axis="x", color="#e2dfd8", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _gain(row: Row, first: Row) -> str:
    return f"{statistics.fmean(row.values) - statistics.fmean(first.values):+.1f}"
