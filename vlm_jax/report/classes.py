"""classes_<evaluation>.html: what was taken for what, how well each class is found, and the most confident mistakes."""

import collections
import dataclasses
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vlm_jax.report.gallery import Item, pictures_by_id, write_gallery

STYLE = """<style>
.tables { display: flex; flex-wrap: wrap; gap: 26px 48px; align-items: flex-start; }
.tables table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; background: var(--card); }
.tables div { overflow-x: auto; max-width: 100%; }
.tables caption { text-align: left; padding: 0 0 8px; color: var(--soft); }
.tables td, .tables th { padding: 4px 8px; border: 1px solid var(--line); text-align: right; font-weight: 400; min-width: 34px; }
.tables th { color: var(--soft); text-align: left; }
.tables thead th { text-align: right; vertical-align: bottom; }
.tables thead th.turned { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; padding: 8px 4px; }
.tables td.right { background: color-mix(in srgb, var(--good) calc(var(--share) * 75%), var(--card)); }
.tables td.wrong { background: color-mix(in srgb, var(--bad) calc(var(--share) * 300%), var(--card)); }
.tables td.none { color: transparent; }
</style>"""


class Score(NamedTuple):
    """Of one class, in percent; 0 where nothing was found or is to be found."""

    precision: float
    recall: float
    f1: float
    support: int  # examples that have this label


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassReport:
    """A report for `Evaluation(reports=(ClassReport(source=...),))`, over the examples of `Classification`.

    source: where the pictures are, by id; one that wraps another (cached features) is unwrapped.
    """

    source: Any
    mistakes: int = 24  # that are shown

    def __call__(
        self,
        workdir: Path,
        step: int,
        name: str,
        examples: Sequence[Mapping[str, Any]],
        numbers: Mapping[str, float],
    ) -> Path:
        pictures = pictures_by_id(self.source)
        mistakes, items = most_confident_mistakes(examples), []
        for example in mistakes[: self.mistakes]:
            said, gold = example["prediction"], example["label"]
            items.append(
                Item(
                    image=pictures(example["id"]),
                    caption=said,
                    references=(f"it is: {gold}",),
                    scores={
                        f"p({c})": round(example["probabilities"].get(c, 0.0), 3)
                        for c in (said, gold)
                    },
                    name=f"id {example['id']}",
                )
            )
        path = Path(workdir) / f"classes_{name}.html"
        told = f"{len(items)} of {len(mistakes):,}, the surest first"
        write_gallery(
            path,
            (),
            f"{Path(workdir).name}: {name} after {step} steps",
            numbers,
            before=tables(examples) if examples else "",
            sections=[("The most confident mistakes", told, items)] if items else [],
        )
        return path


def confusion(examples: Sequence[Mapping[str, Any]]) -> dict[str, collections.Counter]:
    """How often each label was taken for each class: {gold: {predicted: times}}, in the order of the classes; in that of
    their names where an example does not list all."""
    listed = list(examples[0]["probabilities"])
    names = dict.fromkeys(listed)
    for example in examples:
        names |= dict.fromkeys((example["label"], example["prediction"]))
    counts = {
        name: collections.Counter()
        for name in (listed if len(names) == len(listed) else sorted(names))
    }
    for example in examples:
        counts[example["label"]][example["prediction"]] += 1
    return counts


def scores(counts: Mapping[str, collections.Counter]) -> dict[str, Score]:
    """Precision tp / (tp + fp), recall tp / (tp + fn), and F1, 2 tp / (2 tp + fp + fn), of each class."""
    predicted = collections.Counter()
    for row in counts.values():
        predicted.update(row)
    found = {}
    for name, row in counts.items():
        right, support = row[name], row.total()
        found[name] = Score(
            precision=_percent(right, predicted[name]),
            recall=_percent(right, support),
            f1=_percent(2 * right, predicted[name] + support),
            support=support,
        )
    return found


def most_confident_mistakes(examples: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The examples that were taken for another class, the one with the highest probability first."""
    wrong = [example for example in examples if example["prediction"] != example["label"]]
    return sorted(wrong, key=lambda e: (-e["probabilities"][e["prediction"]], e["id"]))


def tables(examples: Sequence[Mapping[str, Any]]) -> str:
    """The confusion matrix and the table of classes, as HTML."""
    counts = confusion(examples)
    head = "".join(f'<th class="turned">{html.escape(name)}</th>' for name in counts)
    rows = "".join(_matrix_row(name, row, list(counts)) for name, row in counts.items())
    matrix = (
        f"<table><caption>a row: pictures of that class, by what they were taken for</caption>"
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )
    lines = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{s.precision:.1f}</td><td>{s.recall:.1f}</td><td>{s.f1:.1f}</td>"
        f"<td>{s.support:,}</td></tr>"
        for name, s in scores(counts).items()
    )
    per_class = (
        "<table><caption>percent, by class</caption><thead><tr><th></th><th>precision</th><th>recall</th><th>F1</th>"
        f"<th>pictures</th></tr></thead><tbody>{lines}</tbody></table>"
    )
    return (
        f'{STYLE}<section id="classes"><h2>Classes</h2><p>{len(examples):,} pictures</p>'
        f'<div class="tables"><div>{matrix}</div><div>{per_class}</div></div></section>\n'
    )


def _matrix_row(name: str, row: collections.Counter, names: Sequence[str]) -> str:
    cells = ""
    for guess in names:
        kind = "right" if guess == name else "wrong" if row[guess] else "none"
        share = row[guess] / max(row.total(), 1)
        cells += f'<td class="{kind}" style="--share: {share:.3f}">{row[guess]}</td>'
    return f"<tr><th>{html.escape(name)}</th>{cells}</tr>"


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
