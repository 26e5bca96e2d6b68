"""One training step, a checkpoint and an evaluation, without a bug."""

import pytest

from tests.invariants import training_checks


@pytest.fixture(scope="module")
def training():
    return training_checks.Training()


@pytest.mark.parametrize("check", training_checks.CHECKS, ids=lambda check: check.__name__[6:])
def test_training(check, training):
    check(training)
