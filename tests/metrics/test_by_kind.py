"""A metric for each kind of example, and the answer that every kind has most often."""

import pytest

from vlm_jax.data.source import Rows
from vlm_jax.metrics.accuracy import Accuracy
from vlm_jax.metrics.base import stats_of, total
from vlm_jax.metrics.by_kind import ByKind
from vlm_jax.metrics.majority import Majority

TRAINING = Rows(
    names=("answer", "question_type"),
    rows=(
        ("2", "how many"),
        ("2", "how many"),
        ("3", "how many"),
        ("red", "what"),
        ("blue", "what"),
    ),
)
ASKED = (  # prediction, answer, question_type
    ("2", "2", "how many"),
    ("3", "2", "how many"),
    ("red", "blue", "what"),
    ("red", "red", "is it/not"),
)


def found(metric):
    texts = [{"answer": (a,), "question_type": (t,)} for _, a, t in ASKED]
    stats = [stats_of(metric, p, each) for (p, _, _), each in zip(ASKED, texts)]
    assert metric.result(total(stats)) == metric.result(total(stats[::-1]))
    return metric.result(total(stats))


def test_each_kind_has_its_own_accuracy():
    assert found(ByKind(metric=Accuracy(reference="answer"))) == {
        "accuracy_how_many": 50.0,
        "accuracy_is_it_not": 100.0,
        "accuracy_what": 0.0,
    }


def test_the_majority_is_that_of_the_training_questions_whatever_is_predicted():
    # how many: 2, right twice; what: blue before red by alphabet, right once; the third kind was never asked
    assert found(Majority(corpus=TRAINING)) == pytest.approx({"accuracy_majority": 75.0})


def test_characters_that_are_as_good_as_a_space():
    """What a tokenizer that cuts at underscores writes, where the labels have some."""
    metric = Accuracy(reference="answer", spaces="_")
    pairs = [
        ("garbage _ bin", "garbage_bin"),
        ("night stand", "night_stand"),
        ("bin", "garbage_bin"),
    ]
    result = metric.result(total(metric.stats(said, (gold,)) for said, gold in pairs))
    assert round(result["accuracy"], 2) == 66.67
    plain = Accuracy(reference="answer")
    assert plain.result(plain.stats("garbage _ bin", ("garbage_bin",)))["accuracy"] == 0
