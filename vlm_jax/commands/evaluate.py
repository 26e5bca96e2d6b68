"""The verb `evaluate`: the numbers of a run's checkpoint, printed, and recorded on request."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from vlm_jax.commands.command import RESULTS, Command
from vlm_jax.commands.pipelines import nothing, predictions
from vlm_jax.commands.workdirs import ABOUT, chosen_evaluations, trained, variables_of

MORE = {"clip_score", "judge", "nearest"}  # options that add numbers to those of an evaluation


def evaluate(command: Command) -> None:
    """Prints the numbers of each evaluation as one JSON object, and writes its pages into the workdir."""
    from vlm_jax.commands import pictures
    from vlm_jax.report import record
    from vlm_jax.train import evaluation as evaluations
    from vlm_jax.train import runs

    command.refuse_words()
    experiment, workdir = trained(command)
    chosen = chosen_evaluations(experiment, command.options.get("only"))
    if "record" in command.options:
        for evaluation in chosen:
            record.dataset_and_split(evaluation)  # refuses now what it would refuse after an hour
    judge = (
        pictures.Judge.of(Path(command.options["judge"])) if "judge" in command.options else None
    )
    variables, step = variables_of(workdir, command.options.get("step"))
    measured = []
    for evaluation in chosen:
        if MORE & command.options.keys():
            evaluation = dataclasses.replace(evaluation, reports=evaluation.reports or (nothing,))
        found = evaluations.evaluate(
            evaluation, experiment.model, experiment.task, variables, seed=experiment.seed
        )
        if "clip_score" in command.options and found.examples:
            from vlm_jax.commands import two_towers

            folder = Path(command.options["clip_score"])
            found = two_towers.with_clip_scores(folder, evaluation, found)
        if judge is not None:
            found = pictures.judged(judge, evaluation, found)
        if "nearest" in command.options:
            found = pictures.with_nearest(workdir, experiment.train_data, evaluation, found)
        numbers = record.rounded(found.numbers)
        signed = _signature(evaluation.task or experiment.task, judge) if evaluation.predict else {}
        about = {"evaluation": evaluation.name, "step": step}
        print(json.dumps({**about, **numbers, **signed}), flush=True)
        try:
            runs.report(evaluation, workdir, step, found)
        except OSError as error:
            print(f"{evaluation.name}: no page: {error}", file=sys.stderr)
        if "int8" in command.options:
            print(json.dumps({**about, **_in_int8(experiment, evaluation, variables)}), flush=True)
        measured.append((evaluation, found.numbers))
    if "record" in command.options:
        run = _about_run(command, experiment, variables, workdir, judge)
        for path in record.write_results(command.options["record"] or RESULTS, run, measured):
            print(f"recorded {path}")


def _in_int8(experiment: Any, evaluation: Any, variables: Any) -> dict[str, Any]:
    """The numbers with the kernels in int8, and the megabytes of the weights so and before."""
    from vlm_jax.report import record
    from vlm_jax.train.evaluation import evaluate
    from vlm_jax.train.int8 import in_int8, size_in_bytes

    task = evaluation.task or experiment.task
    batch = dict(next(iter(evaluation.data.batches()))[1])

    def loss(model, variables):
        return task.loss(model, variables, batch, rngs={}, train=False)[1].metrics

    use = predictions(task, batch) if evaluation.predict else loss
    model, smaller = in_int8(experiment.model, variables, use)
    found = evaluate(evaluation, model, experiment.task, smaller, seed=experiment.seed)
    sizes = {"megabytes": size_in_bytes(smaller) / 1e6, "before": size_in_bytes(variables) / 1e6}
    return {"weights": "int8", **record.rounded(sizes), **record.rounded(found.numbers)}


def _about_run(
    command: Command, experiment: Any, variables: Any, workdir: Path, judge: Any
) -> dict[str, Any]:
    """What a result file says of the run."""
    from vlm_jax.report import record
    from vlm_jax.train.state import count_parameters, parameters_of

    run = json.loads((workdir / "run.json").read_text())
    about = command.about() | {"command": run["command"]}
    if (workdir / ABOUT).is_file():
        about = json.loads((workdir / ABOUT).read_text())
    # What was measured is not what was trained.
    if command.changes or {"step", *MORE} & command.options.keys():
        about["command"] += " && " + command.about()["command"]
    return {
        **about,
        **_signature(experiment.task, judge),
        "seed": run["seed"],
        "commit": run["commit"],
        "device": run["device"],
        "hours": record.hours_of_training(workdir / "metrics.jsonl"),
        "parameters": count_parameters(parameters_of(variables)),
    }


def _signature(task: Any, judge: Any) -> dict[str, str]:
    """How the metrics of a task are computed, where they say so, and by which other run."""
    signed = [m for m in getattr(task, "metrics", ()) if hasattr(m, "signature")]
    if hasattr(getattr(task, "ranking", None), "signature"):
        signed.append(task.ranking)
    parts = [each.signature() for each in signed] + ([judge.signature] if judge else [])
    return {"signature": " ".join(parts)} if parts else {}
