import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.language.transformer import filled
from vlm_jax.layers.pooling import (
    AttentionPooling,
    LinearPooling,
    cleared,
    concat_pool,
    first_pool,
    last_pool,
)
from vlm_jax.types import Features

# Padding at the end, at the front, none, and all of it.
FEATURES = Features(
    values=jnp.array([[1.0, 3, jnp.nan], [jnp.nan, 5, 6], [7, 8, 9], [jnp.nan] * 3])[..., None],
    mask=jnp.array([[1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]], bool),
)


def test_the_last_is_the_last_real_one_wherever_padding_stands():
    assert last_pool(FEATURES)[:, 0].tolist() == [3, 6, 9, 0]
    nothing = Features(values=jnp.zeros((2, 0, 4)), mask=jnp.zeros((2, 0), bool))
    np.testing.assert_array_equal(last_pool(nothing), np.zeros((2, 4)))


def test_every_place_is_read_by_itself_and_padding_is_zero():
    pairs = FEATURES.replace(values=jnp.concatenate([FEATURES.values, -FEATURES.values], axis=-1))
    assert concat_pool(pairs).tolist()[:2] == [[1, -1, 3, -3, 0, 0], [0, 0, 5, -5, 6, -6]]


def test_what_was_cleared_has_zeros_at_padding_and_no_nan_in_its_gradient():
    assert cleared(FEATURES)[..., 0].tolist() == [[1, 3, 0], [0, 5, 6], [7, 8, 9], [0, 0, 0]]
    slopes = jax.grad(lambda values: (cleared(FEATURES.replace(values=values)) ** 2).sum())(
        FEATURES.values
    )
    assert slopes[0, :, 0].tolist() == [2, 6, 0]


def test_the_first_position_is_the_class_token():
    features = Features(values=jnp.arange(6.0).reshape(1, 3, 2), mask=jnp.ones((1, 3), bool))
    np.testing.assert_array_equal(first_pool(features), [[0, 1]])


def test_attention_pooling_does_not_see_padding():
    pooling = AttentionPooling(num_heads=2, hidden=8)
    values = jax.random.normal(jax.random.key(0), (2, 3, 4))
    mask = jnp.array([[1, 1, 0], [1, 1, 1]], bool)
    variables = pooling.init(jax.random.key(1), Features(values=values, mask=mask))
    run = jax.jit(lambda values: pooling.apply(variables, Features(values=values, mask=mask)))
    other = values.at[0, 2].set(jnp.nan)
    np.testing.assert_array_equal(run(values), run(other))
    assert not np.allclose(run(values), run(values.at[0, 1].set(3.0)))


def test_linear_pooling_is_a_layer_over_the_pooled():
    pooling = LinearPooling(pooling=last_pool, width=1)
    features = Features(
        values=jnp.array([[[1.0, 2.0], [3.0, 4.0]]]), mask=jnp.array([[True, True]])
    )
    params = {"linear": {"kernel": jnp.array([[1.0], [10.0]]), "bias": jnp.array([0.5])}}
    np.testing.assert_allclose(pooling.apply({"params": params}, features), [[43.5]])


def test_texts_are_filled_up_to_the_full_length():
    found = filled(jnp.array([[5, 2, 0], [5, 6, 2]]), 2, 4)
    np.testing.assert_array_equal(found, [[5, 2, 2, 2], [5, 6, 2, 2]])
    np.testing.assert_array_equal(filled(jnp.array([[5, 0]]), 0, 3), [[5, 0, 0]])
    with pytest.raises(ValueError, match="3 tokens are more than the 2"):
        filled(jnp.array([[5, 2, 0]]), 2, 2)
