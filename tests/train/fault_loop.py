"""Kills, signals, full disks and damaged files against the real loop, in processes of their own.

    python -m tests.train.fault_loop --kills 10 --damage 200 --out faults.json

Prints one JSON object. This process never starts JAX itself: each run is forked from it with everything imported,
which saves seconds a run.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.train import toys
from vlm_jax.train import checkpoints as c
from vlm_jax.train import logs
from vlm_jax.train.faults import POINTS
from vlm_jax.train.loop import train
from vlm_jax.train.optimizers import AdamW, WarmupCosine
from vlm_jax.train.state import state_hash

NUM_STEPS = 20
KINDS_OF_DAMAGE = ("flipped", "truncated", "empty", "deleted")


def experiment(trace, pause_seconds=0.0):
    rate = WarmupCosine(peak=0.05, warmup_steps=5, num_steps=NUM_STEPS)
    return toys.experiment(
        train_data=toys.Pipeline(trace=str(trace), pause_seconds=pause_seconds),
        optimizer=AdamW(learning_rate=rate, clip_norm=1.0, weight_decay=0.1, ema_decay=0.9),
        checkpoint_every=4,
        keep_checkpoints=2,
    )


class Child:
    """A run of the loop in a forked process."""

    def __init__(self, workdir, *, fault="", pause_seconds=0.0, hooks=None):
        self.workdir = workdir
        workdir.mkdir(parents=True, exist_ok=True)
        self.output = workdir.parent / f"{workdir.name}.output"
        self.trace = workdir.parent / f"{workdir.name}.trace"
        self.hash = workdir.parent / f"{workdir.name}.hash"
        self.hash.unlink(missing_ok=True)
        self._size = self.trace.stat().st_size if self.trace.exists() else 0
        self.began = time.monotonic()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(fault, pause_seconds, hooks or {})

    def _run(self, fault, pause_seconds, hooks):
        status = 1
        try:
            output = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.environ["VLM_JAX_FAULT"] = fault
            toys.HOOKS.update(hooks)
            state = train(experiment(self.trace, pause_seconds), self.workdir, logs.Console())
            self.hash.write_text(f"{int(state.step)} {state_hash(state)}")
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(status)

    def wait_for_batches(self, number):
        """Returns when the run has drawn so many batches."""
        while True:
            if self.trace.exists():
                if len(self.trace.read_bytes()[self._size :].splitlines()) >= number:
                    return
            done, _ = os.waitpid(self.pid, os.WNOHANG)
            if done:
                raise RuntimeError(f"ended before batch {number}:\n{self.output.read_text()}")
            time.sleep(0.002)

    def wait_for_lock(self):
        """Returns when the run holds its workdir; its signal handlers are older than that."""
        lock = self.workdir / "lock"
        while not lock.exists() or "pid" not in lock.read_text():
            time.sleep(0.01)

    def kill(self, number):
        os.kill(self.pid, number)

    def wait(self):
        """(exit status, negative for a signal; seconds since the start)."""
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status), time.monotonic() - self.began


def numbers(workdir):
    clock = ("steps_per_second", "waiting_for_data")
    lines = logs.read_metrics(workdir / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]


class Trials:
    def __init__(self, folder, seed):
        self.folder, self.random, self.count = folder, random.Random(seed), 0
        self.failures = []
        reference = Child(folder / "reference")
        status, _ = reference.wait()
        assert status == 0, reference.output.read_text()
        self.expected = reference.hash.read_text()
        self.numbers = numbers(folder / "reference")
        self.ids = self._ids(reference.trace)

    def fresh(self):
        self.count += 1
        return self.folder / f"trial{self.count}"

    def finish(self, workdir, what):
        """Runs to the end and compares everything with the uninterrupted run."""
        child = Child(workdir)
        status, _ = child.wait()
        wrong = []
        if status != 0:
            wrong.append(f"status {status}: {child.output.read_text()[-2000:]}")
        else:
            if child.hash.read_text() != self.expected:
                wrong.append("another state")
            if numbers(workdir) != self.numbers:
                wrong.append("other lines in metrics.jsonl")
            if self._ids(child.trace) != self.ids:
                wrong.append("other examples seen")
            names = [p.name for p in (workdir / "checkpoints").iterdir()]
            if sorted(names) != ["16", "20"]:
                wrong.append(f"checkpoints {names}")
            left = sorted(p.name for p in workdir.iterdir())
            if left != ["checkpoints", "config.json", "lock", "metrics.jsonl", "run.json"]:
                wrong.append(f"files {left}")
        for text in wrong:
            self.failures.append(f"{what}: {text}")
        return not wrong

    def _ids(self, trace):
        """Position -> ids; a position that was drawn again must have given the same ids."""
        found = {}
        for line in trace.read_text().splitlines():
            position, _, ids = line.partition(" ")
            if found.setdefault(int(position), ids) != ids:
                return f"position {position} gave different examples"
        return {position: ids for position, ids in found.items() if position < NUM_STEPS}

    # ---- the trials

    def random_kills(self, kills):
        """kill -9 at random instants after training began, up to three in a run."""
        equal = trials = killed = 0
        while killed < kills:
            workdir = self.fresh()
            for _ in range(min(3, kills - killed)):
                child = Child(workdir, pause_seconds=0.02)
                try:
                    child.wait_for_batches(2)
                except RuntimeError:
                    break  # nothing was left to do
                time.sleep(self.random.uniform(0.0, 0.7))
                child.kill(signal.SIGKILL)
                child.wait()
                killed += 1
            trials += 1
            equal += self.finish(workdir, f"random kills, run {trials}")
        return {"kills": killed, "runs": trials, "equal": equal}

    def named_points(self, points, in_a_run):
        """kill -9 at each named point, several in a row in one run."""
        reached, runs, equal = [], 0, 0
        points = list(points)
        while points:
            group, points = points[:in_a_run], points[in_a_run:]
            workdir = self.fresh()
            for point in group:
                if point == "after_put_aside":
                    continue
                if Child(workdir, fault=point).wait()[0] == -signal.SIGKILL:
                    reached.append(point)
            if "after_put_aside" in group:
                # Saved by SIGTERM within the last evaluation, then saved again with its result.
                def stop(workdir=workdir):
                    if len(numbers(workdir)) == len(self.numbers) - 1:
                        os.kill(os.getpid(), signal.SIGTERM)

                assert Child(workdir, hooks={"score": stop}).wait()[0] == 0
                if Child(workdir, fault="after_put_aside").wait()[0] == -signal.SIGKILL:
                    reached.append("after_put_aside")
            runs += 1
            equal += self.finish(workdir, f"points {group}")
        return {"reached": reached, "runs": runs, "equal": equal}

    def signals(self, tries):
        """SIGTERM and SIGINT from outside: saved, status 0, and the rest follows."""
        clean, slowest = 0, 0.0
        for attempt in range(tries):
            workdir = self.fresh()
            child = Child(workdir, pause_seconds=0.02)
            child.wait_for_batches(2)
            time.sleep(self.random.uniform(0.0, 0.5))
            sent = time.monotonic()
            child.kill((signal.SIGTERM, signal.SIGINT)[attempt % 2])
            status, _ = child.wait()
            slowest = max(slowest, time.monotonic() - sent)
            clean += status == 0 and self.finish(workdir, f"signal {attempt}")
        return {"tries": tries, "status 0 and equal": clean, "slowest seconds": round(slowest, 2)}

    def second_interrupt(self):
        """While the main thread is in one long call, as a compilation is, in which Python runs no handler."""
        workdir = self.fresh()

        def busy(position, training):
            (workdir / "busy").touch()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)

        child = Child(workdir, hooks={"batch": busy})
        while not (workdir / "busy").exists():
            time.sleep(0.01)
        child.kill(signal.SIGINT)
        time.sleep(1.0)
        child.kill(signal.SIGINT)
        sent = time.monotonic()
        status, _ = child.wait()
        return {"status": status, "seconds": round(time.monotonic() - sent, 2)}

    def two_runs(self):
        workdir = self.fresh()
        first = Child(workdir, pause_seconds=30.0)
        first.wait_for_lock()
        second = Child(workdir)
        status, seconds = second.wait()
        message = second.output.read_text().strip().splitlines()[-1]
        first.kill(signal.SIGKILL)
        first.wait()
        return {
            "status": status,
            "seconds": round(seconds, 2),
            "names the first": f"pid {first.pid} on " in message and "started" in message,
            "free after kill -9": self.finish(workdir, "two runs"),
        }

    def disk_full(self):
        """From batch 9 on no file may grow beyond 4000 bytes: the save of step 12 fails."""
        workdir = self.fresh()

        def fill(position, training):
            if training and position == 9:
                while not (workdir / "checkpoints" / "8").exists():
                    time.sleep(0.01)
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

        child = Child(workdir, pause_seconds=0.3, hooks={"batch": fill})
        status, _ = child.wait()
        message = child.output.read_text().strip().splitlines()[-1]
        last = max(int(line.split()[0]) for line in child.trace.read_text().splitlines())
        names = sorted(p.name for p in (workdir / "checkpoints").iterdir())
        result = {
            "status": status,
            "message": message.replace(str(self.folder), "..."),
            "names the path": str(workdir) in message,
            "steps after the failed save": last + 1 - 12,
            "listed": names,
        }
        # The trace of the refused steps stays: they were drawn, and are drawn again.
        result["goes on from the step before"] = self.finish(workdir, "disk full")
        return result

    def damage(self, tries):
        """A file of the newest checkpoint flipped, cut, emptied or deleted; then restored."""
        source = self.fresh()
        assert Child(source).wait()[0] == 0
        sys.stdout.flush()
        report = self.folder / "damage.json"
        pid = os.fork()
        if pid == 0:
            try:
                report.write_text(
                    json.dumps(damaged_restores(source, self.fresh(), tries, self.random))
                )
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        return json.loads(report.read_text())


def damaged_restores(source, folder, tries, rng):
    """Counts of what became of `tries` restores of two steps of which the newer one is damaged."""
    import jax

    from vlm_jax.train.state import init_state

    ours = experiment(folder / "trace")
    batch = next(toys.Pipeline().batches())[1]
    like = jax.eval_shape(
        lambda: init_state(ours.model, ours.optimizer.build(), batch, jax.random.key(0), ema=True)
    )
    older, newer = c.steps(source / "checkpoints")
    hashes = {}
    for step in (older, newer):
        copy(source, folder / f"whole{step}", step)
        hashes[step] = state_hash(c.restore(folder / f"whole{step}", like)[0])
    outcome = {"tries": tries, "same": 0, "fell back": 0, "silent wrong": 0}
    by_kind = {kind: {"same": 0, "fell back": 0, "silent wrong": 0} for kind in KINDS_OF_DAMAGE}
    for attempt in range(tries):
        workdir, kind = folder / str(attempt), KINDS_OF_DAMAGE[attempt % 4]
        for step in (older, newer):
            copy(source, workdir, step)
        files = [
            f for f in sorted((workdir / "checkpoints" / str(newer)).rglob("*")) if f.is_file()
        ]
        sizes = [f.stat().st_size for f in files]
        any_file = [
            size > 0 for size in sizes
        ]  # every other time: any file alike, else any byte alike
        file = rng.choices(files, any_file if attempt // 4 % 2 else sizes)[0]
        damage_file(kind, file, rng)
        found = became_of(workdir, like, hashes)
        outcome[found] += 1
        by_kind[kind][found] += 1
        shutil.rmtree(workdir)
    return {**outcome, "by kind": by_kind}


def became_of(workdir, like, hashes):
    """Restores a workdir of two steps whose newer one is damaged: 'same', 'fell back' or 'silent wrong'.

    `hashes` is {step: state hash} of the two, undamaged.
    """
    state, position = c.restore(workdir, like)
    if hashes.get(position) != state_hash(state):
        return "silent wrong"
    return "same" if position == max(hashes) else "fell back"


def damage_file(kind, file, rng):
    data = bytearray(file.read_bytes())
    if kind == "deleted":
        file.unlink()
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "truncated":
        file.write_bytes(data[: rng.randrange(len(data))])
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file.write_bytes(data)


def copy(source, workdir, step):
    shutil.copytree(source / "checkpoints" / str(step), workdir / "checkpoints" / str(step))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10, help="kill -9 at random instants")
    parser.add_argument(
        "--points-in-a-run", type=int, default=1, help="named points killed in one run"
    )
    parser.add_argument("--signals", type=int, default=10)
    parser.add_argument("--damage", type=int, default=200, help="damaged checkpoint files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a file for the JSON as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # Restoring imports more than training does; import it once, before the forks.
        import orbax.checkpoint  # noqa: F401

        trials = Trials(Path(folder), arguments.seed)
        found = {
            "seed": arguments.seed,
            "random kills": trials.random_kills(arguments.kills),
            "named points": trials.named_points(POINTS, arguments.points_in_a_run),
            "signals": trials.signals(arguments.signals),
            "second interrupt": trials.second_interrupt(),
            "two runs": trials.two_runs(),
            "disk full": trials.disk_full(),
        }
        if arguments.damage:
            found["damage"] = trials.damage(arguments.damage)
        found["failures"] = trials.failures
    text = json.dumps(found, indent=1)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    print(text)
    return 1 if trials.failures else 0


if __name__ == "__main__":
    sys.exit(main())
