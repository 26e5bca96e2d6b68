import pytest

from tests.invariants import picture_checks


@pytest.mark.parametrize("check", picture_checks.CHECKS, ids=lambda check: check.__name__[6:])
def test_pictures(check):
    check()
