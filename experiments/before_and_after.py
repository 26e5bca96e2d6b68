"""Two captioners beside each other: what they write for the same pictures, in one page and one table.

    python -m experiments.before_and_after runs/init_inject runs/self_critical test

Writes before_and_after_test.html into the second folder: the pictures whose caption gained most CIDEr, those that lost
most, and some at random, each with the caption before, the caption after, and what people wrote.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlm_jax.commands.command import UserError
from vlm_jax.commands.workdirs import experiment_of, variables_of
from vlm_jax.metrics.base import total
from vlm_jax.metrics.captioning import CaptionMetrics
from vlm_jax.metrics.cider import Cider
from vlm_jax.metrics.distinct import Distinct
from vlm_jax.metrics.endings import Endings
from vlm_jax.metrics.lengths import Lengths
from vlm_jax.report.gallery import Item, pictures_by_id, write_gallery
from vlm_jax.train import checkpoints
from vlm_jax.train.evaluation import evaluate

METRICS = CaptionMetrics(metrics=(*CaptionMetrics().metrics, Distinct(), Lengths(), Endings()))


def compare(before: Path, after: Path, name: str = "test") -> Path:
    """The path of the page; the table goes to the terminal."""
    old, source = captions(before, name)
    new, _ = captions(after, name)
    references = source.references
    columns = [numbers(written, references) for written in (old, new)]
    print(f"{'':16} {before.name[:24]:>24} {after.name[:24]:>24}")
    for metric in columns[0]:
        print(f"{metric:16} {columns[0][metric]:24.2f} {columns[1][metric]:24.2f}")
    scores = [each(written, references) for written in (old, new)]
    pictures = pictures_by_id(source)
    items = [
        Item(
            image=pictures(i),
            caption=new[i],
            references=(f"before: {old[i]}", *references[i]["captions"]),
            scores={
                "gain": scores[1][i] - scores[0][i],
                "before": scores[0][i],
                "after": scores[1][i],
            },
            name=f"id {i}",
        )
        for i in old
    ]
    path = after / f"before_and_after_{name}.html"
    write_gallery(path, items, f"{before.name} -> {after.name}: {name}", columns[1])
    return path


def captions(workdir: Path, name: str) -> tuple[dict[int, str], Any]:
    """What the best checkpoint of a run writes in one of its evaluations, by id, and the source of the pictures."""
    experiment = experiment_of(workdir, "experiments")
    known = {evaluation.name: evaluation for evaluation in experiment.evaluations}
    if name not in known:
        raise UserError(f"{workdir} has no evaluation {name!r}; it has {', '.join(known)}")
    variables, _ = variables_of(workdir, None)
    found = evaluate(known[name], experiment.model, experiment.task, variables)
    return {e["id"]: e["prediction"] for e in found.examples}, known[name].data.source


def numbers(written: Mapping[int, str], references: Mapping[int, Any]) -> dict[str, float]:
    return METRICS.result(
        total(METRICS.stats(text, references[i]["captions"]) for i, text in written.items())
    )


def each(written: Mapping[int, str], references: Mapping[int, Any]) -> dict[int, float]:
    """CIDEr of each picture's caption, by id."""
    stats = (Cider().stats(text, references[i]["captions"]) for i, text in written.items())
    return dict(zip(written, Cider().scores(total(stats))))


def command(arguments: Sequence[str]) -> int:
    if len(arguments) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(compare(*map(Path, arguments[:2]), *arguments[2:]))
    except (UserError, checkpoints.CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
