"""Rectified flow learns to paint, and refuses what it cannot take."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.invariants.flow_checks import SHAPE, batch_of, networks
from tests.invariants.planned_flow_checks import PLANNING, Plan
from vlm_jax.decoding.integrators import Euler
from vlm_jax.language.plan_encoder import PlanEncoder
from vlm_jax.language.transformer import TransformerDecoder, TransformerEncoder
from vlm_jax.metrics.prompt_holds import PlanHolds
from vlm_jax.models.flow import Flow, PlannedFlow
from vlm_jax.tasks.rectified_flow import RectifiedFlow
from vlm_jax.train.optimizers import Adam
from vlm_jax.train.state import init_state
from vlm_jax.train.steps import train_step

ENCODER = TransformerEncoder(vocab_size=8, width=8, num_layers=1, num_heads=2, hidden=8)
FLOW = Flow(network=networks()["dit"], text_encoder=ENCODER, image_shape=SHAPE)


def test_it_learns_the_picture_of_each_of_two_prompts():
    batch = {name: np.tile(value, (8,) + (1,) * (value.ndim - 1)) for name, value in batch_of().items()}  # fmt: skip
    batch["id"] = np.arange(16)
    task = RectifiedFlow(integrator=Euler(num_steps=16), guidance=1.0, prompt_dropout=0.0)
    tx = Adam(learning_rate=1e-2).build()
    state = jax.jit(lambda key: init_state(FLOW, tx, batch, key))(jax.random.key(0))
    step = jax.jit(train_step(FLOW, task, tx), donate_argnums=0)
    losses = []
    for _ in range(200):
        state, metrics = step(state, batch, jax.random.key(1))
        losses.append(float(metrics["loss"].value()))
    assert np.mean(losses[-20:]) < 0.3 * np.mean(losses[:5])
    predict = jax.jit(lambda variables, key: task.predict(FLOW, variables, batch, key).images)
    images = predict(state.variables, jax.random.key(2))
    colours = np.asarray(images).mean((1, 2, 3, 4)).reshape(8, 2).mean(0)
    expected = 0.5 * np.asarray(batch["image"])[:2, 0, 0, 0] + 0.5
    np.testing.assert_allclose(colours, expected, atol=0.08)


def test_what_no_network_predicts_is_refused():
    with pytest.raises(ValueError, match="'noise'.*expected one of velocity, picture"):
        FLOW.clone(predicts="noise")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((2, 4, 4, 1), np.float32)}, r"\(4, 4, 1\).*image_shape \(2, 2, 1\)"),
        ({"text": np.array([[1, 9, 2, 0]] * 2)}, "token 9.*vocab_size 8"),
        ({"text": np.array([[1, 4, 0, 0]] * 2)}, "exactly one EOS"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        RectifiedFlow().check(FLOW, {**batch_of(), **change})


BEHIND_A_PLAN = RectifiedFlow(plan=Plan(), planning=PLANNING)


def planned_flow(vocab_size=8):
    return PlannedFlow(
        network=FLOW.network,
        text_encoder=ENCODER,
        image_shape=SHAPE,
        planner=TransformerDecoder(
            vocab_size=vocab_size, width=8, num_layers=1, num_heads=2, hidden=8
        ),
        plan_encoder=PlanEncoder(vocab_size=4, num_parts=2, width=8, hidden=8),
    )


def test_a_plan_that_fits_is_taken():
    BEHIND_A_PLAN.check(planned_flow(), {**batch_of(), "plan": np.array([[1, 3], [0, 0]])})


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (np.array([[1, 4], [0, 0]]), "from 0 to 4, expected 2 from 0 to 3.*ToPlan"),
        (np.array([[1, -1], [0, 0]]), "from -1 to 1"),
        (np.zeros((2, 3), np.int32), r"a plan \(2, 3\)"),
        (None, "expected 2 from 0 to 3; make it with data.codes.ToPlan"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(plan, message):
    given = batch_of() if plan is None else {**batch_of(), "plan": plan}
    with pytest.raises(ValueError, match=message):
        BEHIND_A_PLAN.check(planned_flow(), given)


def test_a_plan_needs_a_model_and_something_that_writes_it():
    batch = {**batch_of(), "plan": np.zeros((2, 2), np.int32)}
    with pytest.raises(ValueError, match="the model is a Flow; expected a plan with a PlannedFlow"):
        BEHIND_A_PLAN.check(FLOW, batch)
    with pytest.raises(ValueError, match="plan=None and the model is a PlannedFlow"):
        RectifiedFlow().check(planned_flow(), batch)
    with pytest.raises(ValueError, match="the planner has vocab_size 9, expected 8"):
        BEHIND_A_PLAN.check(planned_flow(9), batch)
    with pytest.raises(ValueError, match="expected both, or neither: planning is what writes"):
        RectifiedFlow(plan=Plan())
    with pytest.raises(ValueError, match="plan_metrics .* without a plan"):
        RectifiedFlow(plan_metrics=(PlanHolds(),))
    for changes, message in (
        ({"stages": ((2, 4, 8),)}, r"stages \(\(2, 4, 8\),\), expected \(\(2, 4, 7\),\)"),
        ({"max_length": 3}, "max_length 3 and min_length 2, expected 2 of both"),
    ):
        planning = dataclasses.replace(PLANNING, **changes)
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(BEHIND_A_PLAN, planning=planning).check(planned_flow(), batch)
    with pytest.raises(ValueError, match="plans of 3 numbers, expected 2 an object"):
        planned_flow().plan_encoder.init(jax.random.key(0), jnp.zeros((1, 3)), train=False)


def test_guidance_is_refused_below_zero():
    with pytest.raises(ValueError, match="guidance"):
        RectifiedFlow(guidance=-1.0)
    with pytest.raises(ValueError, match="learns from prompt_dropout only; given 0, try 0.1"):
        RectifiedFlow(prompt_dropout=0.0)
