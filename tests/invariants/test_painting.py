"""What judges pictures against every check of painting_checks."""

import pytest

from tests.invariants import painting_checks


@pytest.mark.parametrize("check", painting_checks.CHECKS, ids=lambda check: check.__name__[6:])
def test_painting(check):
    check()
