"""Text to picture by codes: what tests/seeded_bugs tries with bugs."""

import pytest

from tests.invariants import text_to_image_checks


@pytest.fixture(scope="module")
def subject():
    return text_to_image_checks.Painter()


@pytest.mark.parametrize(
    "check", text_to_image_checks.CHECKS, ids=lambda check: check.__name__.removeprefix("check_")
)
def test_text_to_image(check, subject):
    check(subject)
