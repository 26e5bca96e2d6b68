"""Bugs and rooms, switching a bug on, and the table of which check catches which."""

import contextlib
import dataclasses
import importlib
import multiprocessing
import os
import pkgutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest import mock


@dataclasses.dataclass(frozen=True)
class Room:
    """Checks that share what they compile: each is called with the subject, where there is one."""

    checks: tuple[Callable, ...]
    subject: Callable[[], Any] | None = None
    # Lets go of what was compiled without the bug, or with another.
    forget: Callable[[], None] = lambda: None


@dataclasses.dataclass(frozen=True)
class Bug:
    name: str
    room: str
    patches: tuple[tuple[Any, str, Any], ...]  # (object, attribute, what stands there instead)

    @contextlib.contextmanager
    def switched_on(self):
        with contextlib.ExitStack() as stack:
            for owner, name, replacement in self.patches:
                stack.enter_context(mock.patch.object(owner, name, replacement))
            yield


BUGS: list[Bug] = []
ROOMS: dict[str, Room] = {}


def bug(name: str, room: str, *targets: tuple[Any, str]):
    """Registers the decorated `make(real, ...)`, which returns what replaces each target, or all of them."""

    def register(make):
        reals = [getattr(owner, attribute) for owner, attribute in targets]
        made = make(*reals)
        made = made if isinstance(made, tuple) else (made,)
        patches = tuple((*target, new) for target, new in zip(targets, made, strict=True))
        BUGS.append(Bug(name, room, patches))
        return make

    return register


def read_all() -> None:
    """Imports every module beside this one; each brings its bugs and says in ROOMS what catches them."""
    package = __name__.rpartition(".")[0]
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if found.name != "__main__":
            ROOMS.update(getattr(importlib.import_module(f"{package}.{found.name}"), "ROOMS", {}))


def failures(room: Room) -> set[str]:
    """The names of the checks that fail, now."""
    room.forget()
    arguments = [room.subject()] if room.subject else []
    failed = set()
    for check in room.checks:
        try:
            check(*arguments)
        except Exception:  # an error is as good a sign as a failed assertion
            failed.add(check.__name__)
    return failed


def caught(bug: Bug) -> set[str]:
    with bug.switched_on():
        return failures(ROOMS[bug.room])


def table(name: str) -> tuple[list[str], int, int]:
    """The room's table in Markdown, the number of bugs, and of those that were caught."""
    read_all()  # in a process of the pool nothing has been read
    room, bugs = ROOMS[name], [bug for bug in BUGS if bug.room == name]
    clean = failures(room)
    rows = {"(none)": clean, **{bug.name: caught(bug) for bug in bugs}}
    used = [check.__name__ for check in room.checks]
    lines = [f"### {name}", ""]
    lines += [
        f"{i}. {check.removeprefix('check_').replace('_', ' ')}" for i, check in enumerate(used, 1)
    ]
    lines += ["", "| bug | " + " | ".join(str(i) for i in range(1, len(used) + 1)) + " |"]
    lines += ["|---|" + "---|" * len(used)]
    for bug_name, failed in rows.items():
        marks = " | ".join("X" if check in failed else " " for check in used)
        lines.append(f"| {bug_name} | {marks} |")
    found = sum(bool(rows[bug.name]) for bug in bugs)
    if clean:
        lines.append(f"\nWithout a bug these fail: {sorted(clean)}")
    return lines, len(bugs), found if not clean else 0


def main(names: list[str]) -> int:
    read_all()
    unknown = set(names) - set(ROOMS)
    if unknown:
        raise SystemExit(f"no such room: {sorted(unknown)}; there are {', '.join(ROOMS)}")
    start, total, found = time.perf_counter(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        # A bug leaves most functions as they are: they need not be compiled again.
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", folder)
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(2, os.cpu_count() or 1), mp_context=context) as pool:
            for lines, bugs, hits in pool.map(table, names or ROOMS):
                total, found = total + bugs, found + hits
                print("\n".join(lines), end="\n\n", flush=True)
    print(f"{found} of {total} bugs caught, {time.perf_counter() - start:.0f} seconds")
    return 0 if found == total else 1
