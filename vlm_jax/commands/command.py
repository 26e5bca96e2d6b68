"""What was typed: a verb of an experiment file, its words, its options, and changes of the experiment."""

import dataclasses
import difflib
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vlm_jax import config

RESULTS = "experiments/results"


class Option(NamedTuple):
    """`value` is what it is called (None: it takes none); the verbs that take it, all where none is named."""

    value: str | None
    meaning: str
    verbs: tuple[str, ...] = ()


E, P, S = "evaluate", "predict", "search"
OPTIONS = {
    "workdir": Option("DIR", "where config, checkpoints, logs and galleries are"),
    "step": Option(
        "STEP", "a number, latest, last-5 (their mean), or best (the default)", (E, P, S)
    ),
    "only": Option(
        "NAMES", "the names of evaluations, separated by commas; search: of one", (E, S)
    ),
    "record": Option("[DIR]", f"write the result file of this run (into {RESULTS})", (E,)),
    "json": Option(None, "a JSON object a line, with all that is known of each", (P, S)),
    "file": Option("FILE", "texts, one a line; - is the standard input", (P, S)),
    "classes": Option("NAMES", "which of these a picture shows, for a model of two towers", (P,)),
    "clip_score": Option("DIR", "CLIPScore of captions, by the two towers of that workdir", (E,)),
    "judge": Option(
        "DIR", "pictures that were made, by the classifier or captioner of that workdir", (E,)
    ),
    "nearest": Option(
        None, "the training pictures nearest to those made, as numbers and a page", (E,)
    ),
    "int8": Option(
        None, "with the kernels in int8; evaluate measures both, and so what that costs", (E, P)
    ),
    "question": Option("TEXT", "what is asked about each picture", (P,)),
    "prompt": Option("TEXT", "makes pictures of it, and writes them as a contact sheet", (P,)),
    "count": Option("N", "with --prompt: how many pictures", (P,)),
    "to": Option("TEXT", "with --prompt: goes from the one prompt to this one", (P,)),
    "steps": Option("N", "with --to: how many pictures from the one prompt to the other", (P,)),
    "sheet": Option(
        "FILE", "with --prompt: the PNG to write (into the workdir, by the prompt)", (P,)
    ),
    "attention": Option(
        "DIR", "also write pictures of where each word, or the answer, looked", (P,)
    ),
    "traceback": Option(None, "show where an error comes from"),
    "help": Option(None, "this text, and every path with its value"),
}


class UserError(Exception):
    """A message for the person at the terminal; no traceback."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """What was typed, and the experiment file that it was typed for."""

    module: str  # 'experiments.show_and_tell'
    doc: str
    functions: Mapping[str, Callable[[], Any]]
    argv: Sequence[str]
    verb: str | None
    function: str | None  # None: not named, so the default, or that of the workdir
    words: Sequence[str]  # what is left: the pictures, or the texts
    options: Mapping[str, str]
    changes: Mapping[str, str]  # path -> value
    arguments: Mapping[str, Any]  # of the function: `rand(fold=3)` for --fold 3

    @property
    def name(self) -> str:
        return self.module.split(".")[-1]

    @property
    def chosen(self) -> str:
        return self.function or next(iter(self.functions))

    @property
    def workdir(self) -> Path | None:
        given = self.options.get("workdir")
        return Path(given) if given else None

    def build(self) -> Any:
        """The experiment of the function, with the changes."""
        return changed(self.functions[self.chosen](**self.arguments), self.changes)

    def about(self) -> dict[str, str]:
        return {
            "experiment": self.name,
            "function": self.chosen,
            "command": shlex.join(["python", "-m", self.module, *self.argv]),
        }

    def refuse_options(self) -> None:
        """Those of other verbs: what is typed is never passed over."""
        for name in self.options:
            verbs = OPTIONS[name].verbs
            if self.verb is not None and verbs and self.verb not in verbs:
                raise UserError(f"--{name} is for {' and '.join(verbs)}, given with {self.verb}")

    def refuse_words(self) -> None:
        """For the verbs that are not about pictures or texts."""
        if self.words:
            given = " ".join(self.words)
            order = f"; write {self.words[0]} {self.verb}"
            hint = order if self.words[0] in self.functions else ""
            raise UserError(f"{self.verb} takes no file names, given {given}{hint}")


def changed(experiment: Any, changes: Mapping[str, str]) -> Any:
    """The experiment with the values at these paths. Raises UserError, naming the nearest path or option."""
    for path, value in changes.items():
        try:
            experiment = config.override(experiment, {path: value})
        except KeyError as error:
            near = difflib.get_close_matches(path, OPTIONS, n=1, cutoff=0.75)
            if near and "Nearest" not in str(error):
                raise UserError(f"unknown option --{path}; nearest: --{near[0]}") from None
            raise UserError(str(error)) from None
        except (TypeError, ValueError) as error:
            raise UserError(str(error)) from error
    return experiment
