import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.layers.convolution import Conv, ConvNorm, convolve, flatten_grid
from vlm_jax.layers.norm import BatchNorm, NoNorm

CASES = {
    "pointwise": {"kernel_size": (1, 1), "strides": 2},
    "pointwise with a border": {"kernel_size": (1, 1), "strides": 2, "padding": 1},
    "depthwise": {"kernel_size": (3, 3), "feature_group_count": 4, "strides": 2},
    "depthwise, unpadded": {
        "kernel_size": (2, 3),
        "feature_group_count": 4,
        "strides": (1, 2),
        "padding": "VALID",
    },
    "depthwise, dilated": {"kernel_size": (3, 3), "feature_group_count": 4, "kernel_dilation": 2},
}


def test_values_and_gradients_equal_those_of_the_library_convolution():
    x = jax.random.normal(jax.random.key(0), (2, 7, 8, 4))  # an odd side and an even one

    @jax.jit
    def both(x):
        results = {}
        for name, fields in CASES.items():
            theirs = nn.Conv(4, **fields)
            ours = theirs.clone(conv_general_dilated=convolve)
            variables = theirs.init(jax.random.key(1), x)

            def loss(variables, x, layer):
                y = layer.apply(variables, x)
                return jnp.sum(jnp.sin(y)), y

            results[name] = [
                jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(variables, x, layer)
                for layer in (theirs, ours)
            ]
        return results

    for name, (theirs, ours) in both(x).items():
        for a, b in zip(jax.tree.leaves(theirs), jax.tree.leaves(ours), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_grid_is_read_row_by_row():
    grid = jnp.arange(2 * 3.0).reshape(1, 2, 3, 1)
    features = flatten_grid(grid)
    np.testing.assert_array_equal(features.values[0, :, 0], [0, 1, 2, 3, 4, 5])
    assert features.mask.shape == (1, 6) and bool(features.mask.all())


def test_a_convolution_has_a_bias_only_without_a_norm():
    x = jnp.ones((1, 4, 4, 3))
    with_norm = ConvNorm(features=2, norm=BatchNorm()).init(jax.random.key(0), x, train=False)
    without = ConvNorm(features=2, norm=NoNorm()).init(jax.random.key(0), x, train=False)
    assert set(with_norm["params"]["conv"]) == {"kernel"}
    assert set(without["params"]["conv"]) == {"kernel", "bias"}


def test_kernels_begin_with_the_deviation_of_he_et_al():
    kernel = Conv(64, (3, 3)).init(jax.random.key(0), jnp.ones((1, 4, 4, 32)))["params"]["kernel"]
    assert float(kernel.std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)
