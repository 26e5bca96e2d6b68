import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.types import Features
from vlm_jax.vision.grid_vector import GridVector


class Pixels(nn.Module):
    """The picture's own pixels as features."""

    def __call__(self, image, *, train):
        values = image.reshape(image.shape[0], -1, image.shape[-1])
        return Features(values=values, mask=jnp.ones(values.shape[:2], bool))


def test_each_cell_keeps_its_largest_value_and_its_place():
    image = jnp.array([[1, 2, 0, 0], [3, 4, 0, 5], [9, 0, 6, 0], [0, 0, 0, 7]], jnp.float32)
    found = GridVector(encoder=Pixels(), side=2).apply({}, image[None, :, :, None], train=False)
    np.testing.assert_array_equal(found.values, [[[4, 5, 9, 7]]])
    assert found.mask.shape == (1, 1) and found.mask.all()


def test_a_grid_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of 3"):
        GridVector(encoder=Pixels(), side=3).apply({}, jnp.zeros((1, 4, 4, 1)), train=False)
