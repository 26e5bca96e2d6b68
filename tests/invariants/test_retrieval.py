"""Two towers against every check of retrieval_checks."""

import pytest

from tests.invariants import retrieval_checks


@pytest.mark.parametrize("check", retrieval_checks.CHECKS, ids=lambda check: check.__name__[6:])
def test_two_towers(check):
    check()
