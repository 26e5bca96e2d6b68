"""A workdir: who runs in it, and checkpoints that are verified when they are read.

    workdir/lock                 pid, host and start of the run that holds it
    workdir/config.json          the experiment; run.json what it ran on; metrics.jsonl its numbers
    workdir/checkpoints/<step>/  Orbax: `state`, the leaves by path; `meta`, their shapes, dtypes and sha256
    workdir/checkpoints/base/    the same of the collection that no step changes, written once

Orbax alone restores a flipped bit without a word, casts float32 into bfloat16, and takes an empty folder for the
latest step. So every leaf carries a hash, a damaged step is left for the one before, and a checkpoint of another
model is refused with the paths that differ.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import logging
import os
import shutil
import socket
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax import config
from vlm_jax.train.faults import faultpoint
from vlm_jax.train.state import State, leaf_hash, named_leaves
from vlm_jax.types import BASE, CARRY, Variables

FORMAT = 1
UNCHANGING = f"collections/{BASE}/"  # leaves that no step changes
MAX_LISTED = 38  # differing paths in one message, so that it stays below 40 lines

logger = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """A checkpoint that could not be written, or none that can be read."""


class Damaged(CheckpointError):
    """This step cannot be read, or is not what was written."""


class Mismatch(CheckpointError):
    """The checkpoint belongs to another configuration."""


class Locked(RuntimeError):
    """Another run holds the workdir."""


class Restored(NamedTuple):
    state: Any
    position: int
    progress: dict[str, Any]
    step: int


# ---- the four functions of a workdir


def save(workdir: Path, step: int, state: State, position: int) -> None:
    """Writes one checkpoint and returns when it is complete."""
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(step, state, position)


def restore(workdir: Path, like: State) -> tuple[State, int] | None:
    """The newest undamaged (state, position), or None where there is no checkpoint.

    `like` is a state, or its ShapeDtypeStructs with the shardings that are wanted.
    """
    found = _newest(Path(workdir).absolute() / "checkpoints", like, on_damage=lambda path: None)
    return None if found is None else (found.state, found.position)


def load_params(workdir: Path, step: int | None = None) -> Any:
    """The parameters to evaluate: the moving average where one is kept.

    `step` None takes the best checkpoint, or the newest where none is called best.
    """
    return load_variables(workdir, step)["params"]


def load_variables(workdir: Path, step: int | None = None) -> Variables:
    """`load_params` with the other collections: what `model.apply` takes.

    Without what went on from batch to batch, which is of use to the run alone.
    """
    folder = Path(workdir).absolute() / "checkpoints"
    if step is None:
        step = best_step(workdir)
    if step is not None and step not in steps(folder):
        raise CheckpointError(f"{folder} has no step {step}; it has {steps(folder)}")
    if step is not None:
        leaves = _read(folder / str(step), None)[0]
    else:
        found = _newest(folder, None, on_damage=lambda path: None)
        if found is None:
            raise CheckpointError(f"{folder} has no checkpoint; train first")
        leaves = found.state
    tree = _nested(leaves)
    collections = {k: v for k, v in tree.get("collections", {}).items() if k != CARRY}
    return {"params": tree.get("ema") or tree["params"], **collections}


def average_variables(workdir: Path, chosen: Sequence[int]) -> Variables:
    """`load_variables` with the mean of the parameters of several steps (Vaswani et al. 2017, section 6.1).

    The sums are float64 and the means float32, so the order has no effect; a parameter that all steps share is returned
    as it is. The other collections are those of the newest step.
    """
    variables = load_variables(workdir, max(chosen))
    total = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float64), variables["params"])
    for step in sorted(chosen):
        params = load_variables(workdir, step)["params"]
        total = jax.tree.map(lambda t, leaf: t + np.asarray(leaf, np.float64), total, params)
    params = jax.tree.map(lambda t: jnp.asarray(t / len(chosen), jnp.float32), total)
    return {**variables, "params": params}


def load_experiment(workdir: Path) -> Any:
    """The experiment that runs, or ran, in the workdir."""
    path = Path(workdir) / "config.json"
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; expected the workdir of a training run")
    return config.from_json(json.loads(path.read_text()))


def best_step(workdir: Path) -> int | None:
    """The step that the newest readable checkpoint calls the best, if that is still there."""
    folder = Path(workdir).absolute() / "checkpoints"
    for step in reversed(steps(folder)):
        try:
            best = _best(_read_meta(folder / str(step))["progress"])
        except Damaged:
            continue
        return best if best in steps(folder) else None
    return None


def steps(folder: Path) -> list[int]:
    """The steps in a folder of checkpoints, damaged or not, oldest first."""
    if not Path(folder).is_dir():
        return []
    return sorted(int(path.name) for path in Path(folder).iterdir() if path.name.isdigit())


# ---- the run's own view


class Checkpoints:
    """The checkpoints of the run that holds the workdir's lock. Saving happens in the background.

    `keep` latest steps stay, and the step that the last `progress` calls best.
    """

    def __init__(self, workdir: Path, keep: int = 3):
        import orbax.checkpoint as ocp

        self.workdir = Path(workdir).absolute()
        self.folder = self.workdir / "checkpoints"
        self._keep = keep
        self._pending: int | str | None = None  # the step that is being written
        self._best: int | None = None
        self._base: dict[str, Any] | None = None  # descriptions of the leaves that no step changes
        self._lock = Lock(self.workdir)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        self._writer = ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(),
            temporary_path_class=_temporary_path_class(),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close(quietly=exception[0] is not None)

    def restore(self, like: State) -> Restored | None:
        """The newest undamaged checkpoint; damaged ones are put aside as `damaged-<step>`."""

        def put_aside(path: Path) -> None:
            aside = path.with_name(f"damaged-{path.name}")
            if aside.exists():
                shutil.rmtree(aside)
            os.replace(path, aside)

        found = _newest(self.folder, like, on_damage=put_aside)
        self._best = _best(found.progress) if found else None
        return found

    def save(
        self, step: int, state: State, position: int, progress: Mapping[str, Any] | None = None
    ) -> None:
        """Starts writing; the state may be donated or changed as soon as this returns."""
        self.wait()
        faultpoint("before_save")
        self._best = _best(progress or {})
        changing, unchanging = _parted(named_leaves(state))
        if self._base is None:
            self._base = self._save_base(unchanging)
        leaves = {name: _host(leaf) for name, leaf in changing.items()}
        body = {
            "format": FORMAT,
            "step": step,
            "position": position,
            "progress": dict(progress or {}),
            "leaves": _descriptions(leaves) | self._base,
        }
        path = self.folder / str(step)
        if path.exists():
            with contextlib.suppress(Damaged):
                if _read_meta(path) == json.loads(json.dumps(body)):
                    return
            # The same step, with evaluations that the first save did not have.
            os.replace(path, self.folder / f"replaced-{step}")
            faultpoint("after_put_aside")
        self._pending = step
        with self._reported(), _quiet():
            self._write(path, leaves, body)
        faultpoint("during_tmp_write")

    def _save_base(self, unchanging: Mapping[str, Any]) -> dict[str, Any]:
        """Writes what no step changes, unless it is there, and returns when it is complete; its descriptions."""
        if not unchanging:
            return {}
        leaves = {name: _host(leaf) for name, leaf in unchanging.items()}
        body = {"format": FORMAT, "step": BASE, "leaves": _descriptions(leaves)}
        path = self.folder / BASE
        if path.exists():
            with contextlib.suppress(Damaged):
                if _read_meta(path) == body:
                    return body["leaves"]
            shutil.rmtree(path)
        self._pending = BASE
        with self._reported(), _quiet():
            self._write(path, leaves, body)
            self._writer.wait_until_finished()
        self._pending = None
        return body["leaves"]

    def _write(self, path: Path, leaves: Mapping[str, Any], body: dict[str, Any]) -> None:
        import orbax.checkpoint as ocp

        stored = {
            name: leaf for name, leaf in leaves.items() if leaf.size
        }  # Orbax refuses empty arrays
        self._writer.save(
            path,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(stored),
                meta=ocp.args.JsonSave({"body": body, "sha256": _digest(body)}),
            ),
        )

    def check(self) -> None:
        """Raises what went wrong in the background so far; cheap."""
        if self._pending is not None:
            with self._reported():
                self._writer.check_for_errors()

    def wait(self) -> None:
        """Returns when what was saved is complete and older steps are gone."""
        if self._pending is None:
            return
        with self._reported(), _quiet():
            self._writer.wait_until_finished()
        faultpoint("after_save")
        self._pending = None
        self._sweep()
        self._prune()

    def close(self, *, quietly: bool = False) -> None:
        try:
            self.wait()
            if not quietly:
                self._prune()
        except CheckpointError:
            if not quietly:
                raise
        finally:
            with contextlib.suppress(Exception), _quiet():
                self._writer.close()
            self._lock.release()

    def _sweep(self) -> None:
        """Ends what a killed run, or a replaced step, left behind."""
        for path in self.folder.iterdir():
            kind, _, step = path.name.partition("-")
            if kind == "replaced" and not (self.folder / step).exists():
                os.replace(path, self.folder / step)
            elif kind in ("replaced", "deleting") or "orbax-checkpoint-tmp" in path.name:
                shutil.rmtree(path)

    def _prune(self) -> None:
        for step in steps(self.folder)[: -self._keep]:
            if step == self._best:
                continue
            # Renamed first: a step that is half deleted is never listed.
            going = self.folder / f"deleting-{step}"
            faultpoint("before_delete")
            os.replace(self.folder / str(step), going)
            faultpoint("during_delete")
            shutil.rmtree(going)
            faultpoint("after_delete")

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """Turns whatever the writer raises into one line with the path, and leaves no half-written folder."""
        try:
            yield
        except Exception as error:
            step, self._pending = self._pending, None
            with contextlib.suppress(OSError):
                self._sweep()
            left = steps(self.folder)
            full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
            full = full or "No space left" in str(error)
            advice = "free some space" if full else "mend that"
            raise CheckpointError(
                f"saving step {step} to {self.folder} failed: {_first_line(error)}; {advice} and start again: "
                f"the run goes on from step {left[-1] if left else 0}"
            ) from error


class Lock:
    """Held by at most one process a workdir; the kernel frees it when that process ends, however it ends.

    On NFS it holds only where the server supports flock.
    """

    def __init__(self, workdir: Path):
        workdir.mkdir(parents=True, exist_ok=True)
        self._file = open(workdir / "lock", "a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise Locked(
                f"{workdir} is in use by another run ({holder}); wait for it, stop it, or choose another --workdir"
            ) from None
        self._file.truncate(0)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        self._file.write(f"pid {os.getpid()} on {socket.gethostname()}, started {started}\n")
        self._file.flush()

    def release(self) -> None:
        self._file.close()


def write_json(path: Path, node: Any) -> None:
    """Replaces the file in one go."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(json.dumps(node, indent=1) + "\n")
    os.replace(temporary, path)


def _best(progress: Mapping[str, Any]) -> int | None:
    return (progress.get("best") or {}).get("step")


# ---- reading


def _newest(folder: Path, like: Any, on_damage: Any) -> Restored | None:
    """`like` None gives the leaves by name in `state`."""
    found, damage = steps(folder), []
    for step in reversed(found):
        path = folder / str(step)
        try:
            leaves, body = _read(path, like)
        except Damaged as error:
            damage.append(f"step {step}: {error}")
            logger.warning("WARNING: checkpoint step %d is damaged and left out: %s", step, error)
            on_damage(path)
            continue
        state = leaves
        if like is not None:
            state = jax.tree.unflatten(
                jax.tree.structure(like), [leaves[n] for n in named_leaves(like)]
            )
        return Restored(state, body["position"], body["progress"], step)
    if damage:
        listed = "\n  ".join(damage[:MAX_LISTED])
        raise CheckpointError(
            f"no checkpoint in {folder} is whole; start again in another workdir, or bring one back:\n  {listed}"
        )
    return None


def _read(path: Path, like: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The verified leaves by name, and the verified meta."""
    body = _read_meta(path)
    written = body["leaves"]
    if like is None:
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        wanted = {
            name: jax.ShapeDtypeStruct(tuple(d["shape"]), np.dtype(d["dtype"]), sharding=device)
            for name, d in written.items()
        }
    else:
        wanted = {name: _target(leaf) for name, leaf in named_leaves(like).items()}
        _compare(path, written, wanted)
    stored = {name: leaf for name, leaf in wanted.items() if 0 not in leaf.shape}
    changing, unchanging = _parted(stored)
    leaves = _restored(path, changing)
    if unchanging:
        leaves |= _restored(path.with_name(BASE), unchanging)
    for name, leaf in wanted.items():
        if name not in leaves:
            leaves[name] = jax.device_put(np.zeros(leaf.shape, leaf.dtype), leaf.sharding)
        found = leaf_hash(_host(leaves[name]))
        if found != written[name]["sha256"]:
            file = (path.with_name(BASE) if name.startswith(UNCHANGING) else path) / "state"
            raise Damaged(
                f"{file}: the leaf {name} is not what was written (sha256 {found[:12]}, expected "
                f"{written[name]['sha256'][:12]})"
            )
    return leaves, body


def _restored(path: Path, stored: Mapping[str, Any]) -> dict[str, Any]:
    import orbax.checkpoint as ocp

    try:
        with _quiet(), _reader() as reader:
            return reader.restore(
                path, args=ocp.args.Composite(state=ocp.args.StandardRestore(dict(stored)))
            )["state"]
    except Exception as error:
        raise Damaged(f"{_blamed_file(path, error)}: {_first_line(error)}") from None


def _read_meta(path: Path) -> dict[str, Any]:
    import orbax.checkpoint as ocp

    file = path / "meta" / "metadata"
    try:
        with _quiet(), _reader() as reader:
            meta = reader.restore(path, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))[
                "meta"
            ]
        body, expected = meta["body"], meta["sha256"]
    except Exception as error:
        raise Damaged(f"{file} cannot be read: {_first_line(error)}") from None
    if _digest(body) != expected:
        raise Damaged(f"{file} is not what was written (its sha256 differs)")
    if body["format"] != FORMAT:
        raise Mismatch(f"{file} has format {body['format']}; this version reads {FORMAT}")
    if str(body["step"]) != path.name:
        raise Damaged(f"{file} is of step {body['step']}")
    return body


def _compare(path: Path, written: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    lines = []
    for name in sorted(written.keys() | wanted.keys()):
        ours = _description(wanted[name]) if name in wanted else None
        theirs = {k: written[name][k] for k in ("shape", "dtype")} if name in written else None
        if ours != theirs:
            lines.append(f"  {name}: checkpoint {_shown(theirs)}, this model {_shown(ours)}")
    if lines:
        more = [f"  ... and {len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else []
        raise Mismatch(
            "\n".join(
                [f"{path} is of another configuration; {len(lines)} paths differ:"]
                + lines[:MAX_LISTED]
                + more
            )
        )


def _shown(description: Mapping[str, Any] | None) -> str:
    if description is None:
        return "has none"
    return f"{description['dtype']}{description['shape']}"


def _target(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _parted(leaves: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those that change from step to step, and those that do not."""
    parts: tuple[dict[str, Any], dict[str, Any]] = {}, {}
    for name, leaf in leaves.items():
        parts[name.startswith(UNCHANGING)][name] = leaf
    return parts


def _descriptions(leaves: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: _description(leaf) | {"sha256": leaf_hash(leaf)} for name, leaf in leaves.items()}


def _description(leaf: Any) -> dict[str, Any]:
    return {"shape": list(leaf.shape), "dtype": np.dtype(leaf.dtype).name}


def _host(leaf: Any) -> np.ndarray:
    """A copy on the host that no later step can change."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        from jax.experimental import multihost_utils

        leaf = multihost_utils.process_allgather(leaf, tiled=True)
    return np.array(leaf)


def _nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        node = tree
        *parents, last = name.split("/")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _blamed_file(path: Path, error: Exception) -> str:
    """The file of the checkpoint that the error's text names, else the folder."""
    text = str(error)
    for file in sorted((f for f in path.rglob("*") if f.is_file()), key=lambda f: -len(str(f))):
        if str(file) in text:
            return str(file)
    return str(path / "state")


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0][:300]


@contextlib.contextmanager
def _reader() -> Iterator[Any]:
    import orbax.checkpoint as ocp

    reader = ocp.Checkpointer(ocp.CompositeCheckpointHandler())
    try:
        yield reader
    finally:
        reader.close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and the hundreds of lines of Orbax; what matters is in our own message.

    Its threads go on complaining after this has been left, so what hushes them stays.
    """
    _hush_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@functools.cache
def _hush_threads() -> None:
    def not_orbax(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname and "orbax" not in record.getMessage()

    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(not_orbax)
    plain = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        # Reads and writes that a failure left behind find their event loop closed, each with a traceback.
        if "Event loop is closed" not in str(unraisable.exc_value):
            plain(unraisable)

    sys.unraisablehook = hook


def _temporary_path_class() -> type:
    from orbax.checkpoint import path as ocp_path

    class TemporaryPath(ocp_path.atomicity.AtomicRenameTemporaryPath):
        """Written under another name, then renamed; with the instants at which tests kill."""

        async def create(self, *args, **kwargs):
            result = await super().create(*args, **kwargs)
            faultpoint("after_tmp_create")
            return result

        async def finalize(self, *args, **kwargs):
            faultpoint("before_rename")
            result = await super().finalize(*args, **kwargs)
            faultpoint("after_rename")
            return result

    return TemporaryPath
