"""Runs of one experiment side by side: a table in Markdown and a picture, made from their result files."""

import dataclasses
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlm_jax.report.results import NAMES, mean_and_deviation

_OTHERS = ("#2f6f5e", "#d08a2e", "#b3492f", "#4b6aa8")  # colours


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One function of an experiment: a value a seed, in the order of the seeds."""

    name: str
    values: Sequence[float]
    hours: Sequence[float] = ()
    others: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)


def rows_of(
    results: Iterable[Mapping[str, Any]],
    experiment: str,
    functions: Sequence[str],
    metric: str,
    split: str = "test",
    dataset: str | None = None,
    others: Sequence[str] = (),
) -> list[Row]:
    """The rows of these functions in their order, from what `read_results` found. A function without a run has none.

    `dataset` None takes the runs on every data set; `others` are further metrics.
    """
    rows = []
    results = sorted(results, key=lambda result: result["seed"])
    for function in functions:
        wanted = {"experiment": experiment, "function": function, "split": split}
        wanted |= {"dataset": dataset} if dataset else {}
        runs = [r for r in results if wanted.items() <= r.items() and metric in r["metrics"]]
        hours = [run["hours"] for run in runs if run["hours"] is not None]
        values = {
            name: [r["metrics"][name] for r in runs if name in r["metrics"]]
            for name in (metric, *others)
        }
        rows.append(Row(name=function, values=values.pop(metric), hours=hours, others=values))
    return rows


def markdown(rows: Sequence[Row], metric: str) -> str:
    """Mean +- standard deviation (n - 1) over seeds, and how far above the first row's mean; then the other metrics."""
    others = "".join(f" {NAMES.get(name, name)} |" for name in rows[0].others)
    lines = [
        f"| | {NAMES.get(metric, metric)} | against {rows[0].name} |{others} seeds | minutes a run |",
        "|---|---:|---:|" + "---:|" * len(rows[0].others) + "---:|---:|",
    ]
    for row in rows:
        gain = "" if row is rows[0] or not (row.values and rows[0].values) else _gain(row, rows[0])
        minutes = f"{60 * statistics.fmean(row.hours):.1f}" if row.hours else ""
        value = mean_and_deviation(metric, row.values)
        others = "".join(f" {mean_and_deviation(*item)} |" for item in row.others.items())
        lines.append(f"| {row.name} | {value} | {gain} |{others} {len(row.values)} | {minutes} |")
    return "\n".join(lines) + "\n"


def write_plot(path: str | os.PathLike, rows: Sequence[Row], metric: str, title: str) -> None:
    """A PNG with a line a row: a dot a seed, and a bar at their mean. The other metrics, where there are any, stand beside
    it: a dot at the mean, a bar as long as the standard deviation on either side."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if row.values]
    others = list(rows[0].others) if rows else []
    size = (6.4 + 4.2 * bool(others), 0.9 + 0.34 * len(rows))
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    panels = figure.subplots(1, 1 + bool(others), sharey=True, squeeze=False)[0]
    for place, row in enumerate(rows):
        panels[0].plot(row.values, [place] * len(row.values), "o", color="#7fa99b", markersize=5)
        mean = statistics.fmean(row.values)
        panels[0].plot([mean, mean], [place - 0.3, place + 0.3], color="#2f6f5e", linewidth=2.5)
    for number, name in enumerate(others):
        known = [(place, row.others[name]) for place, row in enumerate(rows) if row.others[name]]
        panels[1].errorbar(
            [statistics.fmean(values) for _, values in known],
            [place + 0.2 * (number - (len(others) - 1) / 2) for place, _ in known],
            xerr=[statistics.stdev(v) if len(v) > 1 else 0.0 for _, v in known],
            fmt="o",
            markersize=4,
            color=_OTHERS[number % len(_OTHERS)],
            label=NAMES.get(name, name),
        )
    if others:
        panels[1].legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    if rows:
        panels[0].axvline(
            statistics.fmean(rows[0].values), color="#b3492f", linewidth=0.8, zorder=0
        )
    panels[0].set_yticks(range(len(rows)), [row.name.replace("_", " ") for row in rows])
    panels[0].invert_yaxis()
    panels[0].set_xlabel(NAMES.get(metric, metric))
    panels[0].set_title(title, loc="left", fontsize=11, parse_math=False)
    for axes in panels:
        axes.grid(axis="x", color="#e2dfd8", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _gain(row: Row, first: Row) -> str:
    return f"{statistics.fmean(row.values) - statistics.fmean(first.values):+.1f}"
