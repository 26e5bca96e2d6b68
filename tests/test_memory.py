"""Memory that one step freed is there for the next, without the system's zeros."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from vlm_jax.memory import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
import numpy as np
def faults():
    for _ in range(20):
        np.ones(16_000_000, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
print(int(kept), faults() - before)
"""


def faults_of(how):
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True, timeout=60
    )
    return map(int, done.stdout.split())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_large_blocks_come_back_without_page_faults():
    kept, few = faults_of("keep")
    if not kept:
        pytest.skip("this C library has no mallopt")
    _, many = faults_of("leave")
    assert many > 20 * 30  # 64 MB a time, in pages of at most 2 MB
    assert few < many / 5
