import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vlm_jax.tasks.base import softmax_cross_entropy

LOGITS = jax.random.normal(jax.random.key(0), (3, 4, 7)) * 5
LABELS = jax.random.randint(jax.random.key(1), (3, 4), 0, 7)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_values_and_gradients_are_those_of_optax(smoothing):
    targets = optax.smooth_labels(jax.nn.one_hot(LABELS, 7), smoothing)
    weights = jnp.linspace(-1.0, 2.0, 12).reshape(3, 4)

    def ours(logits):
        return (weights * softmax_cross_entropy(logits, LABELS, smoothing)).sum()

    def theirs(logits):
        return (weights * optax.softmax_cross_entropy(logits, targets)).sum()

    np.testing.assert_allclose(ours(LOGITS), theirs(LOGITS), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(ours)(LOGITS), jax.grad(theirs)(LOGITS), atol=2e-6)


def test_equal_logits_cost_ln_v_with_any_smoothing():
    for smoothing in (0.0, 0.3):
        loss = softmax_cross_entropy(jnp.full((2, 7), 3.0), jnp.array([0, 6]), smoothing)
        np.testing.assert_allclose(loss, np.log(7), rtol=1e-6)


def test_large_logits_stay_finite():
    logits = jnp.array([[1e4, -1e4, 0.0]])
    assert softmax_cross_entropy(logits, jnp.array([1])) == 2e4
    gradient = jax.grad(lambda x: softmax_cross_entropy(x, jnp.array([1])).sum())(logits)
    np.testing.assert_allclose(gradient, [[1.0, -1.0, 0.0]])


def test_bfloat16_logits_give_a_float32_loss():
    assert softmax_cross_entropy(LOGITS.astype(jnp.bfloat16), LABELS).dtype == jnp.float32


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_outside_its_range_is_refused(smoothing):
    with pytest.raises(ValueError, match="label_smoothing"):
        softmax_cross_entropy(LOGITS, LABELS, smoothing)
