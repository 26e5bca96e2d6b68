"""Long tails, sampling orders, losses for rare classes, and what is refused of them."""

import json

import numpy as np
import pytest

from tests.invariants import long_tail_checks
from tests.invariants.long_tail_checks import CLASSES, COUNTS, balanced
from vlm_jax import config
from vlm_jax.data.buckets import Buckets
from vlm_jax.data.class_sampling import (
    PowerSampling,
    ProgressiveSampling,
    WeightedSampling,
    labels_of,
)
from vlm_jax.data.long_tail import LongTailed, exponential
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import InMemory, Rows
from vlm_jax.metrics.shots import ShotAccuracy
from vlm_jax.tasks.classification import Classification
from vlm_jax.tasks.imbalance import (
    Deferred,
    EffectiveNumber,
    Focal,
    InverseFrequency,
    Ldam,
    LogitAdjustment,
    Weighted,
)


@pytest.mark.parametrize("check", long_tail_checks.CHECKS, ids=lambda check: check.__name__[6:])
def test_long_tail(check):
    check()


class Read(InMemory):
    """Counts how often examples are read."""

    def __getitem__(self, index):
        assert self.allowed, "an example was read"
        return super().__getitem__(index)


def test_labels_are_read_once_and_known_to_a_long_tail():
    Read.allowed = True
    source = Read([{"id": np.int64(i), "label": np.int64(i % 3)} for i in range(9)])
    tailed = LongTailed(source, counts=(3, 2, 1))
    first = labels_of(tailed)
    Read.allowed = False
    assert (labels_of(LongTailed(source, counts=(3, 2, 1))) == first).all()


def test_references_and_fingerprint_are_of_what_is_kept():
    rows = Rows(names=("text", "label"), rows=tuple((f"text {i}", i % 2) for i in range(6)))
    tailed = LongTailed(rows, counts=(3, 1))
    ids = {int(tailed[i]["id"]) for i in range(4)}
    assert tailed.references == {i: {"text": (f"text {i}",)} for i in sorted(ids)}
    others = (LongTailed(rows, counts=(2, 1)), LongTailed(rows, counts=(3, 1), seed=1))
    assert tailed.fingerprint not in {other.fingerprint for other in others}
    with pytest.raises(IndexError, match="index 4 of 4"):
        tailed[4]


def test_a_config_with_all_of_it_survives_the_round_trip():
    weights = EffectiveNumber(counts=COUNTS)
    objective = Deferred(weights=weights, start=3, objective=Ldam(counts=COUNTS))
    source = LongTailed(Rows(names=("label",), rows=((0,),)), counts=(1,))
    pipeline = Pipeline(
        source=source, batch_size=1, train=True, sampling=WeightedSampling(weights=weights)
    )
    task = Classification(
        classes=CLASSES,
        metrics=(ShotAccuracy(classes=CLASSES, counts=COUNTS),),
        objective=objective,
        post_hoc=LogitAdjustment(counts=COUNTS),
    )
    for node in (task, pipeline):
        again = config.from_json(json.loads(json.dumps(config.to_json(node))))
        assert again == node and hash(again) == hash(node)
    assert config.override(task, {"objective.weights.beta": "0.9"}).objective.weights.beta == 0.9


class Model:
    num_classes = 3


BATCH = {"label": np.array([0]), "id": np.array([0])}


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: exponential(largest=10, num_classes=3, imbalance=11), "1 <= imbalance <= largest"),
        (lambda: labels_of(LongTailed(balanced(), counts=(21, 1, 1))), "20 examples of class 0"),
        (lambda: labels_of(LongTailed(balanced(), counts=(2, 1))), "the source has 3"),
        (lambda: labels_of(Rows(names=("text",), rows=(("a",),))), "example id 0 has the label"),
        (lambda: ProgressiveSampling(num_epochs=0), "given num_epochs 0, expected at least 1"),
        (lambda: EffectiveNumber(counts=(1,), beta=1.0), "expected 0 <= beta < 1"),
        (lambda: Focal(gamma=-1.0), "given gamma -1.0"),
        (lambda: InverseFrequency(counts=(3, 0)).values, "at least 1 for each class"),
        (lambda: ShotAccuracy(classes=("a",), counts=(1, 2)), "1 classes and 2 counts"),
        (lambda: ShotAccuracy(classes=(), counts=(), many=1), "expected few <= many"),
        (
            lambda: Pipeline(
                source=balanced(), batch_size=1, train=False, sampling=PowerSampling(power=0.0)
            ),
            "train=False, sampling",
        ),
        (
            lambda: Pipeline(
                source=balanced(),
                batch_size=1,
                train=True,
                sampling=PowerSampling(power=0.0),
                buckets=Buckets(lengths=(1,), measure=None, keys=()),
            ),
            "buckets=..., sampling",
        ),
        (
            lambda: WeightedSampling(weights=InverseFrequency(counts=(1, 2))).shares(
                np.array(COUNTS), 0
            ),
            "weights of 2 classes; the labels of the source have 3",
        ),
        (
            lambda: Classification(classes=CLASSES, objective=Focal(), label_smoothing=0.1),
            "leave one of them out",
        ),
        (
            lambda: Classification(
                classes=CLASSES,
                objective=Weighted(weights=InverseFrequency(counts=(1, 2))),
            ).check(Model, BATCH),
            "counts of 2 classes",
        ),
        (
            lambda: Classification(
                classes=CLASSES,
                objective=Deferred(
                    weights=InverseFrequency(counts=COUNTS), start=1, objective=Ldam(counts=COUNTS)
                ),
            ).check(Model, BATCH),
            "expected a model with cosine_scale 30.0, given None",
        ),
        (
            lambda: Deferred(weights=InverseFrequency(counts=COUNTS), start=1)(None, None),
            "expected a call of at",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
