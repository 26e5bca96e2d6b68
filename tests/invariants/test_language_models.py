"""Every language model of the zoo against the checks of model_checks that need no picture, and the streams of text."""

import functools

import pytest

from tests import model_zoo
from tests.invariants import language_model_checks, model_checks
from tests.invariants.subject import Subject
from tests.seeded_bugs import harness as seeded_bugs

MODELS = model_zoo.language_models()
OF_A_MEMORY = {
    model_checks.check_the_image_matters,
    model_checks.check_padding_in_the_memory_is_not_seen,
}
CHECKS = [check for check in model_checks.CHECKS if check not in OF_A_MEMORY]


@functools.cache
def subject(name: str) -> Subject:
    return Subject(MODELS[name], {})


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__[6:])
def test_every_model(name, check):
    check(subject(name))


@pytest.mark.parametrize(
    "check", language_model_checks.CHECKS, ids=lambda check: check.__name__[6:]
)
def test_the_stream_of_text(check):
    language_model_checks.forget()
    check()


@pytest.mark.parametrize(
    "name", ["a window predicts a token twice", "what does not fill a window is left out"]
)
def test_a_bug_of_the_windows_is_caught(name):
    seeded_bugs.read_all()
    (bug,) = (bug for bug in seeded_bugs.BUGS if bug.name == name)
    with bug.switched_on(), pytest.raises(AssertionError):
        language_model_checks.check_every_token_is_predicted_once()
