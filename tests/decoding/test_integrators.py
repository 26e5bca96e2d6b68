"""Euler and Heun on equations whose solutions are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.decoding import integrators
from vlm_jax.decoding.integrators import Euler, Heun


def test_two_steps_by_hand():
    """dx/dt = x + t from x = 1: Euler 1 -> 1.5 -> 2.5; Heun 1 -> 1.75 -> 3.46875 - 3/64."""
    x = jnp.array([1.0])

    def velocity(x, t):
        return x + t

    np.testing.assert_allclose(Euler(num_steps=2)(velocity, x), [2.5], rtol=1e-6)
    # 1: (1 + 2) / 2 / 2 -> 1.75; slopes 2.25 and 1.75 + 1.125 + 1 = 3.875 -> 1.75 + 3.0625 / 2
    np.testing.assert_allclose(Heun(num_steps=2)(velocity, x), [3.28125], rtol=1e-6)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_what_each_is_exact_for(shift):
    x = jnp.array([[0.5], [-2.0]])
    for num_steps in (1, 7):
        found = Euler(num_steps=num_steps, shift=shift)(lambda x, t: jnp.full_like(x, 3.0), x)
        np.testing.assert_allclose(found, x + 3.0, rtol=1e-5)
        found = Heun(num_steps=num_steps, shift=shift)(lambda x, t: 0 * x + 4 * t - 1, x)
        np.testing.assert_allclose(found, x + 1.0, rtol=1e-5)


@pytest.mark.parametrize(("kind", "order"), [(Euler, 1), (Heun, 2)])
@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_order_of_convergence(kind, order, shift):
    """Half the step, a half or a quarter of the error: dx/dt = x cos(2 t), x(1) = x(0) exp(sin(2) / 2)."""

    def error(num_steps):
        found = kind(num_steps=num_steps, shift=shift)(lambda x, t: x * jnp.cos(2 * t), x)
        return float(abs(found - x * np.exp(np.sin(2) / 2)).max())

    x = jnp.array([1.0, 2.0])
    ratios = [error(n) / error(2 * n) for n in (16, 32)]
    assert all(0.8 * 2**order < ratio < 1.3 * 2**order for ratio in ratios), ratios


def test_a_straight_path_to_a_picture_is_followed_to_its_end():
    """Euler is exact for the velocity of all paths to one picture, (picture - x) / (1 - t)."""
    picture = jnp.array([[1.0, -1.0]])

    def velocity(x, t):
        return (picture - x) / jnp.maximum(1.0 - t, 1e-6)

    found = Euler(num_steps=4)(velocity, jnp.array([[7.0, 5.0]]))
    np.testing.assert_allclose(found, picture, rtol=1e-5)


def test_the_times():
    np.testing.assert_allclose(integrators.times(4), [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(integrators.times(2, shift=3.0), [0, 0.25, 1])
    ends = integrators.times(7, shift=2.5)[[0, -1]]
    assert ends.tolist() == [0, 1]


@pytest.mark.parametrize("integrator", [Euler(num_steps=5), Heun(num_steps=5)])
def test_it_asks_as_often_as_it_says(integrator):
    asked = []

    def velocity(x, t):
        jax.debug.callback(lambda t: asked.append(float(t)), t)
        return x

    integrator(velocity, jnp.ones(1)).block_until_ready()
    jax.effects_barrier()
    assert len(asked) == integrator.num_evaluations
    assert min(asked) == 0.0


@pytest.mark.parametrize("kind", [Euler, Heun])
def test_bad_choices_are_refused(kind):
    with pytest.raises(ValueError, match="num_steps=0.*try 16"):
        kind(num_steps=0)
    with pytest.raises(ValueError, match="shift=0"):
        kind(shift=0)
