"""Fine-tuning: what tests/seeded_bugs tries with bugs."""

import pytest

from tests.invariants import finetuning_checks


@pytest.mark.parametrize(
    "check", finetuning_checks.CHECKS, ids=lambda check: check.__name__.removeprefix("check_")
)
def test_finetuning(check):
    check()
