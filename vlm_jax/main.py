"""The command line that every experiment file shares.

    python -m experiments.show_attend_and_tell [FUNCTION] train    --workdir runs/sat --model.decoder.width 512
    python -m experiments.show_attend_and_tell [FUNCTION] evaluate --workdir runs/sat [--record]
    python -m experiments.show_attend_and_tell [FUNCTION] predict  IMAGE... --workdir runs/sat
    python -m experiments.show_attend_and_tell [FUNCTION] describe

An experiment file ends with `main(paper, scenes, smoke)`; the first function is the default.
"""

import argparse
import dataclasses
import datetime
import inspect
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vlm_jax import config

ABOUT = "about.json"  # which function of which experiment file a workdir belongs to
VERBS = ("train", "evaluate", "predict", "describe")


def main(*experiments: Callable[[], Any], argv: Sequence[str] | None = None) -> int:
    """Runs one verb of one experiment; returns the exit code. Errors of the user end with one line and code 2."""
    argv = list(sys.argv[1:] if argv is None else argv)
    functions = {function.__name__: function for function in experiments}
    home = inspect.getmodule(experiments[0])
    try:
        options, pictures, changes = _parse(argv, functions, home)
        build = functions[options.function]
        run = {
            "train": _train,
            "evaluate": _evaluate,
            "predict": _predict,
            "describe": _describe,
        }[options.verb]
        return run(build, home, options, pictures, changes, argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


class UserError(Exception):
    """A message for the person at the terminal; no traceback."""


# ---- verbs


def _train(build, home, options, pictures, changes, argv) -> int:
    from vlm_jax.train import logs, loop
    from vlm_jax.train.checkpoints import CheckpointError, Locked
    from vlm_jax.train.runs import NonFiniteError

    _no_pictures(pictures, "train")
    experiment = _changed(build(), changes)
    workdir = Path(options.workdir) if options.workdir else None
    if workdir is not None:
        workdir.mkdir(parents=True, exist_ok=True)
        about = {
            "experiment": _name(home),
            "function": options.function,
            "command": shlex.join(["python", "-m", _module(home), *argv]),
        }
        (workdir / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
    try:
        loop.train(experiment, workdir, logs.Console())
    except (NonFiniteError, CheckpointError, Locked, ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
    return 0


def _evaluate(build, home, options, pictures, changes, argv) -> int:
    from vlm_jax.train import evaluation as evaluations
    from vlm_jax.train import runs

    _no_pictures(pictures, "evaluate")
    experiment, variables, step = _trained(options, changes)
    chosen = [
        e for e in experiment.evaluations if not options.only or e.name in options.only.split(",")
    ]
    if not chosen:
        names = ", ".join(e.name for e in experiment.evaluations)
        raise UserError(f"--only {options.only}: this experiment evaluates {names}")
    for evaluation in chosen:
        found = evaluations.evaluate(
            evaluation, experiment.model, experiment.task, variables, seed=experiment.seed
        )
        numbers = found.numbers
        runs.report(evaluation, Path(options.workdir), step, found)
        print(json.dumps({"evaluation": evaluation.name, "step": step, **_rounded(numbers)}))
        if options.record:
            path = _record(home, options, experiment, variables, evaluation, numbers)
            print(f"recorded {path}")
    return 0


def _predict(build, home, options, pictures, changes, argv) -> int:
    from vlm_jax.data import source as sources
    from vlm_jax.train.evaluation import Evaluation, evaluate

    if not pictures:
        raise UserError("predict needs picture files: predict a.jpg b.png --workdir DIR")
    missing = [name for name in pictures if not Path(name).is_file()]
    if missing:
        raise UserError(f"no such picture: {', '.join(missing[:5])}")
    experiment, variables, step = _trained(options, changes)
    if not experiment.evaluations:
        raise UserError("this experiment has no evaluation to take its preprocessing from")
    pipeline = experiment.evaluations[0].data
    pipeline = dataclasses.replace(
        pipeline,
        source=sources.replace_source(pipeline.source, sources.Pictures(paths=tuple(pictures))),
        batch_size=min(pipeline.batch_size, max(8, len(pictures))),
    )
    captions = Evaluation(name="predict", data=pipeline, loss=False, reports=(_nothing,))
    task = dataclasses.replace(experiment.task, metrics=())
    examples = evaluate(captions, experiment.model, task, variables, seed=experiment.seed).examples
    found = {example["id"]: example for example in examples}
    for number, name in enumerate(pictures):
        if number in found:
            print(f"{name}\t{found[number]['prediction']}")
        else:
            print(f"{name}\t(skipped: this picture cannot be read)")
    if options.attention:
        _attention_sheets(found, pictures, Path(options.attention))
    return 0


def _describe(build, home, options, pictures, changes, argv) -> int:
    _no_pictures(pictures, "describe")
    experiment = _changed(build(), changes)
    if options.workdir:
        experiment, _, _ = _trained(options, changes)
    from vlm_jax.report.modules import module_table

    batch = next(iter(experiment.train_data.batches()))[1]
    print(module_table(experiment.model, batch))
    return 0


# ---- pieces


def _trained(options, changes):
    """The experiment, the variables and the step of a workdir."""
    from vlm_jax.train import checkpoints

    if not options.workdir:
        raise UserError("--workdir DIR is needed: the folder that train wrote")
    workdir = Path(options.workdir)
    if not (workdir / "config.json").is_file():
        raise UserError(f"{workdir} has no config.json; train first with the same --workdir")
    experiment = _changed(checkpoints.load_experiment(workdir), changes)
    step = int(options.step) if options.step and options.step.isdigit() else options.step
    variables, step = checkpoints.load_variables(workdir, step)
    return experiment, variables, step


def _attention_sheets(found, pictures, folder):
    from vlm_jax.report import attention

    if not any("attention" in example for example in found.values()):
        raise UserError("--attention: this model has no attention over the picture to show")
    folder.mkdir(parents=True, exist_ok=True)
    for number, example in found.items():
        path = folder / (Path(pictures[number]).stem + ".png")
        image = attention.read_image(pictures[number])
        attention.attention_sheet(image, example["words"], example["attention"], path)
        print(f"wrote {path}")


def _nothing(*_):
    """A report: with one, an evaluation keeps its examples."""


def _record(home, options, experiment, variables, evaluation, numbers) -> Path:
    """Writes experiments/results/<experiment>.<function>.<dataset>.s<seed>.json of this run."""
    import jax

    workdir = Path(options.workdir)
    run = json.loads((workdir / "run.json").read_text())
    dataset, split = evaluation.data.source.dataset, evaluation.data.source.split
    about = json.loads((workdir / ABOUT).read_text()) if (workdir / ABOUT).is_file() else {}
    result = {
        "experiment": about.get("experiment", _name(home)),
        "function": about.get("function", options.function),
        "dataset": dataset,
        "split": split,
        "seed": experiment.seed,
        "commit": run.get("commit"),
        "command": about.get("command", run.get("command")),
        "device": run.get("device"),
        "hours": _hours(workdir),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        "metrics": _rounded(numbers),
        "recorded": datetime.date.today().isoformat(),
    }
    name = "{experiment}.{function}.{dataset}.s{seed}".format(**result)
    if split != "test":
        name = "{experiment}.{function}.{dataset}-{split}.s{seed}".format(**result)
    folder = Path(options.record)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path


def _rounded(numbers):
    return {name: float(f"{value:.5g}") for name, value in sorted(numbers.items())}


def _name(home) -> str:
    return _module(home).split(".")[-1]


def _module(home) -> str:
    return home.__spec__.name if getattr(home, "__spec__", None) else home.__name__


def _changed(experiment, changes):
    try:
        return config.override(experiment, changes)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(str(error)) from error


def _no_pictures(pictures, verb):
    if pictures:
        raise UserError(f"{verb} takes no file names, given {' '.join(pictures)}")


def _parse(argv, functions, home):
    names = ", ".join(functions)
    parser = argparse.ArgumentParser(
        prog=f"python -m {_module(home)}",
        description=(home.__doc__ or "").strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
        usage="%(prog)s [FUNCTION] train|evaluate|predict|describe [IMAGE ...] --workdir DIR [--path value ...]",
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--workdir", help="where config, checkpoints, logs and galleries are")
    parser.add_argument(
        "--step", help="which checkpoint: a number, best or latest (the default: best)"
    )
    parser.add_argument("--only", help="evaluate: names of evaluations, separated by commas")
    parser.add_argument(
        "--record",
        nargs="?",
        const="experiments/results",
        help="evaluate: write the result file of this run (into this folder)",
    )
    parser.add_argument(
        "--attention", help="predict: a folder for pictures of where each word looked"
    )
    parser.add_argument(
        "--help", "-h", action="store_true", help="this text and every path with its value"
    )
    known, rest = parser.parse_known_args(argv)
    words = list(known.words)
    known.function = words.pop(0) if words and words[0] in functions else next(iter(functions))
    known.verb = words.pop(0) if words and words[0] in VERBS else None
    changes, loose = _changes(rest)
    if known.help:
        _help(parser, functions, known.function)
        raise SystemExit(0)
    if known.verb is None:
        given = words[0] if words else "nothing"
        raise UserError(
            f"expected [FUNCTION] and one of {', '.join(VERBS)}; given {given}. Functions of this file: {names}"
        )
    return known, words + loose, changes


def _changes(rest):
    """`--a.b 3 --c=4` -> {'a.b': '3', 'c': '4'}; what belongs to no flag is returned beside it."""
    changes, loose = {}, []
    items = iter(rest)
    for item in items:
        if not item.startswith("--"):
            loose.append(item)
            continue
        path, equals, value = item[2:].partition("=")
        if not equals:
            value = next(items, None)
            if value is None or value.startswith("--"):
                raise UserError(f"--{path} needs a value: --{path} VALUE")
        changes[path] = value
    return changes, loose


def _help(parser, functions, chosen):
    parser.print_help()
    print("\nfunctions of this file (the first is the default):")
    for name, function in functions.items():
        summary = (inspect.getdoc(function) or "").split("\n")[0]
        print(f"  {name:20s} {summary}")
    print(f"\nevery path of {chosen}, with its present value (change it with --path value):")
    for line in config.describe(functions[chosen]()).splitlines():
        print(f"  --{line}")
