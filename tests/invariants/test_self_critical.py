"""Captions trained on their score: what tests/seeded_bugs tries with bugs."""

import pytest

from tests.invariants import self_critical_checks


@pytest.fixture(scope="module")
def policy():
    return self_critical_checks.Policy()


@pytest.mark.parametrize(
    "check", self_critical_checks.CHECKS, ids=lambda check: check.__name__.removeprefix("check_")
)
def test_self_critical(check, policy):
    check(policy)
