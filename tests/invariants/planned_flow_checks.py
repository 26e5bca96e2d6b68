"""What must hold of a flow behind a plan: of the task, with a model that knows every plan and what it shows, and of the
parts of a small one.

A toy's plan is of two numbers of one object: which colour, and always 3; what it shows is the colour.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.decoding.toys import compiled
from tests.invariants.flow_checks import (
    OTHER,
    ROWS,
    SHAPE,
    SHOWN,
    WORD,
    Known,
    many,
    networks,
    on_scale,
)
from tests.model_zoo import filled
from vlm_jax.decoding.integrators import Euler
from vlm_jax.decoding.sampling import Sampling
from vlm_jax.language.plan_encoder import PlanEncoder
from vlm_jax.language.transformer import TransformerDecoder, TransformerEncoder
from vlm_jax.models.flow import PlannedFlow
from vlm_jax.tasks.rectified_flow import RectifiedFlow
from vlm_jax.train.state import named_leaves
from vlm_jax.train.steps import rng_keys
from vlm_jax.types import BOS, EOS, NUM_SPECIAL, PAD, Features

NUMBERS = {WORD: 1, OTHER: 2}  # of a plan, by the first word of its prompt
LAST = 3
COLOURS = np.array([SHOWN[EOS], SHOWN[WORD], SHOWN[OTHER], 9.0], np.float32)  # of each number


class Plan:
    length, vocab_size = 2, 4

    def decode(self, numbers):
        return tuple(int(number) for number in numbers)


class Reference:
    """A metric that keeps what it was given."""

    reference = "prompt"

    def __init__(self):
        self.given = []

    def stats(self, prediction, references):
        self.given.append((prediction, references))
        return 1

    def result(self, stats):
        return {}


PLANNING = Sampling(
    max_length=2,
    min_length=2,
    temperature=0.0,
    stages=((2, NUM_SPECIAL, NUM_SPECIAL + Plan.vocab_size - 1),),
)


class KnowsPlans(Known):
    """It writes the plan of every prompt, sure by `sure` nats, and its network knows the picture of every plan."""

    def __init__(self, sure=40.0):
        super().__init__()
        self.sure = sure

    def apply(self, variables, *given, train=False, method=None, rngs=None, mutable=None):
        if method == "told":
            return self.told(*given)
        if method == "initial_cache":
            return {"place": jnp.zeros(given[1], jnp.int32)}
        if method == "step":
            _, cache, memory = given
            return self.logits(memory, cache["place"]), {"place": cache["place"] + 1}
        if method is not None:
            return super().apply(variables, *given, train=train, method=method)
        (batch,) = given
        self.given.append(batch)
        told = self.told(batch.get("told", batch["plan"]))
        velocity = self.velocity(batch["image"], batch["time"], told)
        memory, rows = self.encode(batch["text"]), len(batch["text"])
        logits = [self.logits(memory, jnp.full(rows, place)) for place in range(2)]
        return (velocity, jnp.stack(logits, axis=1)), {}

    def encode(self, text):
        word = text[:, 1].astype(jnp.float32)
        return Features(values=word[:, None, None], mask=jnp.ones((len(text), 1), bool))

    def told(self, plans):
        colour = jnp.asarray(COLOURS)[plans[:, 0]]
        return Features(values=colour[:, None, None], mask=jnp.ones((len(plans), 1), bool))

    def logits(self, memory, place):
        word = memory.values[:, 0, 0]
        number = sum(jnp.where(word == each, found, 0) for each, found in NUMBERS.items())
        token = NUM_SPECIAL + jnp.where(place == 0, number, LAST)
        return self.sure * jax.nn.one_hot(token, NUM_SPECIAL + Plan.vocab_size)


def planned(rows=2):
    batch = many(rows)
    numbers = [NUMBERS[int(word)] for word in batch["text"][:, 1]]
    return {**batch, "plan": jnp.array([(number, LAST) for number in numbers])}


def task(**fields):
    known = {"plan": Plan(), "planning": PLANNING, "integrator": Euler(num_steps=4)}
    return RectifiedFlow(**{**known, "guidance": 1.0, **fields})


def loss(model, batch, *, train=True, **fields):
    rngs = rng_keys(jax.random.key(0)) if train else {}
    return task(prompt_dropout=fields.pop("prompt_dropout", 0.0), **fields).loss(
        model, {}, batch, rngs=rngs, train=train
    )


def painted(model, batch, *, seed=0, **fields):
    return task(**fields).predict(model, {}, batch, jax.random.key(seed))


def check_who_knows_plan_and_velocity_has_no_loss():
    for train in (True, False):
        found, aux = loss(KnowsPlans(), planned(ROWS), train=train)
        assert float(found) < 1e-6, train
        assert {name: float(mean.count) for name, mean in aux.metrics.items()} == {
            "loss": ROWS,
            "plan_loss": ROWS,
        }


def check_a_plan_costs_its_nats_a_number():
    """Who does not know has log v of each number, beside the loss of the velocity; rows that fill the batch have none."""
    nats = np.log(NUM_SPECIAL + Plan.vocab_size)
    batch = planned(ROWS)
    valid = jnp.arange(ROWS) % 3 > 0
    wrong = jnp.where(valid[:, None], batch["plan"], 0)
    found, aux = loss(KnowsPlans(sure=0.0), {**batch, "valid": valid, "plan": wrong})
    np.testing.assert_allclose(float(found), nats, rtol=1e-5)
    np.testing.assert_allclose(float(aux.metrics["plan_loss"].value()), nats, rtol=1e-5)
    assert float(aux.metrics["loss"].value()) < 1e-6
    turned = batch["plan"].at[:, 1].set(0)  # one number of two is not what was said
    found, _ = loss(KnowsPlans(), {**batch, "plan": turned})
    np.testing.assert_allclose(float(found), 40.0 / 2, rtol=1e-4)


def check_plans_are_dropped_and_prompts_stay():
    """For guidance; who writes the plan reads the whole prompt, and all of the plan is asked of it."""
    for train, rate in ((True, 0.3), (False, 0.0)):
        model, batch = KnowsPlans(), planned(ROWS)
        _, aux = loss(model, batch, train=train, prompt_dropout=0.3)
        (given,) = model.given
        told = np.asarray(given.get("told", given["plan"]))
        dropped = (told == 0).all(1)
        assert abs(dropped.mean() - rate) < 0.08, train
        np.testing.assert_array_equal(told[~dropped], np.asarray(batch["plan"])[~dropped])
        np.testing.assert_array_equal(given["text"], batch["text"])
        np.testing.assert_array_equal(given["plan"], batch["plan"])
        assert float(aux.metrics["plan_loss"].value()) < 1e-6


def check_what_is_painted_is_the_plan_that_was_written():
    """Not that of the batch, which is of the real picture."""
    batch = planned()
    for plan in (batch["plan"], batch["plan"][::-1], None):
        given = {name: value for name, value in batch.items() if name != "plan"}
        found = painted(
            KnowsPlans(), given if plan is None else {**given, "plan": plan}, num_samples=2
        )
        assert found.images.shape == (2, 2, *SHAPE)
        np.testing.assert_array_equal(found.plans, [[(1, LAST)] * 2, [(2, LAST)] * 2])
        expected = on_scale([[SHOWN[WORD]] * 2, [SHOWN[OTHER]] * 2])
        np.testing.assert_allclose(found.images[..., 0, 0, 0], expected, atol=1e-4)


def check_guidance_goes_from_no_plan_beyond_the_written_one():
    for guidance in (0.0, 2.0):
        found = painted(KnowsPlans(), planned(), guidance=guidance).images[:, 0, 0, 0, 0]
        given = np.array([SHOWN[WORD], SHOWN[OTHER]])
        expected = SHOWN[EOS] + guidance * (given - SHOWN[EOS])
        np.testing.assert_allclose(found, np.clip(on_scale(expected), 0, 1), atol=1e-4)


def check_plans_are_drawn_for_each_sample():
    """Of a row the same in a longer batch; `sure` is little enough that both colours come."""
    drawing = dataclasses.replace(PLANNING, temperature=1.0)
    model, key = KnowsPlans(sure=0.0), jax.random.key(0)

    def plans(rows):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(rows))
        made = task(planning=drawing, num_samples=8).predict(model, {}, planned(rows), keys)
        assert made.plans.shape == (rows, 8, 2)
        colours = np.asarray(made.images)[..., 0, 0, 0]
        shown = np.clip(on_scale(COLOURS[np.asarray(made.plans)[..., 0]]), 0, 1)
        np.testing.assert_allclose(colours, shown, atol=1e-3)
        return np.asarray(made.plans)

    found = plans(4)
    assert all(len(np.unique(row, axis=0)) > 1 for row in found)
    assert len(np.unique(found[:, :, 0], axis=0)) > 1
    np.testing.assert_array_equal(found[:2], plans(2))


def check_metrics_of_plans_are_given_what_was_planned():
    of_pictures, of_plans = Reference(), Reference()
    measured = task(metrics=(of_pictures,), plan_metrics=(of_plans,))
    batch = planned()
    made = measured.predict(KnowsPlans(), {}, batch, jax.random.key(0))
    measured.score(made, batch, {i: {"prompt": (f"prompt {i}",)} for i in range(2)})
    assert [given for given, _ in of_plans.given] == [(1, LAST), (2, LAST)]
    assert [np.shape(given) for given, _ in of_pictures.given] == [SHAPE] * 2


TASK_CHECKS = (
    check_who_knows_plan_and_velocity_has_no_loss,
    check_a_plan_costs_its_nats_a_number,
    check_plans_are_dropped_and_prompts_stay,
    check_what_is_painted_is_the_plan_that_was_written,
    check_guidance_goes_from_no_plan_beyond_the_written_one,
    check_plans_are_drawn_for_each_sample,
    check_metrics_of_plans_are_given_what_was_planned,
)


# ---- the parts

PLANS = np.array([[1, 5, 7, 2, 6, 8], [3, 4, 7, 0, 0, 0]], np.int32)  # two objects of three numbers
WORDS = np.array([[BOS, 4, 5, EOS], [BOS, 7, EOS, PAD]], np.int32)


class Parts:
    """A small PlannedFlow, with parameters of a size at which mistakes show, compiled once."""

    def __init__(self):
        text = {"width": 8, "num_layers": 1, "num_heads": 2, "hidden": 8}
        self.model = PlannedFlow(
            network=networks()["dit"],
            text_encoder=TransformerEncoder(vocab_size=8, **text),
            image_shape=(4, 4, 1),
            planner=TransformerDecoder(vocab_size=9 + NUM_SPECIAL, max_length=6, **text),
            plan_encoder=PlanEncoder(vocab_size=9, num_parts=3, width=8, hidden=8),
        )
        rng = np.random.default_rng(0)
        self.batch = {
            "image": rng.normal(size=(2, 4, 4, 1)).astype(np.float32),
            "time": np.array([0.2, 0.7], np.float32),
            "text": WORDS,
            "plan": PLANS,
        }
        init = jax.eval_shape(lambda: self.model.init(jax.random.key(0), self.batch, train=False))
        self.variables = filled(init)
        self._both = compiled(functools.partial(self.model.apply, train=False))
        self._told = compiled(functools.partial(self.model.apply, train=False, method="told"))

    @functools.cached_property
    def plain(self):
        return self()

    def __call__(self, **changes):
        """The velocity and the logits."""
        return jax.device_get(self._both(self.variables, {**self.batch, **changes}))

    def told(self, plans):
        return jax.device_get(self._told(self.variables, np.asarray(plans, np.int32)))

    def gradients(self):
        def objective(variables):
            velocity, logits = self.model.apply(variables, self.batch, train=False)
            weights = np.random.default_rng(1)
            return sum((x * weights.normal(size=x.shape)).sum() for x in (velocity, logits))

        return jax.device_get(compiled(jax.grad(objective))(self.variables))


def check_an_object_is_a_vector_of_its_numbers(w):
    told = w.told(PLANS)
    np.testing.assert_array_equal(told.mask, [[1, 1, 1], [1, 1, 0]])
    turned = w.told(PLANS[:, [3, 4, 5, 0, 1, 2]])
    np.testing.assert_allclose(turned.values[0, [0, 2, 1]], told.values[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(turned.mask[1], [1, 0, 1])
    for place in range(3):
        changed = PLANS.copy()
        changed[0, place] = 8 - changed[0, place]
        moved = abs(w.told(changed).values - told.values).max(-1)
        assert moved[0, 1] > 1e-3 and moved[0, 2] == moved[1].max() == 0
    np.testing.assert_array_equal(w.told(0 * PLANS).mask, [[1, 0, 0]] * 2)


def check_the_network_goes_by_what_it_is_told_alone(w):
    velocity, logits = w.plain
    other = w(text=WORDS[:, [0, 2, 1, 3]] * 1)
    np.testing.assert_array_equal(other[0], velocity)
    assert abs(other[1] - logits).max() > 1e-3
    told = w(told=0 * PLANS)
    assert abs(told[0] - velocity).reshape(2, -1).max(1).min() > 1e-4
    np.testing.assert_array_equal(told[1], logits)
    np.testing.assert_allclose(w(told=PLANS)[0], velocity, rtol=1e-5, atol=1e-6)
    absent = PLANS.copy()
    absent[1, 4:] = 5  # of an object that is not there
    np.testing.assert_allclose(w(told=absent)[0], velocity, rtol=1e-5, atol=1e-6)


def check_a_number_is_written_from_those_before_it(w):
    _, logits = w.plain
    for place in range(6):
        changed = PLANS.copy()
        changed[:, place] = 8 - changed[:, place]
        moved = abs(w(plan=changed)[1] - logits).max((0, 2))
        assert moved[: place + 1].max() < 1e-5
        assert place == 5 or moved[place + 1 :].min() > 1e-4


def check_steps_write_what_is_read(w):
    variables, plans = w.variables, jnp.asarray(PLANS)

    def stepwise(variables):
        memory = w.model.apply(variables, w.batch, train=False, method="encode")
        cache = w.model.apply(variables, memory, 2, 6, method="initial_cache")
        step = lambda cache, token: w.model.apply(  # noqa: E731
            variables, token, cache, memory, method="step"
        )[::-1]
        before = jnp.pad(plans[:, :-1] + NUM_SPECIAL, ((0, 0), (1, 0)), constant_values=BOS)
        return jax.lax.scan(step, cache, before.T)[1].swapaxes(0, 1)

    found = compiled(stepwise)(variables)
    np.testing.assert_allclose(found, w.plain[1], rtol=1e-3, atol=1e-4)


def check_gradients_reach_every_parameter(w):
    """Not a key's bias: softmax takes it out."""
    for path, gradient in named_leaves(w.gradients()).items():
        if not path.endswith("key/bias"):
            assert np.isfinite(gradient).all() and abs(gradient).max() > 1e-7, path


PART_CHECKS = (
    check_an_object_is_a_vector_of_its_numbers,
    check_the_network_goes_by_what_it_is_told_alone,
    check_a_number_is_written_from_those_before_it,
    check_steps_write_what_is_read,
    check_gradients_reach_every_parameter,
)
