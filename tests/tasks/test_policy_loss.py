import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.tasks.captioning import Captioning

TASK = Captioning(tokenizer=None, decoding=None, policy_weight=2.0, entropy_weight=0.5)


def test_the_surrogate_is_equation_12_worked_by_hand():
    nll = jnp.array([[1.0, 3.0, 9.0], [2.0, 2.0, 2.0]])
    mask = jnp.array([[True, True, False], [True, True, True]])
    log_prob = jnp.array([[-0.5, -1.0, -7.0], [-0.1, -0.2, -0.3]])
    entropy = jnp.array([[0.3, 0.2, 9.0], [0.1, 0.1, 0.1]])
    sown = {"decoder": {"log_prob": (log_prob,), "entropy": (entropy,)}}
    # Rewards -4 and -6; baselines -(6 / 3) * 2 = -4 and -(4 / 2) * 3 = -6: nobody is better than expected.
    np.testing.assert_allclose(TASK.policy_loss(sown, nll, mask), -0.5 * 0.8, rtol=1e-6)
    # A row that is one nat better than expected makes its places likelier.
    better = nll.at[0, 0].set(0.0)
    expected = -(2.0 * 1.0 * -1.5 + 2.0 * (3 / 2 * 3 - 6) * -0.6 + 0.5 * 0.8)
    np.testing.assert_allclose(TASK.policy_loss(sown, better, mask), expected, rtol=1e-6)
    gradient = jax.grad(
        lambda p: TASK.policy_loss({"log_prob": (p,), "entropy": (entropy,)}, better, mask)
    )(log_prob)
    assert (gradient[0, :2] < 0).all() and gradient[0, 2] == 0 and (gradient[1] > 0).all()


def test_the_reward_has_no_gradient():
    mask = jnp.ones((2, 2), bool)
    sown = {"log_prob": (jnp.array([[-1.0, -2.0], [-0.5, -0.1]]),), "entropy": (jnp.zeros((2, 2)),)}
    nll = jnp.array([[1.0, 2.0], [5.0, 1.0]])
    assert not jax.grad(lambda n: TASK.policy_loss(sown, n, mask))(nll).any()
