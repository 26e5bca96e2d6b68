"""What must hold of one training step and of a run, shown on the smallest experiment that has every kind of state.

Each check takes a `Training`, which compiles a step once for each of its settings.
"""

import functools
import tempfile
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.decoding.toys import compiled
from tests.train import toys
from vlm_jax.layers.norm import BatchNorm
from vlm_jax.metrics.base import Mean
from vlm_jax.train import checkpoints, evaluation
from vlm_jax.train.optimizers import AdamW, Sgd, WarmupCosine
from vlm_jax.train.state import init_state, named_leaves, path_name
from vlm_jax.train.steps import train_step

DECAY = 0.1
PLAIN = Sgd(learning_rate=1.0)
SCHEDULE = WarmupCosine(peak=0.5, warmup_steps=3, num_steps=9)


class Model(nn.Module):
    """Like the toy's, with our norm, and without what a setting leaves out."""

    dropout_rate: float = 0.0
    norm: bool = False
    vocab_size: int = 16

    @nn.compact
    def __call__(self, batch, *, train):
        x = nn.Embed(self.vocab_size, 8, name="embed")(batch["text"])
        x = nn.Dense(8, name="hidden")(x)
        if self.norm:
            x = BatchNorm(momentum=0.9)(x, train=train, name="norm")
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(nn.LayerNorm(name="ln")(x))
        return nn.Dense(self.vocab_size, name="head")(x)


def batch(position=0, batch_size=8):
    return next(toys.Pipeline(batch_size=batch_size).batches(position))[1]


class Training:
    """state(...) and step(...) of settings: an optimizer beside the model's fields."""

    def state(self, optimizer, **model):
        """At step 0, with parameters that are nowhere 0, so that decay and freezing show."""
        tx, ema = optimizer.build(), optimizer.ema_decay is not None
        shapes = jax.eval_shape(
            lambda: init_state(Model(**model), tx, batch(), jax.random.key(0), ema=ema)
        )
        rng = np.random.default_rng(0)
        params = jax.tree.map(lambda p: rng.normal(size=p.shape).astype(p.dtype), shapes.params)
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
        collections = jax.tree_util.tree_map_with_path(
            lambda path, x: x + 1 if path_name(path).endswith("var") else x, zeros.collections
        )
        return zeros.replace(params=params, collections=collections, ema=params if ema else None)

    @functools.cache  # noqa: B019  an instance lives as long as its checks
    def compiled_step(self, optimizer, **model):
        pure = train_step(
            Model(**model),
            toys.Task(),
            optimizer.build(),
            trainable=optimizer.trainable,
            accumulate=optimizer.accumulate,
            ema_decay=optimizer.ema_decay,
        )
        return compiled(pure)

    def step(self, state, data, optimizer, **model):
        """(new state, metrics) on the host"""
        key = jax.random.key(1, impl="unsafe_rbg")
        return jax.device_get(self.compiled_step(optimizer, **model)(state, data, key))


def _close(a, b, **tolerance):
    for (name, x), y in zip(named_leaves(a).items(), jax.tree.leaves(b)):
        np.testing.assert_allclose(x, y, err_msg=name, **tolerance)


def check_accumulated_gradients_are_those_of_the_batch(t):
    """C1.12: micro-batches with different numbers of tokens."""
    data = batch()
    data["valid"] = np.array([1, 0, 1, 0, 1, 1, 1, 0], bool)  # every other row to a micro-batch
    assert (data["target"][::2] != 0).sum() != (data["target"][1::2] != 0).sum()
    one, metrics = t.step(t.state(PLAIN), data, PLAIN)
    halves = Sgd(learning_rate=1.0, accumulate=2)
    two, split_metrics = t.step(t.state(halves), data, halves)
    _close(one.params, two.params, rtol=1e-5, atol=1e-6)
    _close(metrics["loss"], split_metrics["loss"], rtol=1e-5)


def check_the_average_follows_its_formula_and_is_what_is_evaluated(t):
    """C2.27: of the params after each step, with weights 1, decay, decay^2 ... from the last back; none of the initial ones."""
    optimizer = Sgd(learning_rate=1.0, ema_decay=0.75)
    state, weighed = t.state(optimizer), jax.tree.map(jnp.zeros_like, t.state(optimizer).params)
    for position in range(3):
        state, _ = t.step(state, batch(position), optimizer)
        weighed = jax.tree.map(lambda w, p: 0.75 * w + p, weighed, state.params)
    expected = jax.tree.map(lambda w: w / (1 + 0.75 + 0.75**2), weighed)
    _close(state.ema, expected, rtol=1e-5, atol=1e-6)
    _close(state.eval_variables["params"], expected, rtol=1e-5, atol=1e-6)


def check_decay_spares_biases_norms_and_embeddings(t):
    """C2.26: with no gradient, kernels shrink by 1 - rate * decay, and nothing else moves."""
    data = {**batch(), "valid": np.zeros(8, bool)}
    optimizer = Sgd(learning_rate=0.5, weight_decay=DECAY)
    state = t.state(optimizer)
    after, _ = t.step(state, data, optimizer)
    before, after = named_leaves(state.params), named_leaves(after.params)
    for name, leaf in before.items():
        kept = 1 - 0.5 * DECAY if name.endswith("kernel") else 1.0
        np.testing.assert_allclose(after[name], kept * leaf, rtol=1e-6, err_msg=name)


def check_frozen_is_frozen(t):
    """C2.22: with decay, frozen leaves keep their bits, and every other one changes."""
    optimizer = AdamW(learning_rate=0.1, weight_decay=DECAY, frozen=(r"^hidden/",))
    start = state = t.state(optimizer)
    for position in range(2):
        state, _ = t.step(state, batch(position), optimizer)
    before, after = named_leaves(start.params), named_leaves(state.params)
    for name, leaf in before.items():
        same = np.array_equal(after[name], leaf)
        assert same == name.startswith("hidden/"), name


def check_the_statistics_of_a_frozen_batch_norm_stay(t):
    """C2.21"""
    optimizer = Sgd(learning_rate=0.1, frozen=(r"^norm/",))
    state = t.state(optimizer, norm=True)
    after, _ = t.step(state, batch(), optimizer, norm=True)
    before, after = (named_leaves(s.collections) for s in (state, after))
    assert all(np.array_equal(after[name], leaf) for name, leaf in before.items())


def check_the_learning_rate_of_step_k(t):
    """C2.26: the update that takes k to k + 1 uses the schedule at k, whose values are worked out here."""
    optimizer = Sgd(learning_rate=SCHEDULE)
    state = t.state(optimizer)
    for k in range(11):
        before = state.params
        state, metrics = t.step(state, batch(k), optimizer)
        moved = jax.tree.leaves(
            jax.tree.map(lambda a, b: ((a - b) ** 2).sum(), state.params, before)
        )
        rate = np.sqrt(sum(moved)) / metrics["grad_norm"].total
        done = min(max(k - 3, 0) / 6, 1)
        expected = 0.5 * k / 3 if k < 3 else 0.5 * (1 + np.cos(np.pi * done)) / 2
        np.testing.assert_allclose(rate, expected, rtol=1e-3, atol=1e-5, err_msg=f"step {k}")


def check_clipping_bounds_the_global_norm(t):
    """C2.29: all leaves are scaled by one factor, to a norm of clip_norm."""
    optimizer = Sgd(learning_rate=1.0, clip_norm=0.01)
    start = t.state(PLAIN)
    plain, _ = t.step(start, batch(), PLAIN)
    clipped, metrics = t.step(t.state(optimizer), batch(), optimizer)
    factor = 0.01 / metrics["grad_norm"].total
    assert factor < 1
    after = zip(jax.tree.leaves(plain.params), jax.tree.leaves(clipped.params))
    for (name, p), (a, b) in zip(named_leaves(start.params).items(), after):
        np.testing.assert_allclose(b - p, factor * (a - p), atol=2e-6, err_msg=name)


def check_noise_is_a_function_of_the_step(t):
    """C2.31: dropout of step 1 is not that of step 0, and a step taken again draws the same."""
    optimizer = Sgd(learning_rate=0.0)
    first, one = t.step(t.state(optimizer), batch(), optimizer, dropout_rate=0.5)
    _, again = t.step(t.state(optimizer), batch(), optimizer, dropout_rate=0.5)
    _, two = t.step(first, batch(), optimizer, dropout_rate=0.5)
    assert one["loss"].total == again["loss"].total
    assert one["loss"].total != two["loss"].total, "every step drops the same"


def check_batch_statistics(t):
    """C2.21: 0.9 old + 0.1 batch in training; evaluation reads and does not write them."""
    optimizer = Sgd(learning_rate=0.0)
    state = t.state(optimizer, norm=True)
    after, _ = t.step(state, batch(), optimizer, norm=True)
    x = np.asarray(state.params["embed"]["embedding"])[batch()["text"]].reshape(-1, 8)
    x = x @ state.params["hidden"]["kernel"] + state.params["hidden"]["bias"]
    stats = after.collections["batch_stats"]["norm"]
    np.testing.assert_allclose(stats["mean"], 0.1 * x.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * x.var(0), rtol=1e-4)
    apply = compiled(lambda v, b: Model(norm=True).apply(v, b, train=False))
    data = batch()
    others = {**data, "text": np.where(np.arange(8)[:, None] == 0, data["text"], 3)}
    a, b = (np.asarray(apply(after.variables, d)) for d in (data, others))
    np.testing.assert_allclose(a[0], b[0], rtol=1e-5, err_msg="a row depends on its neighbours")


def check_a_run_goes_on_where_it_was_saved(t):
    """B1.3: what is restored is the state, bit for bit, and the batch after the last one."""
    optimizer = AdamW(learning_rate=0.1, ema_decay=0.75)
    state, data = t.state(optimizer, norm=True), toys.Pipeline().batches()
    for _ in range(2):
        position, found = next(data)
        state, _ = t.step(state, found, optimizer, norm=True)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.save(Path(folder), 2, state, position)
        restored, at = checkpoints.restore(Path(folder), like=state)
    a, b = named_leaves(state), named_leaves(jax.device_get(restored))
    assert a.keys() == b.keys()
    for name, leaf in a.items():
        np.testing.assert_array_equal(leaf, b[name], err_msg=name)
    np.testing.assert_array_equal(next(data)[1]["id"], next(toys.Pipeline().batches(at))[1]["id"])


def check_an_evaluation_counts_every_example_once(t):
    """C2b.39, 40: loss and score of 10 examples in batches of 4 are those of the 10."""
    pipeline = toys.Pipeline(source=toys.Rows(size=10), batch_size=4, train=False)
    state = t.state(PLAIN)
    found = evaluation.evaluate(
        evaluation.Evaluation(name="all", data=pipeline), Model(), toys.Task(), state.eval_variables
    )
    data = next(toys.Pipeline(source=pipeline.source, batch_size=10, train=False).batches())[1]
    apply = compiled(lambda v, b: Model().apply(v, b, train=False))
    logits = np.asarray(apply(state.eval_variables, data), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nll = -np.take_along_axis(log_p, data["target"][..., None], -1)[..., 0]
    expected = nll[data["target"] != 0].mean()
    np.testing.assert_allclose(found.numbers["loss"], expected, rtol=1e-5)
    right = 100 * (logits.argmax(-1) == data["target"]).mean()
    np.testing.assert_allclose(found.numbers["accuracy"], right, rtol=1e-6)


def check_sums_are_float32(t):
    """C2.27: ten thousand additions of 1e-3 under bfloat16 compute."""

    @compiled
    def summed():
        one = Mean.of(jnp.full(1, 1e-3, jnp.bfloat16))
        return jax.lax.fori_loop(0, 9_999, lambda _, mean: mean + one, one)

    mean = jax.device_get(summed())
    np.testing.assert_allclose(mean.total, 10.0, rtol=2e-3)
    assert mean.count == 10_000


CHECKS = (
    check_accumulated_gradients_are_those_of_the_batch,
    check_the_average_follows_its_formula_and_is_what_is_evaluated,
    check_decay_spares_biases_norms_and_embeddings,
    check_frozen_is_frozen,
    check_the_statistics_of_a_frozen_batch_norm_stay,
    check_the_learning_rate_of_step_k,
    check_clipping_bounds_the_global_norm,
    check_noise_is_a_function_of_the_step,
    check_batch_statistics,
    check_a_run_goes_on_where_it_was_saved,
    check_an_evaluation_counts_every_example_once,
    check_sums_are_float32,
)
