"""Contrastive training on eight devices and through the loop; the losses themselves are in tests/invariants."""

import dataclasses

import numpy as np
import pytest

from tests.fake_devices import printed_by
from tests.invariants.retrieval_checks import BATCH, model
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import InMemory
from vlm_jax.tasks.contrastive import Contrastive, sigmoid_pairs, softmax_pairs
from vlm_jax.tasks.zero_shot import ZeroShot
from vlm_jax.train.evaluation import Evaluation, evaluate
from vlm_jax.train.experiment import Experiment, check
from vlm_jax.train.logs import Writer
from vlm_jax.train.loop import train
from vlm_jax.train.optimizers import Adam


def test_eight_devices_train_as_one():
    """Under jit over a mesh and under pmap: losses, gradients and parameters (INVARIANTS 16)."""
    found = printed_by("tests.tasks.contrastive_devices_main")
    assert found.pop("devices") == 8 and len(found) == 2 * 3
    for layout, differences in found.items():
        assert max(differences) <= 1e-5, (layout, differences)


class Silent(Writer):
    def open(self, workdir, num_steps):
        return self


def experiment(objective, **changes):
    """Seven pairs of six pictures."""
    rows = [{k: x[i] for k, x in BATCH.items() if k != "valid"} for i in range(7)]
    fields = dict(source=InMemory(rows), batch_size=7)
    return Experiment(
        model=model(),
        task=Contrastive(objective=objective),
        train_data=Pipeline(**fields, train=True),
        num_steps=200,
        optimizer=Adam(learning_rate=3e-2, **changes),
        evaluations=(Evaluation(name="all", data=Pipeline(**fields, train=False), loss=False),),
    )


@pytest.mark.parametrize("objective", [softmax_pairs, sigmoid_pairs])
def test_pairs_are_learnt_by_heart(objective):
    given = experiment(objective)
    given = dataclasses.replace(given, evaluations=())
    state = train(given, log=Silent())
    found = evaluate(experiment(objective).evaluations[0], given.model, given.task, state.variables)
    assert found.numbers["text_to_image_r1"] == found.numbers["image_to_text_r1"] == 100.0
    assert state.params["log_scale"] != np.float32(np.log(1 / 0.07))


def test_micro_batches_are_refused():
    given = experiment(softmax_pairs, accumulate=7)
    with pytest.raises(ValueError, match="accumulate: given 7, expected 1: Contrastive compares"):
        check(given)


def test_zero_shot_has_no_loss():
    with pytest.raises(ValueError, match="loss=False"):
        ZeroShot(classes=("a",), tokenize=None).loss(None, {}, {}, rngs={}, train=True)


def test_a_model_without_picture_and_text_says_so():
    with pytest.raises(ValueError, match="expected 'image' or 'text' in the batch"):
        model().init({}, {"label": np.zeros(1)}, train=False)
