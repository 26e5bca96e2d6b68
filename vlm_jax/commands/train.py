"""The verb `train`: the run of an experiment, and what is written beside it in its workdir."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from vlm_jax.commands.command import Command
from vlm_jax.commands.saved import save_statistics, save_tokenizers
from vlm_jax.commands.workdirs import ABOUT, check_about
from vlm_jax.train.logs import Console, Several, Tee, TensorBoard, Writer


def train(command: Command) -> None:
    """Trains in the workdir, from its newest checkpoint where it has one; without a workdir nothing is kept."""
    from vlm_jax.report import curves
    from vlm_jax.train import loop

    command.refuse_words()
    experiment, workdir = command.build(), command.workdir
    if workdir is None:
        print("no --workdir: nothing of this run will be kept", file=sys.stderr)
        loop.train(experiment, None, Console())
        return
    check_about(command, workdir)
    loop.train(experiment, workdir, Kept(experiment=experiment, about=Hashable(command.about())))
    curves.write_curves(workdir / "metrics.jsonl", workdir / "curves.png")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kept:
    """The log of a run with a workdir: console and TensorBoard. It is opened when the run holds the workdir, so
    this is also where about.json, the tokenizers and the statistics of cached features are written."""

    experiment: Any
    about: Any

    def open(self, workdir: Path, num_steps: int) -> Any:
        save_tokenizers(self.experiment, workdir)
        save_statistics(self.experiment, workdir)
        about = _About(workdir / ABOUT, dict(self.about), num_steps)
        shown = Several(logs=(Console(), TensorBoard())).open(workdir, num_steps)
        return Tee([about, shown])


class _About(Writer):
    """Writes the file, unless it is there and nothing is left to train: then it is about the run that did that."""

    def __init__(self, path: Path, about: dict[str, str], num_steps: int):
        self._path, self._about, self._num_steps = path, about, num_steps

    def start(self, step):
        from vlm_jax.train.checkpoints import write_json

        if step < self._num_steps or not self._path.exists():
            write_json(self._path, self._about)


class Hashable(dict):
    """A dict that a frozen dataclass may hold; it is never changed."""

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.items())))
