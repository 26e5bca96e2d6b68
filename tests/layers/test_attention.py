import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.model_zoo import filled
from vlm_jax.layers.attention import (
    MultiHeadAttention,
    causal_mask,
    masked_softmax,
    positions,
    prefix_mask,
)
from vlm_jax.layers.pooling import pool
from vlm_jax.types import Features

B, L, D = 2, 5, 8


@pytest.fixture(scope="module")
def attention():
    """Four heads, two of keys and values."""
    module = MultiHeadAttention(num_heads=4, num_kv_heads=2, width=D)
    x = jnp.zeros((B, L, 6))
    return module, filled(jax.eval_shape(lambda: module.init(jax.random.key(0), x, x, train=False)))


def inputs(seed, length=L, width=6):
    return np.random.default_rng(seed).normal(size=(B, length, width)).astype(np.float32)


def test_attention_equals_loops_over_heads_and_queries(attention):
    module, variables = attention
    queries, memory = inputs(0), inputs(1, length=3)
    mask = np.array([[1, 1, 1], [1, 0, 1]], bool)
    run = jax.jit(lambda: module.apply(variables, queries, memory, mask[:, None], train=False))
    found = run()

    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    projected = {
        name: np.einsum("bnd,dik->bnik", x, params[name]["kernel"]) + params[name]["bias"]
        for name, x in (("query", queries), ("key", memory), ("value", memory))
    }
    for b in range(B):
        for q in range(L):
            heads = []
            for i in range(4):
                scores = projected["key"][b, :, i // 2] @ projected["query"][b, q, i] / np.sqrt(2)
                powers = np.exp(scores) * mask[b]
                heads.append(powers / powers.sum() @ projected["value"][b, :, i // 2])
            expected = np.einsum("ik,ikd->d", np.stack(heads), params["output"]["kernel"])
            np.testing.assert_allclose(
                found[b, q], expected + params["output"]["bias"], rtol=1e-4, atol=1e-5
            )


def test_a_query_that_sees_nothing_gets_zeros_and_finite_gradients(attention):
    module, variables = attention
    mask = np.array([[True] * L, [False] * L])[:, None]

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def run(x):
        found = module.apply(variables, x, x, mask, train=False)
        return (found**2).sum(), found

    gradient, found = jax.device_get(run(inputs(2)))
    assert (found[1] == 0).all() and np.abs(found[0]).min() > 0
    assert np.isfinite(gradient).all() and (gradient[1] == 0).all()


def test_masked_softmax_by_hand():
    scores = jnp.log(jnp.array([[1.0, 3.0, 100.0], [5.0, 5.0, 5.0]]))
    mask = jnp.array([[True, True, False], [False, False, False]])
    np.testing.assert_allclose(
        masked_softmax(scores, mask), [[0.25, 0.75, 0], [0, 0, 0]], rtol=1e-6
    )


@pytest.mark.parametrize("chunks", [(1, 1, 1, 1, 1), (3, 2)], ids=str)
def test_attention_from_the_cache_equals_the_whole(attention, chunks):
    module, variables = attention
    x = inputs(3)

    @jax.jit
    def run(x):
        whole = module.apply(variables, x, x, causal_mask(L), train=False)
        cache = module.apply(variables, B, L, method="initial_cache")
        parts, start = [], 0
        for size in chunks:
            seen = slice(start, start + size)
            part, cache = module.apply(
                variables, x[:, seen], cache, causal_mask(L)[:, seen], method="extend"
            )
            parts.append(part)
            start += size
        return whole, jnp.concatenate(parts, axis=1)

    whole, parts = run(x)
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-5)


def test_a_full_cache_answers_nan_and_keeps_what_it_holds(attention):
    module, variables = attention

    @jax.jit
    def run(x):
        cache = module.apply(variables, B, 2, method="initial_cache")
        cache = cache.replace(position=jnp.array([1, 2]))
        mask = jnp.ones((1, 1, 2), bool)
        return module.apply(variables, x, cache, mask, method="extend"), cache

    (x, after), cache = run(inputs(4, length=1))
    assert np.isfinite(x[0]).all() and np.isnan(x[1]).all()
    np.testing.assert_array_equal(after.keys[1], cache.keys[1])


def test_masks_by_hand():
    np.testing.assert_array_equal(causal_mask(3)[0], [[1, 0, 0], [1, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(
        prefix_mask(2, 2)[0], [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    )
    kept = jnp.array([[0, 1, 1, 0], [1, 1, 0, 0]], bool)
    np.testing.assert_array_equal(positions(kept), [[0, 0, 1, 2], [0, 1, 2, 2]])


def test_heads_that_do_not_divide_are_refused():
    module = MultiHeadAttention(num_heads=3, width=8)
    with pytest.raises(ValueError, match="num_heads to divide width"):
        module.init(jax.random.key(0), jnp.zeros((1, 2, 8)), jnp.zeros((1, 2, 8)), train=False)


def test_pooling_ignores_what_lies_under_padding():
    values = jnp.array([[[1.0], [3.0], [jnp.nan]], [[jnp.nan], [5.0], [7.0]], [[jnp.nan]] * 3])
    mask = jnp.array([[1, 1, 0], [0, 1, 1], [0, 0, 0]], bool)
    np.testing.assert_array_equal(pool(Features(values=values, mask=mask)), [[2], [6], [0]])
