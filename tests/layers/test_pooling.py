import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.layers.pooling import cleared, concat_pool, last_pool
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
