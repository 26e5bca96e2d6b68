"""What must hold of rectified flow: of the task, with models whose velocity is known, and of the networks.

Of all paths to one picture the velocity at (x, t) is (picture - x) / (1 - t): a model that says so has no loss, and from
any noise arrives at the picture.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.decoding import test_integrators
from tests.decoding.toys import compiled
from tests.model_zoo import filled
from vlm_jax.decoding.integrators import Euler, Heun
from vlm_jax.language.transformer import TransformerEncoder
from vlm_jax.layers.norm import GroupNorm
from vlm_jax.models.flow import Flow
from vlm_jax.tasks.rectified_flow import LogitNormal, RectifiedFlow, Uniform
from vlm_jax.train.state import named_leaves
from vlm_jax.train.steps import rng_keys
from vlm_jax.types import BOS, EOS, PAD, Features
from vlm_jax.vision.dit import DiT
from vlm_jax.vision.unet import UNet

SHAPE = (2, 2, 1)
ROWS = 300  # enough for means; one number, so that little is compiled
WORD, OTHER = 4, 5
TEXT = np.array([[BOS, WORD, EOS, PAD], [BOS, OTHER, EOS, PAD]], np.int32)
# What each prompt shows, by its first word; EOS is that of the empty prompt. Between -1 and 1.
SHOWN = {EOS: 0.1, WORD: 0.3, OTHER: -0.4}


class Known:
    """A model that knows the picture of each prompt, all of one colour. It keeps what it was given."""

    image_shape = SHAPE

    def __init__(self):
        self.given = []

    def apply(self, variables, *given, train, method=None, rngs=None, mutable=None):
        if method == "encode":
            return self.encode(given[0]["text"])
        if method == "velocity":
            return self.velocity(*given)
        batch = given[0]
        self.given.append(batch)
        found = self.velocity(batch["image"], batch["time"], self.encode(batch["text"]))
        return (found, {}) if mutable is not None else found

    def encode(self, text):
        colour = sum(jnp.where(text[:, 1] == word, value, 0.0) for word, value in SHOWN.items())
        return Features(values=colour[:, None, None], mask=jnp.ones((len(text), 1), bool))

    def velocity(self, image, time, memory):
        left = jnp.maximum(1.0 - time, 1e-6)[:, None, None, None]
        return (memory.values[..., None] - image) / left


class Still(Known):
    """A model that never moves: what it paints is the noise."""

    def velocity(self, image, time, memory):
        return 0.0 * image


class Reads(nn.Module):
    """The colour of each prompt, as a text encoder."""

    def __call__(self, text, *, train):
        return Known().encode(text)


class Says(nn.Module):
    """A network that says the picture of the prompt, whatever it is shown."""

    def __call__(self, image, time, memory, *, train):
        return jnp.broadcast_to(memory.values[..., None], image.shape)


def batch_of(text=TEXT, **changes):
    colours = np.array([SHOWN[word] for word in text[:, 1].tolist()], np.float32)
    return {
        "text": jnp.asarray(text),
        "image": jnp.asarray(np.broadcast_to(colours[:, None, None, None], (len(text), *SHAPE))),
        "valid": jnp.ones(len(text), bool),
        "id": jnp.arange(len(text)),
        **changes,
    }


def many(rows):
    return batch_of(np.resize(TEXT, (rows, TEXT.shape[1])))


def loss(model, batch, *, train=True, seed=0, **fields):
    task = RectifiedFlow(**{"prompt_dropout": 0.0, "guidance": 1.0, **fields})
    rngs = rng_keys(jax.random.key(seed)) if train else {}
    return task.loss(model, {}, batch, rngs=rngs, train=train)


def painted(model, batch, *, seed=0, **fields):
    task = RectifiedFlow(**{"integrator": Euler(num_steps=4), "guidance": 1.0, **fields})
    return np.asarray(task.predict(model, {}, batch, jax.random.key(seed)).images)


def on_scale(colour):
    return 0.5 * np.asarray(colour) + 0.5


# ---- the task


def check_who_knows_the_velocity_has_no_loss():
    for times in (Uniform(), LogitNormal(mean=-0.5)):
        for train in (True, False):
            found, aux = loss(Known(), many(ROWS), train=train, times=times)
            assert float(found) < 1e-6, (times, train)
            assert float(aux.metrics["loss"].count) == ROWS


def check_who_knows_the_picture_has_no_loss_and_arrives_there():
    model = Flow(network=Says(), text_encoder=Reads(), image_shape=SHAPE, predicts="picture")
    found, _ = loss(model, many(ROWS), times=lambda key: 0.94 * jax.random.uniform(key))
    assert float(found) < 1e-6
    images = painted(model, batch_of())
    for row, word in enumerate((WORD, OTHER)):
        np.testing.assert_allclose(images[row], on_scale(SHOWN[word]), atol=1e-5)
    # In the last twentieth of the path no velocity is as large as it would have to be.
    near = jnp.array([0.98, 0.999])
    memory = Known().encode(TEXT)
    said = model.apply({}, jnp.ones((2, *SHAPE)), near, memory, train=False, method="velocity")
    expected = (np.array([SHOWN[WORD], SHOWN[OTHER]]) - 1.0) / 0.05
    np.testing.assert_allclose(said[:, 0, 0, 0], expected, rtol=1e-5)


def check_who_stands_still_loses_the_square_of_picture_less_noise():
    """1 of the noise, and the square of the picture: a mean over numbers and rows."""
    found, _ = loss(Still(), many(ROWS))
    expected = 1 + (SHOWN[WORD] ** 2 + SHOWN[OTHER] ** 2) / 2
    assert abs(float(found) - expected) < 0.12


def check_rows_that_fill_the_batch_are_not_learned():
    batch = many(ROWS)
    valid = jnp.arange(ROWS) % 3 > 0
    image = jnp.where(valid[:, None, None, None], batch["image"], 5.0)
    for train in (True, False):
        found, aux = loss(Known(), {**batch, "valid": valid, "image": image}, train=train)
        assert float(found) < 1e-6 and float(aux.metrics["loss"].count) == ROWS * 2 // 3


def check_every_row_has_a_time_and_noise_of_its_own():
    model = Known()
    loss(model, many(ROWS), times=LogitNormal(mean=-1.0, std=0.5))
    (given,) = model.given
    time = np.asarray(given["time"])
    assert ((time > 0) & (time < 1)).all() and len(np.unique(time)) > ROWS - 10
    logits = np.log(time / (1 - time))
    assert abs(logits.mean() + 1.0) < 0.15 and abs(logits.std() - 0.5) < 0.1
    noise = np.asarray(given["image"]).reshape(ROWS, -1)
    noise = (noise - time[:, None] * np.asarray(many(ROWS)["image"]).reshape(ROWS, -1)) / (
        1 - time[:, None]
    )
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
    assert abs(np.corrcoef(noise.T) - np.eye(4)).max() < 0.25
    assert len(np.unique(noise.round(4))) > 4 * ROWS - 100
    assert abs(np.corrcoef(noise[:, 0], time)[0, 1]) < 0.25


def check_each_step_draws_anew():
    seen = []
    for seed in (0, 1):
        model = Known()
        loss(model, many(ROWS), seed=seed)
        seen.append(np.asarray(model.given[0]["time"]))
    assert np.isclose(*seen).mean() < 0.05


def check_prompts_are_dropped_as_often_as_said_and_in_training_alone():
    for train, rate in ((True, 0.3), (False, 0.0)):
        model = Known()
        loss(model, many(ROWS), train=train, prompt_dropout=0.3)
        text = np.asarray(model.given[0]["text"])
        empty = text[:, 1] == EOS
        assert abs(empty.mean() - rate) < 0.08
        np.testing.assert_array_equal(text[empty][:, 2:], PAD)
        np.testing.assert_array_equal(text[~empty], np.resize(TEXT, (ROWS, 4))[~empty])


def check_an_evaluation_is_the_same_in_any_order():
    batch = many(ROWS)
    turned = {name: value[::-1] for name, value in batch.items()}
    first, second = Still(), Still()
    found = [float(loss(m, b, train=False)[0]) for m, b in ((first, batch), (second, turned))]
    np.testing.assert_allclose(*found, rtol=1e-6)
    np.testing.assert_allclose(first.given[0]["image"], second.given[0]["image"][::-1])


def check_each_prompt_becomes_its_picture():
    found = painted(Known(), batch_of())
    assert found.shape == (2, 1, *SHAPE)
    expected = on_scale([SHOWN[WORD], SHOWN[OTHER]])
    np.testing.assert_allclose(found[:, 0, 0, 0, 0], expected, atol=1e-4)
    assert found.std((1, 2, 3, 4)).max() < 1e-4


def check_guidance_goes_from_the_empty_prompt_beyond_the_given_one():
    """The end of the path is itself empty + g (given - empty)."""
    for guidance in (0.0, 1.0, 2.0):
        found = painted(Known(), batch_of(), guidance=guidance)[:, 0, 0, 0, 0]
        given = np.array([SHOWN[WORD], SHOWN[OTHER]])
        expected = SHOWN[EOS] + guidance * (given - SHOWN[EOS])
        np.testing.assert_allclose(found, np.clip(on_scale(expected), 0, 1), atol=1e-4)


def check_every_picture_starts_from_noise_of_its_own():
    """That of a row is the same in a longer batch."""
    noise = painted(Still(), many(ROWS), num_samples=2)
    assert noise.shape == (ROWS, 2, *SHAPE)
    for a, b in ((noise[0, 0], noise[1, 0]), (noise[0, 0], noise[0, 1])):
        assert abs(a - b).max() > 0.05
    middle = noise[(noise > 0) & (noise < 1)]
    assert abs(np.median(noise) - 0.5) < 0.05 and 0.6 < middle.size / noise.size < 0.75
    np.testing.assert_array_equal(noise[:2], painted(Still(), batch_of(), num_samples=2))
    assert abs(noise[0, 0] - painted(Still(), batch_of(), seed=1, num_samples=2)[0, 0]).max() > 0.05


def check_the_samples_of_a_row_are_of_its_prompt():
    found = painted(Known(), batch_of(), num_samples=2, guidance=2.0)
    colours = found[:, :, 0, 0, 0]
    np.testing.assert_allclose(colours[:, 0], colours[:, 1], atol=1e-4)
    assert abs(colours[0] - colours[1]).min() > 0.1


# ---- the integrators


def check_two_steps_by_hand():
    test_integrators.test_two_steps_by_hand()


def check_what_each_is_exact_for():
    test_integrators.test_what_each_is_exact_for(3.0)


def check_order_of_convergence():
    for kind, order in ((Euler, 1), (Heun, 2)):
        test_integrators.test_order_of_convergence(kind, order, 1.0)


def check_a_straight_path_is_followed_to_its_end():
    test_integrators.test_a_straight_path_to_a_picture_is_followed_to_its_end()


def check_the_times():
    test_integrators.test_the_times()


# ---- the networks


WORDS = np.array([[BOS, 4, 5, 6, EOS, PAD], [BOS, 7, 4, EOS, PAD, PAD]], np.int32)


def networks():
    return {
        "unet": UNet(
            widths=(4, 8),
            num_blocks=(1, 1),
            patch_size=2,
            num_heads=2,
            condition_width=6,
            norm=GroupNorm(num_groups=2),
        ),
        "dit": DiT(width=8, num_layers=2, num_heads=2, hidden=8, patch_size=2, condition_width=6),
    }


class Networks:
    """Each network in a Flow, with parameters of a size at which mistakes show, compiled once."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.batch = {
            "image": rng.normal(size=(2, 8, 8, 2)).astype(np.float32),
            "time": np.array([0.2, 0.7], np.float32),
            "text": WORDS,
            "padding": np.zeros((2, 1, 1), np.float32),  # what lies under that of the memory
        }
        encoder = TransformerEncoder(vocab_size=8, width=8, num_layers=1, num_heads=2, hidden=8)
        self.models = {
            name: Flow(network=network, text_encoder=encoder, image_shape=(8, 8, 2))
            for name, network in networks().items()
        }
        self.shapes = {
            name: jax.eval_shape(lambda m=m: m.init(jax.random.key(0), self.batch, train=False))
            for name, m in self.models.items()
        }
        self.variables = {name: filled(shapes) for name, shapes in self.shapes.items()}
        self._compiled = {}

    @functools.cached_property
    def plain(self):
        return {name: self(name) for name in self.models}

    def __call__(self, name, **changes):
        if name not in self._compiled:
            self._compiled[name] = compiled(functools.partial(_velocity, self.models[name]))
        batch = {**self.batch, **changes}
        return jax.device_get(self._compiled[name](self.variables[name], batch))

    def gradients(self, name):
        """Of a sum of the velocity's numbers with weights."""

        def objective(variables, batch):
            found = _velocity(self.models[name], variables, batch)
            return (found * np.random.default_rng(1).normal(size=found.shape)).sum()

        return jax.device_get(compiled(jax.grad(objective))(self.variables[name], self.batch))


def _velocity(model, variables, batch):
    memory = model.apply(variables, batch, train=False, method="encode")
    kept = memory.mask[..., None]
    memory = memory.replace(values=jnp.where(kept, memory.values, batch["padding"]))
    given = batch["image"], batch["time"], memory
    return model.apply(variables, *given, train=False, method="velocity")


def check_padding_of_the_prompt_changes_nothing(w):
    for name in w.models:
        found = w(name, padding=np.full((2, 1, 1), np.nan, np.float32))
        np.testing.assert_array_equal(found, w.plain[name], err_msg=name)


def check_rows_do_not_mix(w):
    for name in w.models:
        turned = w(name, **{key: value[::-1] for key, value in w.batch.items()})
        options = dict(rtol=1e-3, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(turned[::-1], w.plain[name], **options)
        scale = np.array([1.0, -2.0], np.float32)[:, None, None, None]
        beside = w(name, image=w.batch["image"] * scale)
        np.testing.assert_allclose(beside[0], w.plain[name][0], **options)


def check_time_words_and_far_places_matter(w):
    for name in w.models:
        far = w.batch["image"].copy()
        far[:, 0, 0] += 1.0
        order = WORDS.copy()
        order[:, [1, 2]] = order[:, [2, 1]]
        for what, change in {
            "time": {"time": w.batch["time"] + 0.1},
            "words": {"text": np.where(WORDS == 4, 6, WORDS)},
            "their order": {"text": order},
            "a far place": {"image": far},
        }.items():
            moved = abs(w(name, **change) - w.plain[name])[:, 6:, 6:]
            assert (moved.reshape(2, -1).max(1) > 1e-4).all(), f"{name}: {what} is not seen"


def check_a_place_knows_where_it_is(w):
    """A picture without anything in it, moved or mirrored, is the same picture; the answer is not."""
    for name in w.models:
        found = w(name, image=np.ones_like(w.batch["image"]))
        places = found[:, ::2, ::2]  # one number of every patch
        assert abs(places - places[:, ::-1]).max() > 1e-2, name
        assert abs(places - places[:, :, ::-1]).max() > 1e-2, name


def check_gradients_reach_every_parameter(w):
    """Not a key's bias: softmax takes it out."""
    for name in w.models:
        for path, gradient in named_leaves(w.gradients(name)).items():
            if path.endswith("key/bias"):
                continue
            assert np.isfinite(gradient).all() and abs(gradient).max() > 1e-7, (name, path)
            if path.endswith("past/kernel"):  # of what comes up and what comes across the U
                assert (abs(gradient).max(-1) > 1e-7).all(), (name, path)


TASK_CHECKS = (
    check_who_knows_the_velocity_has_no_loss,
    check_who_knows_the_picture_has_no_loss_and_arrives_there,
    check_who_stands_still_loses_the_square_of_picture_less_noise,
    check_rows_that_fill_the_batch_are_not_learned,
    check_every_row_has_a_time_and_noise_of_its_own,
    check_each_step_draws_anew,
    check_prompts_are_dropped_as_often_as_said_and_in_training_alone,
    check_an_evaluation_is_the_same_in_any_order,
    check_each_prompt_becomes_its_picture,
    check_guidance_goes_from_the_empty_prompt_beyond_the_given_one,
    check_every_picture_starts_from_noise_of_its_own,
    check_the_samples_of_a_row_are_of_its_prompt,
)
PATH_CHECKS = (
    check_two_steps_by_hand,
    check_what_each_is_exact_for,
    check_order_of_convergence,
    check_a_straight_path_is_followed_to_its_end,
    check_the_times,
)
NETWORK_CHECKS = (
    check_padding_of_the_prompt_changes_nothing,
    check_rows_do_not_mix,
    check_time_words_and_far_places_matter,
    check_a_place_knows_where_it_is,
)
