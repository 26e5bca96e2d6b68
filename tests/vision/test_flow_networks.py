"""Patches, and the networks that are told a time and a text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.invariants.flow_checks import networks
from vlm_jax.layers.modulation import Modulation, TimeEmbedding, modulate
from vlm_jax.types import Features
from vlm_jax.vision.patches import from_patches, to_patches


def test_patches_are_squares_row_by_row_and_go_back():
    image = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    patches = to_patches(image, 2)
    assert patches.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(patches[1, 0, 2], image[1, :2, 4:].reshape(-1))
    np.testing.assert_array_equal(from_patches(patches, 2), image)
    with pytest.raises(ValueError, match="4x6.*squares of 4"):
        to_patches(image, 4)


def test_a_condition_scales_and_shifts_every_place_of_its_row():
    x = jnp.ones((2, 3, 4))
    found = modulate(x, jnp.array([[0.0] * 4, [5.0] * 4]), jnp.array([[0.0] * 4, [1.0] * 4]))
    np.testing.assert_array_equal(found[0], 1)
    np.testing.assert_array_equal(found[1], 7)


def test_modulation_says_nothing_at_first():
    found, _ = Modulation(number=2, features=3).init_with_output(
        jax.random.key(0), jnp.ones((2, 5))
    )
    assert len(found) == 2 and not np.any(found)


def test_times_that_differ_little_are_told_apart():
    layer = TimeEmbedding(width=8)
    time = jnp.array([0.5, 0.51, 0.0, 1.0])
    found = layer.init_with_output(jax.random.key(0), time)[0]
    assert abs(found[0] - found[1]).max() > 1e-3 and abs(found[2] - found[3]).max() > 1e-2


@pytest.mark.parametrize("name", networks())
def test_the_answer_is_of_the_pictures_shape_with_a_text_or_without(name):
    network = networks()[name]
    image, time = jnp.ones((2, 8, 8, 2)), jnp.array([0.1, 0.9])
    text = Features(values=jnp.ones((2, 3, 4)), mask=jnp.ones((2, 3), bool))
    for memory in (text, None):
        found, _ = jax.eval_shape(
            lambda memory=memory: network.init_with_output(
                jax.random.key(0), image, time, memory, train=False
            )
        )
        assert found.shape == image.shape and found.dtype == jnp.float32


def test_levels_and_their_blocks_are_as_many():
    network = networks()["unet"].clone(num_blocks=(1,))
    with pytest.raises(ValueError, match="num_blocks"):
        network.init(jax.random.key(0), jnp.ones((1, 8, 8, 1)), jnp.ones(1), None, train=False)
