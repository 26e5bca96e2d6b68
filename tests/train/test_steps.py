"""The training step: what it divides by, what it leaves alone, what it does with nan."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train import toys
from vlm_jax.train.optimizers import AdamW, Sgd
from vlm_jax.train.state import State, float32, init_state, named_leaves, state_hash
from vlm_jax.train.steps import gradient_sums, make_train_step, moving_average, rng_keys, train_step

KEY = jax.random.key(0)
MODEL = toys.Model(dropout_rate=0.0, batch_norm=False)
TASK = toys.Task()
SGD = Sgd(learning_rate=1.0)


def batch(position=0, **source):
    pipeline = toys.Pipeline(source=toys.Rows(**source))
    return next(pipeline.batches(position))[1]


def start(model=MODEL, optimizer=SGD):
    tx = optimizer.build()
    state = init_state(model, tx, batch(), KEY, ema=optimizer.ema_decay is not None)
    return jax.tree.map(jnp.array, state), tx


@functools.cache
def compiled(model=MODEL, optimizer=SGD, **options):
    options = {
        "trainable": optimizer.trainable,
        "accumulate": optimizer.accumulate,
        "ema_decay": optimizer.ema_decay,
        **options,
    }
    return jax.jit(train_step(model, TASK, optimizer.build(), **options))


def assert_close(a, b, rtol):
    for name, leaf in named_leaves(a).items():
        other = np.asarray(named_leaves(b)[name])
        scale = max(float(np.abs(other).max()), 1e-3)
        np.testing.assert_allclose(leaf / scale, other / scale, atol=rtol, rtol=0, err_msg=name)


def test_the_gradient_is_the_token_weighted_mean_over_rows():
    state, _ = start()
    rows = batch()
    found, _ = compiled()(state, rows, KEY)
    sums, tokens = jax.tree.map(jnp.zeros_like, state.params), 0

    @jax.jit
    def grad(params, row):
        return jax.grad(lambda p: TASK.loss(MODEL, {"params": p}, row, rngs={}, train=True)[0])(
            params
        )

    for i in range(8):
        row = {name: x[i : i + 1] for name, x in rows.items()}
        count = int((row["target"] != 0).sum())
        sums = jax.tree.map(lambda s, g, c=count: s + c * g, sums, grad(state.params, row))
        tokens += count
    expected = jax.tree.map(lambda p, s: p - s / tokens, state.params, sums)
    assert_close(found.params, expected, 1e-6)
    counts = [(rows["target"][i] != 0).sum() for i in range(8)]
    assert len(set(counts)) > 2  # ragged, or a mean of means would pass


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_equals_the_full_batch(parts):
    state, _ = start()
    whole, whole_metrics = compiled()(state, batch(), KEY)
    optimizer = Sgd(learning_rate=1.0, accumulate=parts)
    split, split_metrics = compiled(optimizer=optimizer)(state, batch(), KEY)
    assert_close(split.params, whole.params, 1e-6)
    for name in whole_metrics:
        np.testing.assert_allclose(
            split_metrics[name].value(), whole_metrics[name].value(), rtol=1e-6
        )


def test_micro_batches_without_a_token_weigh_nothing():
    rows = batch()
    empty = {**rows, "valid": np.arange(8) % 2 == 0}  # rows 1, 3, ... are the second micro-batch
    half = {name: x[::2] for name, x in rows.items()}
    state, _ = start()
    found, metrics = compiled(optimizer=Sgd(learning_rate=1.0, accumulate=2))(state, empty, KEY)
    expected, _ = compiled()(state, half, KEY)
    assert_close(found.params, expected.params, 1e-6)
    assert float(metrics["finite"].total) == 1


def test_a_batch_that_does_not_split_is_an_error():
    state, _ = start()
    with pytest.raises(ValueError, match="8 rows.*3 micro-batches"):
        compiled(optimizer=Sgd(learning_rate=1.0, accumulate=3))(state, batch(), KEY)


def test_dropout_differs_by_step_row_and_micro_batch_and_not_by_repetition():
    seen = []

    class Probe:
        """Its parameter is the mean over rows of the dropout mask, so its gradient is the mask."""

        def loss(self, model, variables, batch, *, rngs, train):
            from vlm_jax.metrics.base import Mean

            kept = jax.random.bernoulli(rngs["dropout"], 0.5, (batch["valid"].shape[0], 64))
            other = jax.random.bernoulli(rngs["sampling"], 0.5, kept.shape)
            mean = Mean.of((kept.sum(1) - other.sum(1)) * variables["params"]["w"].sum())
            jax.debug.callback(lambda k, o: seen.append((k, o)), kept, other)
            return mean.value(), toys.Aux({"loss": mean}, {})

    tx = Sgd(learning_rate=0.1, accumulate=2).build()
    zero = jnp.zeros((), jnp.int32)
    state = State(
        step=zero, params={"w": jnp.ones(1)}, collections={}, opt_state=None, skipped=zero
    )
    state = state.replace(opt_state=tx.init(state.params))
    step = jax.jit(train_step(None, Probe(), tx, accumulate=2))
    rows = {"valid": np.ones(4, bool)}
    for _ in range(2):  # the same two steps twice
        after, _ = step(state, rows, KEY)
        after, _ = step(after, rows, KEY)
    jax.effects_barrier()
    assert len(seen) == 8
    masks = [
        mask for pair in seen[:4] for mask in pair
    ]  # 2 steps x 2 micro-batches x 2 collections
    for i, a in enumerate(masks):
        assert len(np.unique(a, axis=0)) == len(a)  # rows differ
        assert not any((a == b).all() for b in masks[:i])
    for first, again in zip(seen[:4], seen[4:]):
        assert all((a == b).all() for a, b in zip(first, again))


def test_no_key_is_used_twice_in_fifty_steps():
    """Every key handed to a collection, and every split of the experiment's seed."""
    used = set()
    for key in jax.random.split(jax.random.key(3), 3):
        for step in range(50):
            for index in range(2):
                keys = rng_keys(jax.random.fold_in(jax.random.fold_in(key, step), index))
                used |= {tuple(np.asarray(jax.random.key_data(k)).tolist()) for k in keys.values()}
    assert len(used) == 3 * 50 * 2 * 3


def test_training_differs_by_rng_and_evaluation_does_not():
    model = toys.Model()
    state, _ = start(model)

    @functools.partial(jax.jit, static_argnames="train")
    def loss(key, train):
        return TASK.loss(model, state.variables, batch(), rngs=rng_keys(key), train=train)[0]

    other = jax.random.key(1)
    assert loss(KEY, True) == loss(KEY, True) != loss(other, True)
    assert loss(KEY, False) == loss(other, False)


def test_frozen_parameters_are_untouched_and_all_others_move():
    optimizer = AdamW(
        learning_rate=0.1, weight_decay=0.5, no_decay=(), frozen=("^embed/", "head/bias")
    )
    model = toys.Model(dropout_rate=0.0)
    state, _ = start(model, optimizer)
    step = compiled(model, optimizer)
    after = state
    for position in range(3):
        after, _ = step(after, batch(position), KEY)
    before, now = named_leaves(state.params), named_leaves(after.params)
    moved = {name for name in before if not (before[name] == now[name]).all()}
    assert set(before) - moved == {"embed/embedding", "head/bias"}


@pytest.mark.parametrize("frozen, moves", [(("^norm/", "^embed/"), False), (("^embed/",), True)])
def test_the_statistics_of_a_frozen_batch_norm_stay(frozen, moves):
    optimizer, model = Sgd(learning_rate=0.1, frozen=frozen), toys.Model(dropout_rate=0.0)
    state, _ = start(model, optimizer)
    after, _ = compiled(model, optimizer)(state, batch(), KEY)
    before, now = (s.collections["batch_stats"]["norm"]["mean"] for s in (state, after))
    assert (before != now).any() == moves


def test_the_average_is_its_closed_form_and_is_what_evaluation_uses():
    decay = 0.7
    optimizer = Sgd(learning_rate=0.3, ema_decay=decay)
    state, _ = start(optimizer=optimizer)
    step = compiled(optimizer=optimizer)
    passed = []
    for position in range(3):
        state, _ = step(state, batch(position), KEY)
        passed.append(jax.tree.map(np.float64, state.params))
        expected = jax.tree.map(
            lambda *each: np.average(
                each, axis=0, weights=[decay**k for k in range(len(each))][::-1]
            ),
            *passed,
        )
        assert_close(state.ema, expected, 1e-6)
    assert state_hash(state.eval_variables["params"]) == state_hash(state.ema)
    assert state_hash(state.ema) != state_hash(state.params)


def test_average_and_moments_stay_float32_under_bfloat16_parameters():
    class Half(nn.Module):
        @nn.compact
        def __call__(self, batch, *, train):
            x = nn.Embed(16, 8, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)(batch["text"])
            return nn.Dense(16, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)(x)

    optimizer = AdamW(learning_rate=0.1, ema_decay=0.9)
    state, _ = start(Half(), optimizer)
    after, metrics = compiled(Half(), optimizer)(state, batch(), KEY)
    for name, leaf in named_leaves((after.ema, after.opt_state, metrics)).items():
        assert leaf.dtype in (jnp.float32, jnp.int32), name
    assert jax.tree.map(jnp.dtype, after.params) == jax.tree.map(jnp.dtype, state.params)


def test_the_average_of_bfloat16_parameters_does_not_stagnate():
    decay, params = 0.9999, jnp.ones((), jnp.bfloat16)
    found = jax.lax.fori_loop(
        0, 10_000, lambda _, a: moving_average(a, params, decay, 10**6), float32(params) - 1
    )
    np.testing.assert_allclose(found, 1 - decay**10_000, rtol=1e-3)


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.9999])
def test_the_first_average_is_of_the_first_step_alone(decay):
    found = moving_average(jnp.float32(7.0), jnp.float32(2.0), decay, 1)
    np.testing.assert_allclose(found, 2.0, rtol=1e-6)


def test_a_step_with_nan_changes_nothing_and_the_state_stands_still():
    model = toys.Model()
    optimizer = AdamW(learning_rate=0.1, ema_decay=0.9)
    state, _ = start(model, optimizer)
    step = compiled(model, optimizer)
    state, _ = step(state, batch(0), KEY)
    after, metrics = step(state, batch(1, nan_at=1), KEY)
    assert float(metrics["finite"].total) == 0
    assert state_hash(after.replace(skipped=state.skipped)) == state_hash(state)
    later, metrics = step(after, batch(2), KEY)  # a good batch comes too late
    assert float(metrics["finite"].total) == 0
    assert state_hash(later) == state_hash(after)


def test_a_nan_in_the_gradient_alone_is_noticed():
    @jax.custom_vjp
    def poison(x):
        return x

    poison.defvjp(lambda x: (x, None), lambda _, g: (jnp.full_like(g, jnp.inf),))

    class Poisoned(nn.Module):
        @nn.compact
        def __call__(self, batch, *, train):
            x = nn.Embed(16, 8)(batch["text"])
            return nn.Dense(16)(x) + poison(self.param("bias", nn.initializers.zeros, (16,)))

    state, _ = start(Poisoned())
    after, metrics = compiled(Poisoned())(state, batch(), KEY)
    assert np.isfinite(metrics["loss"].total) and float(metrics["finite"].total) == 0
    assert state_hash(after.params) == state_hash(state.params)


def test_skipping_goes_on_and_counts_in_a_row():
    state, _ = start()
    step = compiled(max_skips=2)
    bad, good = batch(1, nan_at=1), batch(1)
    seen = []
    for rows in (bad, bad, good, bad, bad, bad, good):
        state, metrics = step(state, rows, KEY)
        seen.append((int(state.step), int(state.skipped), int(metrics["finite"].total)))
    assert seen == [(1, 1, 0), (2, 2, 0), (3, 0, 1), (4, 1, 0), (5, 2, 0), (5, 3, 0), (5, 3, 0)]


def test_donated_and_plain_steps_agree():
    state, tx = start()
    plain, _ = compiled()(state, batch(), KEY)
    donated, _ = make_train_step(MODEL, TASK, tx, KEY)(jax.tree.map(jnp.copy, state), batch())
    assert_close(donated, plain, 1e-6)


def test_a_task_without_the_loss_metric_is_told_so():
    @dataclasses.dataclass(frozen=True)
    class Wrong:
        def loss(self, model, variables, batch, *, rngs, train):
            return jnp.zeros(()), toys.Aux({}, {})

    with pytest.raises(ValueError, match="Wrong.loss.*expected 'loss'"):
        gradient_sums(MODEL, Wrong())({}, {}, batch(), KEY)
