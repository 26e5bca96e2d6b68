"""What a run remembers beside its state, and what it says about itself: progress, log windows, run.json, failures."""

import collections
import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax import config
from vlm_jax.train.adapted import Adapted
from vlm_jax.train.checkpoints import Checkpoints, Mismatch, Restored, write_json
from vlm_jax.train.evaluation import Evaluation, Results
from vlm_jax.train.experiment import Best, Experiment
from vlm_jax.train.logs import Writer
from vlm_jax.train.state import State, count_parameters, float32, named_leaves
from vlm_jax.train.steps import gradient_sums, step_key, task_at
from vlm_jax.types import BASE

LAG = 2  # steps whose metrics may still be on the device: reading older ones does not hold the device up
MAX_LISTED = 20


class NonFiniteError(RuntimeError):
    """A loss or a gradient was nan or infinite, more often in a row than `max_skips` allows."""


@dataclasses.dataclass(kw_only=True)
class Progress:
    """What the loop knows beside state and position; saved with them, so that a resumed run logs and stops as
    an uninterrupted one."""

    window: dict[str, list[float]] = dataclasses.field(
        default_factory=dict
    )  # sums since the last log
    best: dict[str, Any] | None = None  # {"step": 300, "value": 48.1}
    since_best: int = 0  # evaluations without an improvement
    evaluated_step: int = -1
    evaluated_names: list[str] = dataclasses.field(default_factory=list)  # at evaluated_step
    metrics_bytes: int = 0  # length of metrics.jsonl

    def evaluated(self, step: int, name: str) -> bool:
        return step == self.evaluated_step and name in self.evaluated_names

    def note(self, experiment: Experiment, step: int, name: str, numbers: dict[str, float]) -> bool:
        """Remembers an evaluation; True where it is the best so far."""
        if step != self.evaluated_step:
            self.evaluated_step, self.evaluated_names = step, []
        self.evaluated_names.append(name)
        best = experiment.best
        if best is None:
            return False
        evaluation, _, metric = best.metric.rpartition("/")
        if name != (evaluation or experiment.evaluations[0].name):
            return False
        if metric not in numbers:
            raise ValueError(
                f"best.metric: given {best.metric!r}; the evaluation {name!r} has {', '.join(sorted(numbers))}"
            )
        value = float(numbers[metric])
        if best.better(value, self.best["value"] if self.best else None):
            self.best, self.since_best = {"step": step, "value": value}, 0
            return True
        self.since_best += 1
        return False

    def out_of_patience(self, best: Best | None) -> bool:
        return best is not None and best.patience is not None and self.since_best >= best.patience

    def finished(self, experiment: Experiment, step: int) -> bool:
        """Whether nothing is left to train."""
        return step >= experiment.num_steps or self.out_of_patience(experiment.best)


class Window:
    """The metrics of the steps since the last log line, summed exactly.

    A step's metrics are read `LAG` steps later, so that logging never waits for the device.
    """

    def __init__(self, experiment: Experiment, progress: Progress, writer: Writer, skipped: int):
        self._experiment, self._progress, self._writer = experiment, progress, writer
        self._skipped = skipped
        self._pending: collections.deque = collections.deque()
        self._since, self._steps, self._waiting = time.monotonic(), 0, 0.0

    def add(self, step: int, position: int, batch: Any, metrics: Any) -> None:
        """The metrics of the step that led from `step` to `step + 1`, with the batch at `position`."""
        self._pending.append((step, position, batch, metrics))
        while len(self._pending) > LAG:
            self._read()

    def settle(self) -> None:
        """Reads what is still on the device. Raises NonFiniteStep if a step failed."""
        while self._pending:
            self._read()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time in here was spent waiting for data."""
        start = time.monotonic()
        yield
        self._waiting += time.monotonic() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here does not count in the rate."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._since += time.monotonic() - start

    def _read(self) -> None:
        step, position, batch, metrics = self._pending.popleft()
        metrics = jax.device_get(metrics)
        if float(metrics.pop("finite").total) == 0.0:
            self._skipped += 1
            if self._skipped > self._experiment.max_skips:
                raise NonFiniteStep(step, position, batch)
            self._writer.message(
                f"step {step}: loss or gradient not finite, skipped ({self._skipped} in a row)"
            )
        else:
            self._skipped = 0
            for name, mean in metrics.items():
                sums = self._progress.window.setdefault(name, [0.0, 0.0])
                sums[0] += float(mean.total)
                sums[1] += float(mean.count)
        self._steps += 1
        if (step + 1) % self._experiment.log_every == 0:
            self._log(step + 1)

    def _log(self, step: int) -> None:
        sums = self._progress.window
        numbers = {
            name: total / count if count else float("nan") for name, (total, count) in sums.items()
        }
        numbers["learning_rate"] = float(self._experiment.optimizer.schedule(np.int32(step - 1)))
        seconds = max(time.monotonic() - self._since, 1e-9)
        numbers["steps_per_second"] = self._steps / seconds
        numbers["waiting_for_data"] = min(self._waiting / seconds, 1.0)
        self._writer.numbers(step, "train", numbers)
        self._progress.window = {}
        self._since, self._steps, self._waiting = time.monotonic(), 0, 0.0


class NonFiniteStep(Exception):
    def __init__(self, step: int, position: int, batch: Any):
        super().__init__(step)
        self.step, self.position, self.batch = step, position, batch


def restore(experiment: Experiment, files: Checkpoints, like: State) -> Restored | None:
    """The newest good checkpoint; one of another configuration is refused with what differs in both configs."""
    path = files.workdir / "config.json"
    try:
        return files.restore(like)
    except Mismatch as error:
        changed = config_changes(path, experiment) if path.exists() else []
        listed = "\n".join(f"  {line}" for line in changed[:10])
        raise Mismatch(
            f"{error}\nthe configs differ in:\n{listed}" if changed else str(error)
        ) from None


def describe(
    experiment: Experiment,
    workdir: Path,
    step: int,
    say: Callable[[str], None],
    *,
    finished: bool = False,
) -> None:
    """Writes config.json and run.json; says what changed in the config of a run that goes on.

    A `finished` run keeps those of the command that did it.
    """
    path, about_run = workdir / "config.json", workdir / "run.json"
    changed = config_changes(path, experiment)[:MAX_LISTED] if step and path.exists() else []
    for line in changed:
        say(f"changed since step {step} was saved: {line}")
    if finished and about_run.exists() and path.exists():
        if changed:
            say("nothing is left to train, so config.json stays as it was; try another workdir")
        return
    write_json(path, config.to_json(experiment))
    write_json(about_run, {**provenance(experiment.seed), "resumed_from": step or None})


def config_changes(path: Path, experiment: Experiment) -> list[str]:
    """`model.width: 32 -> 64` for each path where the file and the experiment differ."""
    old = dict(_flat(json.loads(path.read_text()), ""))
    new = dict(_flat(json.loads(json.dumps(config.to_json(experiment))), ""))
    absent = "absent"
    return [
        f"{name}: {old.get(name, absent)} -> {new.get(name, absent)}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, absent) != new.get(name, absent)
    ]


def provenance(seed: int) -> dict[str, Any]:
    """Seed, versions, commit, device and command line."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    versions = {"python": platform.python_version()}
    for package in ("vlm_jax", *packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    device = jax.devices()[0]
    return {
        "seed": seed,
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "commit": _commit(),
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": versions,
    }


def load_pretrained(
    init_params: Callable[[Any], Any] | None, model: Any, state: State, layout: Any
) -> State:
    """The state with `init_params(params)` in place of the drawn parameters; where it has a method `collections`, with
    its batch statistics and the like too. An adapted model begins from those of the model that it adapts."""
    if init_params is None:
        return state
    single = layout.single(state)
    adapted = isinstance(model, Adapted)
    drawn = dict(model.plain(single.variables) if adapted else single.variables)
    drawn_params = drawn.pop("params")
    params, collections = init_params(drawn_params), drawn
    if hasattr(init_params, "collections"):
        collections = init_params.collections(collections)
    ours = named_leaves(drawn_params) | named_leaves(drawn)
    theirs = named_leaves(params) | named_leaves(collections)
    wrong = [
        f"{name}: expected {_shape(ours.get(name))}, given {_shape(theirs.get(name))}"
        for name in sorted(ours.keys() | theirs.keys())
        if _shape(ours.get(name)) != _shape(theirs.get(name))
    ]
    if wrong:
        listed = "\n  ".join(wrong[:MAX_LISTED])
        raise ValueError(f"init_params returned other parameters than the model has:\n  {listed}")
    given = {"params": params, **collections}
    like = {"params": drawn_params, **drawn}
    variables = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), given, like)
    collections = dict(model.holding(single.variables, variables) if adapted else variables)
    params = collections.pop("params")
    ema = None if single.ema is None else float32(params)
    return layout.place_state(single.replace(params=params, collections=collections, ema=ema))


def parameters(state: State) -> str:
    """How many there are, and how many beside them a run never changes."""
    number, base = count_parameters(state.params), state.collections.get(BASE)
    beside = f" beside {count_parameters(base):,} that stay" if base else ""
    return f"{number:,} parameters{beside}"


def report(evaluation: Evaluation, workdir: Path | None, step: int, results: Results) -> None:
    """Calls the evaluation's reports, which need a workdir."""
    if workdir is not None:
        for call in evaluation.reports:
            call(Path(workdir), step, evaluation.name, results.examples, results.numbers)


def explain(
    bad: NonFiniteStep,
    experiment: Experiment,
    state: State,
    key: jax.Array,
    workdir: Path | None,
) -> NonFiniteError:
    """The error that names step and first bad leaf, after saving the batch. `state` is the one the batch met."""
    leaf = first_bad_leaf(experiment, state, bad.batch, key)
    place = "; give train() a workdir to have the batch saved"
    if workdir is not None:
        path = workdir / f"non_finite_step_{bad.step}.npz"
        np.savez(path, **{name: np.asarray(x) for name, x in bad.batch.items()})
        place = (
            f"; the batch (position {bad.position}) is in {path}, the state that it met in checkpoint {bad.step}, "
            "so that starting again repeats this step. Lower the learning rate, clip the gradient, or allow "
            "max_skips"
        )
    return NonFiniteError(f"step {bad.step}: not finite, first in {leaf}{place}")


def first_bad_leaf(experiment: Experiment, state: State, batch: Any, key: jax.Array) -> str:
    """Where the first nan or infinity is: the batch, the parameters, the loss, its gradient, the collections."""
    optimizer = experiment.optimizer
    sums = gradient_sums(
        experiment.model,
        task_at(experiment.task, state.step),
        trainable=optimizer.trainable,
        accumulate=optimizer.accumulate,
    )
    grads, metrics, updated = jax.jit(sums)(
        state.params, state.collections, dict(batch), step_key(key, state.step)
    )
    places = {
        "batch": dict(batch),
        "params": state.params,
        "metrics": {name: mean.total for name, mean in metrics.items()},
        "gradient": grads,
        "collections": updated,
    }
    for place, tree in places.items():
        for name, leaf in named_leaves(tree).items():
            array = np.asarray(leaf)
            if (
                jnp.issubdtype(array.dtype, jnp.floating)
                and not np.isfinite(array.astype(np.float64)).all()
            ):
                return f"{place} {name}"
    return "the global norm of the gradient (every leaf is finite, its square is not)"


def _shape(leaf: Any) -> Any:
    return None if leaf is None else tuple(np.shape(leaf))


def _flat(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict | list) and node:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, child in items:
            yield from _flat(child, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node


def _commit() -> str | None:
    """The commit of the folder that the package lies in, with '+' where files differ from it."""
    folder = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None
