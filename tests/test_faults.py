"""A run loses no work and gives the same answer, whatever stops it. The trials are in tests/train/fault_loop.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlm_jax.train.faults import POINTS


def trials(tmp_path_factory, *arguments):
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        **os.environ,
    }
    environment |= {"JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.fault_loop", *arguments],
        cwd=Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["failures"] == []
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return trials(
        tmp_path_factory,
        "--kills",
        "5",
        "--points-in-a-run",
        "7",
        "--signals",
        "2",
        "--damage",
        "0",
    )


def test_kill_9_at_random_instants_changes_nothing(found):
    random = found["random kills"]
    # A run that ends before its third kill makes room for one more run.
    assert random["kills"] == 5 and random["equal"] == random["runs"] >= 2, random


def test_kill_9_at_every_named_point_changes_nothing(found):
    points = found["named points"]
    assert set(points["reached"]) == set(POINTS)
    assert points["equal"] == points["runs"]


def test_a_signal_from_outside_leaves_with_status_0_and_the_rest_follows(found):
    assert found["signals"]["status 0 and equal"] == found["signals"]["tries"] == 2


def test_a_second_interrupt_ends_at_once(found):
    assert found["second interrupt"]["status"] == 130
    assert found["second interrupt"]["seconds"] < 2


def test_a_second_run_leaves_naming_the_first_and_a_killed_one_frees_the_workdir(found):
    assert found["two runs"]["status"] == 1
    assert found["two runs"]["seconds"] < 2
    assert found["two runs"]["names the first"] and found["two runs"]["free after kill -9"]


def test_a_full_disk_stops_the_run_with_the_path_and_lists_no_half_step(found):
    full = found["disk full"]
    assert full["status"] == 1 and full["names the path"], full
    assert 1 <= full["steps after the failed save"] <= 4  # at the latest when the next save begins
    assert full["listed"] == ["4", "8"]
    assert full["goes on from the step before"]


@pytest.mark.nightly
def test_fifty_kills_every_point_alone_and_two_hundred_damaged_files(tmp_path_factory, request):
    if "nightly" not in request.config.option.markexpr:
        pytest.skip("minutes long; run with `make nightly`")
    found = trials(tmp_path_factory, "--kills", "50", "--signals", "10", "--damage", "200")
    assert found["random kills"]["equal"] == found["random kills"]["runs"]
    assert set(found["named points"]["reached"]) == set(POINTS)
    assert found["damage"]["silent wrong"] == 0
    assert found["damage"]["fell back"] >= 60
