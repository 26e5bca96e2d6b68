"""What a workdir holds: the experiment that was trained in it, and its checkpoints."""

import json
import sys
from pathlib import Path
from typing import Any

from vlm_jax import config
from vlm_jax.commands.command import Command, UserError, changed
from vlm_jax.commands.saved import with_saved_statistics, with_saved_tokenizers

ABOUT = "about.json"  # which function of which experiment file a workdir belongs to


def trained(command: Command) -> tuple[Any, Path]:
    """The experiment of a workdir, with the changes of the command line, and the workdir."""
    workdir = command.workdir
    if workdir is None:
        raise UserError("--workdir DIR is needed: the folder that train wrote")
    check_about(command, workdir)
    if command.arguments:
        raise UserError(
            f"--{next(iter(command.arguments))} is an argument of {command.chosen}, chosen when the run begins; "
            f"{workdir} has its own"
        )
    yours = command.module.split(".")[0]  # its names, where it is your file
    return changed(experiment_of(workdir, yours), command.changes), workdir


def meant(command: Command) -> Any:
    """The experiment of the function, enough to see what kind it is; where that cannot be made, such as of a folder that
    is not there, the workdir's."""
    try:
        return command.build()
    except (UserError, ValueError, OSError):
        if command.workdir is None or not (command.workdir / "config.json").is_file():
            raise
        return trained(command)[0]


def experiment_of(workdir: Path, *packages: str) -> Any:
    """The experiment of a workdir with its tokenizers and statistics; names of `packages` may stand in it."""
    if not (workdir / "config.json").is_file():
        raise UserError(f"{workdir} has no config.json; train first with the same --workdir")
    node = json.loads((workdir / "config.json").read_text())
    experiment = config.from_json(node, packages=(*config.KNOWN_PACKAGES, *packages))
    return with_saved_statistics(with_saved_tokenizers(experiment, workdir), workdir)


def check_about(command: Command, workdir: Path) -> None:
    """Refuses the workdir of another experiment, or of another function that was asked for by name."""
    path = workdir / ABOUT
    if not path.is_file():
        return
    about = json.loads(path.read_text())
    asked = command.chosen if command.verb == "train" else command.function or about["function"]
    if (about["experiment"], about["function"]) != (command.name, asked):
        raise UserError(
            f"{workdir} belongs to {about['experiment']} {about['function']}, given {command.name} {asked}; "
            "choose another --workdir"
        )


def variables_of(workdir: Path, step: str | None) -> tuple[Any, int]:
    """The variables of a checkpoint, and its step. None is the best, or the newest where none is called best."""
    from vlm_jax.train import checkpoints

    found = checkpoints.steps(workdir / "checkpoints")
    if not found:
        raise UserError(f"{workdir} has no checkpoint yet; it has one after checkpoint_every steps")
    if step in (None, "best"):
        best = checkpoints.best_step(workdir)
        wanted = found[::-1] if best is None else [best]
    elif step == "latest":
        wanted = found[::-1]
    elif step.isdigit() and int(step) in found:
        wanted = [int(step)]
    elif step.startswith("last-") and step[5:].isdigit() and 0 < int(step[5:]) <= len(found):
        newest = found[-int(step[5:]) :]
        return checkpoints.average_variables(workdir, newest), newest[-1]
    else:
        steps = ", ".join(map(str, found))
        raise UserError(
            f"--step: given {step}, expected best, latest, one of {steps}, or last-1 to last-{len(found)}, the mean of "
            "so many of them (--keep_checkpoints says in training how many are kept)"
        )
    for number in wanted:
        try:
            return checkpoints.load_variables(workdir, number), number
        except checkpoints.Damaged as error:
            print(f"step {number} is damaged and left out: {error}", file=sys.stderr)
    raise UserError(f"{workdir}: none of the checkpoints {wanted} can be read; try --step latest")


def chosen_evaluations(experiment: Any, only: str | None) -> list[Any]:
    """Those whose names are in `only`, separated by commas; None are all."""
    known = {evaluation.name: evaluation for evaluation in experiment.evaluations}
    names = list(known) if only is None else only.split(",")
    for name in names:
        if name not in known:
            raise UserError(f"--only: given {name}, expected one of {', '.join(known)}")
    if not names:
        raise UserError("this experiment has no evaluations")
    return [known[name] for name in dict.fromkeys(names)]
