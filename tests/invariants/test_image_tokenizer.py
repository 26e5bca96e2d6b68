"""Image tokenizers: what tests/seeded_bugs tries with bugs."""

import pytest

from tests.invariants import image_tokenizer_checks


@pytest.fixture(scope="module")
def subject():
    return image_tokenizer_checks.Tokenizer()


@pytest.mark.parametrize(
    "check", image_tokenizer_checks.CHECKS, ids=lambda check: check.__name__.removeprefix("check_")
)
def test_image_tokenizer(check, subject):
    check(subject)
