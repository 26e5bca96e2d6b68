"""Parameters of a run that is over, as the beginning of another."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from vlm_jax.train.checkpoints import load_variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class FromRun:
    """`Experiment.init_params`: what the run in `workdir` would be evaluated with, its moving average where it has one.

    `step` None takes its best checkpoint, or the newest where none is called best. Statistics of its batch
    normalisations come along. The loop refuses parameters of other names or shapes, naming each. With a `tokenizer`, a
    run whose rows stand for other words is refused too, which no shape would show.
    """

    workdir: str
    step: int | None = None
    tokenizer: Any = None

    def __call__(self, params: Any) -> Any:
        self._check_words()
        return load_variables(Path(self.workdir), self.step)["params"]

    def collections(self, collections: Any) -> Any:
        """The other collections, of the same names, of that run."""
        found = load_variables(Path(self.workdir), self.step)
        missing = sorted(name for name in collections if name not in found)
        if missing:
            raise ValueError(f"{self.workdir} has no {missing[0]!r}, which this model has")
        return {name: found[name] for name in collections}

    def _check_words(self) -> None:
        saved = Path(self.workdir) / "tokenizer.json"
        if self.tokenizer is None or not saved.exists():
            return
        with tempfile.TemporaryDirectory() as folder:
            ours = Path(folder) / "tokenizer.json"
            self.tokenizer.save(ours)
            if ours.read_bytes() != saved.read_bytes():
                raise ValueError(
                    f"{saved} has other words than {type(self.tokenizer).__name__} has here; begin with a run on the "
                    "same captions"
                )
