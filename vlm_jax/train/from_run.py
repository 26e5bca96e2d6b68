"""Parameters of a run that is over, as the beginning of another."""

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlm_jax import config
from vlm_jax.train.checkpoints import load_variables
from vlm_jax.types import BASE, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class FromRun:
    """`Experiment.init_params`: what the run in `workdir` would be evaluated with, its moving average where it has one.

    `step` None takes its best checkpoint, or the newest where none is called best. Statistics of its batch
    normalisations come along. The loop refuses parameters of other names or shapes, naming each. With a `tokenizer`, a
    run whose rows stand for other words is refused too, which no shape would show. Of a run with low-rank updates it
    takes the model that it adapted, the updates merged.
    """

    workdir: str
    step: int | None = None
    tokenizer: Any = None

    def __call__(self, params: Any) -> Any:
        _check_words(self.workdir, self.tokenizer)
        return _plain_variables(self.workdir, self.step)["params"]

    def collections(self, collections: Any) -> Any:
        """The other collections, of the same names, of that run."""
        found = _plain_variables(self.workdir, self.step)
        missing = sorted(name for name in collections if name not in found)
        if missing:
            raise ValueError(f"{self.workdir} has no {missing[0]!r}, which this model has")
        return {name: found[name] for name in collections}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartFromRun:
    """`Experiment.init_params`: the module called `part` (None: the whole model) as the run in `workdir` trained it, by
    itself, or where a `scope` is given as its part of that name; everything else as it was drawn. What of that run the
    part does not have is left out. With a `tokenizer`, a run whose rows stand for other words is refused.
    """

    workdir: str
    part: str | None = None
    scope: str | None = None
    step: int | None = None
    tokenizer: Any = None

    def __call__(self, params: Any) -> Any:
        _check_words(self.workdir, self.tokenizer)
        return self._placed("params", params, _plain_variables(self.workdir, self.step))

    def collections(self, collections: Any) -> Any:
        """The part's other collections, such as a codebook."""
        found = _plain_variables(self.workdir, self.step)
        return {
            name: self._placed(name, tree, found) if self.part in (None, *tree) else tree
            for name, tree in collections.items()
        }

    def _placed(self, name: str, tree: Any, found: Any) -> Any:
        if self.part not in (None, *tree):
            raise ValueError(
                f"PartFromRun(part={self.part!r}): the model has no such part; it has {', '.join(tree)}"
            )
        if name not in found:
            raise ValueError(f"{self.workdir} has no {name!r}, which {self._what} has")
        found, place = found[name], name
        if self.scope is not None:
            if self.scope not in found:
                raise ValueError(
                    f"PartFromRun(scope={self.scope!r}): {self.workdir} has no such part; it has {', '.join(found)}"
                )
            found, place = found[self.scope], f"{name}/{self.scope}"
        if self.part is None:
            return self._kept(found, tree, place)
        return {**tree, self.part: self._kept(found, tree[self.part], place)}

    @property
    def _what(self) -> str:
        return "the model" if self.part is None else self.part

    def _kept(self, found: Any, wanted: Any, place: str) -> Any:
        if not isinstance(wanted, Mapping):
            if found.shape != wanted.shape:
                raise ValueError(
                    f"{self.workdir} has {place} of shape {found.shape}, {self._what} has {wanted.shape}: it was trained "
                    "with other choices"
                )
            return found
        missing = [key for key in wanted if key not in found]
        if missing:
            raise ValueError(
                f"{self.workdir} has no {place}/{missing[0]}, which {self._what} has: it was trained with other choices"
            )
        return {key: self._kept(found[key], wanted[key], f"{place}/{key}") for key in wanted}


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariablesFromRun(PartFromRun):
    """`Encoded.init_params`: the same for parameters and all other collections, variables -> variables."""

    def __call__(self, variables: Any) -> Any:
        rest = {name: tree for name, tree in variables.items() if name != "params"}
        return {"params": super().__call__(variables["params"]), **self.collections(rest)}


def _plain_variables(workdir: str, step: int | None) -> Variables:
    """Those of the model itself, where the run adapted it."""
    variables = load_variables(Path(workdir), step)
    if BASE not in variables:
        return variables
    model = json.loads((Path(workdir) / "config.json").read_text())["model"]
    return config.from_json(model).plain(variables)


def _check_words(workdir: str, tokenizer: Any) -> None:
    """Refuses a run whose rows stand for other words than the tokenizer's, where there is one."""
    saved = Path(workdir) / "tokenizer.json"
    if tokenizer is None or not saved.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        ours = Path(folder) / "tokenizer.json"
        tokenizer.save(ours)
        if ours.read_bytes() != saved.read_bytes():
            raise ValueError(
                f"{saved} has other words than {type(tokenizer).__name__} has here; begin with a run on the "
                "same captions"
            )
