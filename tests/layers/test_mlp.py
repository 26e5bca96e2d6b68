import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.layers.mlp import GatedMlp, Mlp


def _identity(x):
    return x


def test_mlp_is_two_linear_layers_round_the_activation():
    params = {
        "hidden_layer": {"kernel": jnp.array([[1.0, -1.0]]), "bias": jnp.array([0.0, 1.0])},
        "output_layer": {"kernel": jnp.array([[2.0], [5.0]]), "bias": jnp.array([0.5])},
    }
    mlp = Mlp(hidden=2, activation=nn.relu)
    y = mlp.apply({"params": params}, jnp.array([[[3.0]], [[-3.0]]]), train=False)
    # 3: relu(3, -2) = (3, 0) -> 6.5.  -3: relu(-3, 4) = (0, 4) -> 20.5.
    np.testing.assert_allclose(y[:, 0, 0], [6.5, 20.5])


def test_gated_mlp_multiplies_the_gate_with_the_value():
    params = {
        "gate": {"kernel": jnp.array([[2.0]])},
        "hidden_layer": {"kernel": jnp.array([[3.0]])},
        "output_layer": {"kernel": jnp.array([[5.0]])},
    }
    mlp = GatedMlp(hidden=1, activation=_identity)
    y = mlp.apply({"params": params}, jnp.array([[[2.0]]]), train=False)
    np.testing.assert_allclose(y, [[[4.0 * 6.0 * 5.0]]])


def test_dropout_acts_in_training_only():
    x = jnp.ones((1, 2, 8))
    mlp = Mlp(hidden=16, width=3, dropout_rate=0.5)
    variables = mlp.init(jax.random.key(0), x, train=False)
    draws = [
        mlp.apply(variables, x, train=True, rngs={"dropout": jax.random.key(k)}) for k in (1, 1, 2)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.abs(draws[0] - draws[2]).max() > 0
    assert mlp.apply(variables, x, train=False).shape == (1, 2, 3)


def test_bfloat16_work_keeps_float32_parameters():
    x = jnp.ones((1, 2, 8), jnp.bfloat16)
    for mlp in (Mlp(hidden=4, dtype=jnp.bfloat16), GatedMlp(hidden=4, dtype=jnp.bfloat16)):
        y, variables = mlp.init_with_output(jax.random.key(0), x, train=False)
        assert y.dtype == jnp.bfloat16
        assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
