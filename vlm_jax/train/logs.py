"""Where the numbers of a run go: the terminal, metrics.jsonl, TensorBoard."""

import dataclasses
import errno
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from vlm_jax.train.faults import die, due, faultpoint


class Log(Protocol):
    """A frozen description; `open` gives the writer of one run."""

    def open(self, workdir: Path | None, num_steps: int) -> "Writer": ...


class Writer:
    """All methods do nothing; a writer overrides what it wants to know."""

    def start(self, step: int) -> None:
        """Training begins, or goes on, at this step."""

    def step(self, step: int) -> None:
        """A step was dispatched; called every step, so it must be cheap."""

    def numbers(self, step: int, name: str, numbers: Mapping[str, float]) -> None:
        """Numbers of 'train', or of the evaluation `name`, after `step` steps."""

    def message(self, text: str) -> None:
        """A line for the reader."""

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Silent:
    def open(self, workdir: Path | None, num_steps: int) -> Writer:
        return Writer()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Console:
    """A progress bar with loss, rate and time left; plain lines where the output is no terminal."""

    def open(self, workdir: Path | None, num_steps: int) -> Writer:
        return _Bar(num_steps) if sys.stderr.isatty() else _Lines(num_steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorBoard:
    """Event files in workdir/tensorboard."""

    def open(self, workdir: Path | None, num_steps: int) -> Writer:
        if workdir is None:
            raise ValueError("TensorBoard writes into the workdir; give train() one")
        return _Events(Path(workdir) / "tensorboard")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """A trace of the steps from `first` (of this start of the run) on, in workdir/profile, for Perfetto or
    TensorBoard. Steps before `first` leave compilation out."""

    first: int = 10
    num_steps: int = 5

    def open(self, workdir: Path | None, num_steps: int) -> Writer:
        if workdir is None:
            raise ValueError("Profile writes into the workdir; give train() one")
        return _Trace(Path(workdir) / "profile", self.first, self.num_steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Several:
    """Many logs as one."""

    logs: tuple[Any, ...]

    def open(self, workdir: Path | None, num_steps: int) -> Writer:
        return Tee([log.open(workdir, num_steps) for log in self.logs])


class Tee(Writer):
    """Tells every writer."""

    def __init__(self, writers: list[Writer]):
        self._writers = writers

    def add(self, writer: Writer) -> None:
        self._writers.append(writer)

    def start(self, step):
        for writer in self._writers:
            writer.start(step)

    def step(self, step):
        for writer in self._writers:
            writer.step(step)

    def numbers(self, step, name, numbers):
        for writer in self._writers:
            writer.numbers(step, name, numbers)

    def message(self, text):
        for writer in self._writers:
            writer.message(text)

    def close(self):
        for writer in self._writers:
            writer.close()


class JsonLines(Writer):
    """metrics.jsonl: one object a line, `{"step": 50, "name": "train", "loss": 4.2, ...}`.

    A line is one write of one buffer. `keep_bytes` is `size` at the checkpoint that the run goes on from: what was
    written after it is cut off, so that the file of an interrupted run has every line once, and none torn.
    """

    def __init__(self, path: Path, keep_bytes: int = 0):
        self.path = Path(path)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        keep = min(keep_bytes, os.fstat(self._file).st_size)
        if keep < keep_bytes:  # the file was cut or replaced by somebody: keep its whole lines
            keep = self.path.read_bytes().rfind(b"\n") + 1
        os.ftruncate(self._file, keep)

    @property
    def size(self) -> int:
        return os.fstat(self._file).st_size

    def numbers(self, step, name, numbers):
        shown = {key: _plain(value) for key, value in numbers.items()}
        line = (json.dumps({"step": step, "name": name, **shown}) + "\n").encode()
        faultpoint("before_metric_write")
        if due("during_metric_write"):
            os.write(self._file, line[: len(line) // 2])
            die()
        try:
            written = os.write(self._file, line)
        except OSError as error:
            raise OSError(
                error.errno, f"{error.strerror}, writing step {step}", str(self.path)
            ) from None
        if written != len(line):
            raise OSError(errno.ENOSPC, f"{written} of {len(line)} bytes written", str(self.path))
        faultpoint("after_metric_write")

    def close(self):
        os.close(self._file)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a torn last line is left out."""
    lines = Path(path).read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]


def _plain(value: Any) -> Any:
    """JSON has no nan and no infinity; they become strings that float() reads."""
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _shown(numbers: Mapping[str, float]) -> str:
    hidden = ("steps_per_second", "waiting_for_data")
    return "  ".join(f"{name} {value:.4g}" for name, value in numbers.items() if name not in hidden)


class _Lines(Writer):
    def __init__(self, num_steps: int):
        self._num_steps = num_steps
        self._clock: tuple[float, int] | None = None  # at the first line, when all is compiled

    def numbers(self, step, name, numbers):
        pace = ""
        if name == "train" and "steps_per_second" in numbers:
            rate = numbers["steps_per_second"]
            pace = f"  {rate:.3g} steps/s, {_duration(self._seconds_left(step, rate))} left"
        print(
            f"step {step}/{self._num_steps}  {name}: {_shown(numbers)}{pace}",
            file=sys.stderr,
            flush=True,
        )

    def _seconds_left(self, step: int, rate: float) -> float:
        """By how long the steps since the first line took, evaluations and all."""
        if self._clock is None:
            self._clock = (time.monotonic(), step)
            seconds_a_step = 1 / max(rate, 1e-9)
        else:
            start, first = self._clock
            seconds_a_step = (time.monotonic() - start) / max(step - first, 1)
        return (self._num_steps - step) * seconds_a_step

    def message(self, text):
        print(text, file=sys.stderr, flush=True)


class _Bar(Writer):
    def __init__(self, num_steps: int):
        from rich.console import Console as RichConsole
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[rate]} steps/s"),
            TextColumn("loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=RichConsole(stderr=True),
        )
        self._task = self._progress.add_task("train", total=num_steps, rate="-", loss="-")

    def start(self, step):
        self._progress.update(self._task, completed=step)
        self._progress.start()

    def step(self, step):
        self._progress.update(self._task, completed=step)

    def numbers(self, step, name, numbers):
        if name != "train":
            self.message(f"step {step}  {name}: {_shown(numbers)}")
            return
        rate, loss = numbers.get("steps_per_second", math.nan), numbers.get("loss", math.nan)
        self._progress.update(self._task, rate=f"{rate:.3g}", loss=f"{loss:.4f}")

    def message(self, text):
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self):
        self._progress.stop()


class _Events(Writer):
    def __init__(self, folder: Path):
        self._folder = folder
        self._writer: Any = None

    def start(self, step):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)

    def numbers(self, step, name, numbers):
        for key, value in numbers.items():
            self._writer.add_scalar(f"{name}/{key}", float(value), step)

    def close(self):
        if self._writer is not None:
            self._writer.close()


class _Trace(Writer):
    def __init__(self, folder: Path, first: int, num_steps: int):
        self._folder, self._first, self._last = folder, first, first + num_steps
        self._taken, self._running = 0, False

    def step(self, step):
        import jax

        self._taken += 1
        if self._taken == self._first:
            jax.profiler.start_trace(str(self._folder), create_perfetto_trace=True)
            self._running = True
        elif self._taken == self._last:
            self.close()

    def close(self):
        import jax

        if self._running:
            self._running = False
            jax.profiler.stop_trace()


def _duration(seconds: float) -> str:
    seconds = int(min(seconds, 10**9))
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
