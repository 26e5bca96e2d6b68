"""Named instants at which a test can kill the process, as a machine that dies would.

    VLM_JAX_FAULT=after_save            kill -9 the first time this point is reached
    VLM_JAX_FAULT=after_save:3          the third time

Without that variable every point is one dictionary look-up.
"""

import os
import signal

POINTS = (
    "before_metric_write",  # logs.py
    "during_metric_write",
    "after_metric_write",
    "before_save",  # checkpoints.py
    "after_put_aside",
    "after_tmp_create",
    "during_tmp_write",
    "before_rename",
    "after_rename",
    "after_save",
    "before_delete",
    "during_delete",
    "after_delete",
)

_seen: dict[str, int] = {}


def faultpoint(name: str) -> None:
    """Kills this process if VLM_JAX_FAULT names this point and this visit of it."""
    if due(name):
        die()


def due(name: str) -> bool:
    """Whether this visit of the point is the one that VLM_JAX_FAULT names."""
    wanted = os.environ.get("VLM_JAX_FAULT")
    if not wanted:
        return False
    point, _, visit = wanted.partition(":")
    if point != name:
        return False
    _seen[name] = _seen.get(name, 0) + 1
    return _seen[name] == int(visit or 1)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
