import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.layers.norm import NoNorm
from vlm_jax.vision.small_cnn import SmallCnn
from vlm_jax.vision.vit import LearnedGrid

IMAGE = jnp.linspace(0, 1, 2 * 8 * 8 * 3).reshape(2, 8, 8, 3)


def test_positions_are_added_to_each_place_of_the_last_grid():
    plain = SmallCnn(features=(4, 5), strides=(2, 1), norm=NoNorm())
    placed = SmallCnn(
        features=(4, 5),
        strides=(2, 1),
        norm=NoNorm(),
        positions=LearnedGrid(grid=(4, 4), num_extra=0),
    )
    variables = placed.init(jax.random.key(0), IMAGE, train=False)
    params = dict(variables["params"])
    positions = params.pop("positions")["positions"]
    expected = plain.apply({"params": params}, IMAGE, train=False).values + positions
    found = placed.apply(variables, IMAGE, train=False)
    assert found.values.shape == (2, 16, 5)  # 8x8, halved once
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)


def test_a_stride_for_each_convolution():
    with pytest.raises(ValueError, match="2 features and 1 strides"):
        SmallCnn(features=(4, 5), strides=(2,)).init(jax.random.key(0), IMAGE, train=False)
