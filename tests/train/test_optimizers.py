"""Schedules and optimizers against their closed forms."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vlm_jax import config
from vlm_jax.train import optimizers as o
from vlm_jax.train.state import named_leaves

PARAMS = {
    "image_encoder": {
        "Conv_0": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([0.5, 0.5])}
    },
    "decoder": {"Dense_0": {"kernel": jnp.array([[3.0], [-1.0]]), "bias": jnp.array([2.0])}},
}
GRADS = [jax.tree.map(lambda p, s=s: s * p + 0.1 * s, PARAMS) for s in (0.3, -0.2, 0.5)]


def run(optimizer, params=PARAMS, grads=GRADS):
    """The parameters after each of the gradients."""
    tx = optimizer.build()
    state, seen = tx.init(params), []
    for grad in grads:
        updates, state = tx.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    return seen, state


def close(ours, theirs):
    for name, leaf in named_leaves(ours).items():
        np.testing.assert_allclose(
            leaf, named_leaves(theirs)[name], rtol=2e-6, atol=1e-7, err_msg=name
        )


W, T, PEAK, END = 10, 50, 0.5, 0.05
STEPS = (0, 1, W - 1, W, W + 1, T - 1, T, T + 7)


def cosine(step, start):
    done = min(max((step - start) / (T - start), 0), 1)
    return END + (PEAK - END) * 0.5 * (1 + math.cos(math.pi * done))


SCHEDULES = [
    (o.Constant(value=PEAK), lambda s: PEAK),
    (o.Linear(start=PEAK, end=END, num_steps=T), lambda s: PEAK + (END - PEAK) * min(s / T, 1)),
    (o.Cosine(peak=PEAK, end=END, num_steps=T), lambda s: cosine(s, 0)),
    (
        o.WarmupCosine(peak=PEAK, end=END, warmup_steps=W, num_steps=T),
        lambda s: PEAK * s / W if s < W else cosine(s, W),
    ),
    (
        o.WarmupLinear(peak=PEAK, end=END, warmup_steps=W, num_steps=T),
        lambda s: PEAK * s / W if s < W else PEAK + (END - PEAK) * min((s - W) / (T - W), 1),
    ),
    (
        o.InverseSqrt(peak=PEAK, warmup_steps=W),
        lambda s: PEAK * s / W if s < W else PEAK * math.sqrt(W / s),
    ),
    (
        o.Noam(width=512, warmup_steps=W, scale=2.0),
        lambda s: 2.0 * 512**-0.5 * min((s + 1) ** -0.5, (s + 1) * W**-1.5),
    ),
    (
        o.StepDecay(start=PEAK, factor=0.2, boundaries=(W, T)),
        lambda s: PEAK * 0.2 ** ((s >= W) + (s >= T)),
    ),
    (
        o.StepDecay(start=PEAK, boundaries=(T,), warmup=END, warmup_steps=W),
        lambda s: END if s < W else PEAK * 0.1 ** (s >= T),
    ),
]


@pytest.mark.parametrize("schedule, expected", SCHEDULES, ids=lambda x: type(x).__name__)
def test_the_learning_rate_is_its_closed_form(schedule, expected):
    found = jax.jit(jax.vmap(schedule))(jnp.array(STEPS))
    np.testing.assert_allclose(found, [expected(s) for s in STEPS], rtol=1e-6, atol=1e-9)
    assert found.dtype == jnp.float32


@pytest.mark.parametrize("schedule, expected", SCHEDULES, ids=lambda x: type(x).__name__)
def test_the_update_uses_the_learning_rate_of_its_own_step(schedule, expected):
    tx = o.Sgd(learning_rate=schedule).build()
    params = {"kernel": jnp.ones(1)}
    state = tx.init(params)
    for step in range(3):
        updates, state = tx.update(params, state, params)
        np.testing.assert_allclose(updates["kernel"], -expected(step), rtol=1e-6, atol=1e-9)


def test_adamw_is_the_papers_algorithm():
    rate, b1, b2, eps, decay = 0.1, 0.8, 0.9, 1e-3, 0.05
    optimizer = o.AdamW(
        learning_rate=rate, beta1=b1, beta2=b2, epsilon=eps, weight_decay=decay, no_decay=()
    )
    found, _ = run(optimizer)
    x = np.float64(PARAMS["decoder"]["Dense_0"]["kernel"])
    m = v = np.zeros_like(x)
    for t, grads in enumerate(GRADS, 1):
        g = np.float64(grads["decoder"]["Dense_0"]["kernel"])
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        x = x - rate * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * x)
        np.testing.assert_allclose(found[t - 1]["decoder"]["Dense_0"]["kernel"], x, rtol=1e-5)


def test_sgd_with_momentum_and_l2_is_its_closed_form():
    found, _ = run(o.Sgd(learning_rate=0.1, momentum=0.9, weight_decay=0.01, no_decay=()))
    x, v = np.float64(PARAMS["image_encoder"]["Conv_0"]["kernel"]), 0.0
    for t, grads in enumerate(GRADS):
        v = 0.9 * v + np.float64(grads["image_encoder"]["Conv_0"]["kernel"]) + 0.01 * x
        x = x - 0.1 * v
        np.testing.assert_allclose(found[t]["image_encoder"]["Conv_0"]["kernel"], x, rtol=1e-5)


def test_lion_moves_by_the_sign_and_rmsprop_by_the_root():
    rate = 0.1
    found, _ = run(o.Lion(learning_rate=rate), grads=GRADS[:1])
    close(found[0], jax.tree.map(lambda p, g: p - rate * jnp.sign(g), PARAMS, GRADS[0]))
    found, _ = run(o.RmsProp(learning_rate=rate, decay=0.9, epsilon=1e-8), grads=GRADS[:1])
    expected = jax.tree.map(
        lambda p, g: p - rate * g / jnp.sqrt(0.1 * g * g + 1e-8), PARAMS, GRADS[0]
    )
    close(found[0], expected)


def test_adafactor_is_exact_where_the_squared_gradient_has_rank_one():
    params = {"kernel": jnp.ones((2, 3))}
    grads = {"kernel": jnp.outer(jnp.array([1.0, -2.0]), jnp.array([0.5, 3.0, 1.0]))}
    optimizer = o.Adafactor(learning_rate=0.1, min_dim_size_to_factor=2)
    found, state = run(optimizer, params, [grads])
    close(found[0], {"kernel": 1.0 - 0.1 * jnp.sign(grads["kernel"])})
    assert {leaf.shape for leaf in jax.tree.leaves(state)} == {(), (1,), (2,), (3,)}


def test_clipping_is_by_the_global_norm_of_the_trained_parameters():
    clip = 0.7
    optimizer = o.Sgd(learning_rate=1.0, clip_norm=clip)
    found, _ = run(optimizer, grads=GRADS[:1])
    norm = math.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(GRADS[0])))
    assert norm > clip
    close(found[0], jax.tree.map(lambda p, g: p - g * clip / norm, PARAMS, GRADS[0]))
    # A frozen half neither moves nor counts in the norm.
    found, _ = run(dataclasses.replace(optimizer, frozen=("^image_encoder/",)), grads=GRADS[:1])
    norm = math.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(GRADS[0]["decoder"])))
    scale = min(1.0, clip / norm)
    close(
        found[0],
        {
            "image_encoder": PARAMS["image_encoder"],
            "decoder": jax.tree.map(
                lambda p, g: p - g * scale, PARAMS["decoder"], GRADS[0]["decoder"]
            ),
        },
    )


def test_biases_norms_and_embeddings_are_not_decayed():
    params = {
        "embed": {"embedding": jnp.ones(3)},
        "words": {"table": jnp.ones(3), "digit_0": jnp.ones(3)},
        "norm": {"scale": jnp.ones(3), "bias": jnp.ones(3)},
        "dense": {"kernel": jnp.ones(3), "bias": jnp.ones(3)},
    }
    zeros = [jax.tree.map(jnp.zeros_like, params)]
    optimizer = o.AdamW(learning_rate=0.5, weight_decay=0.1)
    decayed = named_leaves(run(optimizer, params, zeros)[0][0])
    assert {name for name, leaf in decayed.items() if leaf[0] != 1.0} == {"dense/kernel"}
    np.testing.assert_allclose(decayed["dense/kernel"], 0.95)
    other = dataclasses.replace(optimizer, no_decay=("^dense/",))
    decayed = named_leaves(run(other, params, zeros)[0][0])
    assert {name for name, leaf in decayed.items() if leaf[0] == 1.0} == {
        "dense/kernel",
        "dense/bias",
    }


def test_a_rate_of_its_own_scales_the_whole_update_of_what_its_rule_matches_first():
    rates = (("^decoder/.*bias$", 4.0), ("^decoder/", 0.5))
    optimizer = o.AdamW(learning_rate=0.1, weight_decay=0.3, no_decay=("bias$",), rates=rates)
    plain, _ = run(dataclasses.replace(optimizer, rates=()), grads=GRADS[:1])
    found, _ = run(optimizer, grads=GRADS[:1])
    factors = {
        "image_encoder": {"Conv_0": {"kernel": 1.0, "bias": 1.0}},
        "decoder": {"Dense_0": {"kernel": 0.5, "bias": 4.0}},
    }
    close(found[0], jax.tree.map(lambda p, new, f: p + f * (new - p), PARAMS, plain[0], factors))


def test_rates_beside_frozen_parameters_are_of_the_trained_ones():
    optimizer = o.Sgd(learning_rate=0.1, frozen=("^image_encoder/",), rates=(("kernel", 3.0),))
    found, _ = run(optimizer, grads=GRADS[:1])
    layer, gradient = PARAMS["decoder"]["Dense_0"], GRADS[0]["decoder"]["Dense_0"]
    close(found[0]["image_encoder"], PARAMS["image_encoder"])
    moved = {"kernel": 0.3 * gradient["kernel"], "bias": 0.1 * gradient["bias"]}
    close(found[0]["decoder"]["Dense_0"], jax.tree.map(jnp.subtract, layer, moved))
    useless = dataclasses.replace(optimizer, rates=(("image_encoder", 3.0),))
    with pytest.raises(ValueError, match="Optimizer.rates: the rule 'image_encoder' matches no"):
        run(useless)


def test_a_rate_that_never_comes_first_is_an_error():
    optimizer = o.Sgd(learning_rate=0.1, rates=(("decoder", 2.0), ("decoder/.*bias", 3.0)))
    with pytest.raises(ValueError, match="'decoder/.*bias' matches only .* an earlier rule has"):
        run(optimizer)


def test_a_rule_that_matches_nothing_names_the_nearest_paths():
    optimizer = o.Sgd(learning_rate=0.1, frozen=("^decoder/Dense_1/kernel$",))
    with pytest.raises(ValueError, match="Nearest: decoder/Dense_0/kernel, "):
        run(optimizer)


@pytest.mark.parametrize("field", ["frozen", "no_decay"])
def test_a_rule_that_matches_nothing_is_an_error(field):
    rules = ("^image_encoder/", "^encoder/")
    optimizer = o.AdamW(learning_rate=0.1, **{field: rules})
    with pytest.raises(ValueError, match=rf"{field}.*\^encoder/.*image_encoder/Conv_0"):
        tx = optimizer.build()
        tx.update(GRADS[0], tx.init(PARAMS), PARAMS)


def test_freezing_everything_is_an_error():
    with pytest.raises(ValueError, match="every parameter"):
        o.Sgd(learning_rate=0.1, frozen=("",)).build().init(PARAMS)


def test_frozen_parameters_stay_and_have_no_moments():
    optimizer = o.AdamW(
        learning_rate=0.1, weight_decay=0.5, no_decay=(), frozen=("^image_encoder/",)
    )
    found, state = run(optimizer)
    before, after = named_leaves(PARAMS), named_leaves(found[-1])
    for name in before:
        same = bool((before[name] == after[name]).all())
        assert same == name.startswith("image_encoder/"), name
    assert not any("image_encoder" in name for name in named_leaves(state))
    trained = named_leaves(optimizer.trainable(PARAMS))
    assert {n for n, keep in trained.items() if not keep} | {
        n for n, keep in trained.items() if keep
    } == set(before)


@pytest.mark.parametrize(
    "optimizer",
    [
        o.Sgd(learning_rate=0.1, momentum=0.9),
        o.AdamW(learning_rate=0.1, clip_norm=1.0),
        o.RmsProp(learning_rate=0.1),
        o.Lion(learning_rate=0.1),
        o.Adafactor(learning_rate=0.1),
        o.Adam(learning_rate=0.1, frozen=("^image_encoder/",)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_moments_are_float32_for_bfloat16_parameters(optimizer):
    def cast(tree):
        return jax.tree.map(lambda x: x.astype(jnp.bfloat16), tree)

    found, state = run(optimizer, cast(PARAMS), [cast(g) for g in GRADS])
    for name, leaf in named_leaves(state).items():
        assert leaf.dtype in (jnp.float32, jnp.int32), name
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(found[-1]))


def test_optimizers_are_plain_data():
    for schedule, _ in SCHEDULES:
        optimizer = o.AdamW(learning_rate=schedule, frozen=("a", "b"))
        again = config.from_json(config.to_json(optimizer))
        assert again == optimizer and hash(again) == hash(optimizer)
    rates = {"rates": "(('decoder', 2), ('bias$', 0.5))", "frozen": "('image_encoder',)"}
    optimizer = config.override(o.Adam(learning_rate=0.1), rates)
    assert optimizer.rates == (("decoder", 2.0), ("bias$", 0.5))
    assert config.from_json(config.to_json(optimizer)) == optimizer
    changed = config.override(o.Adam(learning_rate=0.1), {"learning_rate": "0.3", "clip_norm": "5"})
    assert changed == o.Adam(learning_rate=0.3, clip_norm=5.0)


def test_columns_longer_than_max_norm_are_shortened_after_the_update_and_no_others():
    optimizer = o.Sgd(learning_rate=1.0, max_norm=2.0, max_norm_of=(r"decoder/Dense_0/kernel$",))
    grads = jax.tree.map(jnp.zeros_like, PARAMS)
    seen, _ = run(optimizer, grads=[grads])
    kernel = seen[0]["decoder"]["Dense_0"]["kernel"]  # (3, -1), of length sqrt(10)
    np.testing.assert_allclose(kernel, 2 / np.sqrt(10) * np.array([[3.0], [-1.0]]), rtol=1e-6)
    close(seen[0]["image_encoder"], PARAMS["image_encoder"])
    columns = {"kernel": jnp.array([[3.0, 0.1], [4.0, 0.2]])}
    optimizer = dataclasses.replace(optimizer, max_norm_of=("kernel",))
    seen, _ = run(optimizer, columns, [{"kernel": jnp.array([[0.0, 0.1], [0.0, 0.1]])}])
    np.testing.assert_allclose(seen[0]["kernel"], [[1.2, 0.0], [1.6, 0.1]], rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match="Optimizer.max_norm_of: the rule 'no_such'"):
        run(dataclasses.replace(optimizer, max_norm_of=("no_such",)))


def test_adagrad_divides_by_the_root_of_all_squares():
    seen, _ = run(o.AdaGrad(learning_rate=0.1, initial=0.0))
    squares, params = jax.tree.map(jnp.zeros_like, PARAMS), PARAMS
    for grad, ours in zip(GRADS, seen):
        squares = jax.tree.map(lambda s, g: s + g * g, squares, grad)
        params = jax.tree.map(lambda p, g, s: p - 0.1 * g / jnp.sqrt(s), params, grad, squares)
        close(ours, params)


def test_rows_longer_than_row_norm_are_shortened_by_themselves():
    params = {"table": jnp.zeros((3, 2))}
    grads = [{"table": jnp.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])}]
    seen, _ = run(o.RowClippedSgd(learning_rate=2.0, row_norm=1.0), params, grads)
    np.testing.assert_allclose(seen[0]["table"], [[-1.2, -1.6], [-0.6, -0.8], [0, 0]], rtol=1e-6)
