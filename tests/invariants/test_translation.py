"""Batches by tokens, the source's padding, BLEU and averages, without a bug."""

import functools

import pytest

from tests import model_zoo
from tests.invariants import translation_checks
from tests.invariants.subject import Subject

NAMES = ("translation_recurrent", "translation_transformer")


@functools.cache
def subject(name):
    model = model_zoo.text_generators()[name]
    return Subject(model, {"text": model_zoo.text_of(model)})


@pytest.mark.parametrize(
    "check", translation_checks.DATA_CHECKS, ids=lambda check: check.__name__[6:]
)
def test_translation(check):
    check()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "check", translation_checks.READER_CHECKS[:2], ids=lambda check: check.__name__[6:]
)
def test_a_model_that_reads_a_text(name, check):
    check(subject(name))
