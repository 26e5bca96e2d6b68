"""The Frechet distance by hand, and what must hold of it."""

import numpy as np
import pytest

from vlm_jax.metrics.base import total
from vlm_jax.metrics.frechet import FrechetDistance, frechet_distance, moments

RNG = np.random.default_rng(0)


def of(made, real):
    metric = FrechetDistance()
    stats = [metric.stats(vector) for vector in made[len(real) :]]
    stats += [metric.stats(a, (b,)) for a, b in zip(made, real)]
    return metric.result(total(stats))


def test_one_dimension_by_hand():
    # means 1 and 4, variances 4 and 9: (1 - 4)^2 + (2 - 3)^2
    one, two = (np.array([1.0]), np.array([[4.0]])), (np.array([4.0]), np.array([[9.0]]))
    assert frechet_distance(*one, *two) == pytest.approx(10)


def test_covariances_that_commute_by_hand():
    # the same turn of diag(4, 1) and diag(9, 16): (2 - 3)^2 + (1 - 4)^2
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    one, two = turn @ np.diag([4.0, 1.0]) @ turn.T, turn @ np.diag([9.0, 16.0]) @ turn.T
    mean = np.zeros(2)
    assert frechet_distance(mean, one, mean, two) == pytest.approx(10)


def test_covariances_that_do_not_commute_by_hand():
    # C = [[1, 0], [0, 0]] and C' = [[1, 1], [1, 1]] / 2: (C C') has the eigenvalue 1/2, so 1 + 1 - 2 sqrt(1/2)
    one, two = np.diag([1.0, 0.0]), np.full((2, 2), 0.5)
    assert frechet_distance(np.zeros(2), one, np.zeros(2), two) == pytest.approx(2 - 2**0.5)


def test_vectors_by_hand_with_n_minus_one():
    # {0, 2} has mean 1 and variance 2, {3, 7} mean 5 and variance 8: 16 + (sqrt 8 - sqrt 2)^2
    found = of(np.array([[0.0], [2.0]]), np.array([[3.0], [7.0]]))
    assert found["frechet_distance"] == pytest.approx(18) and found["frechet_samples"] == 2
    mean, covariance = moments(RNG.normal(size=(50, 3)))
    assert covariance.shape == (3, 3) and mean.shape == (3,)


def test_it_is_zero_of_the_same_symmetric_and_grows_with_a_shift():
    made, real = RNG.normal(size=(40, 5)), RNG.normal(size=(40, 5)) * 2
    assert of(made, made)["frechet_distance"] == pytest.approx(0, abs=1e-6)
    there, back = of(made, real)["frechet_distance"], of(real, made)["frechet_distance"]
    assert there == pytest.approx(back) and there > 0
    shifted = of(made + 3.0, made)["frechet_distance"]
    assert shifted == pytest.approx(5 * 9, rel=1e-4)


def test_the_order_changes_no_bit_and_one_picture_is_too_few():
    made, real = RNG.normal(size=(20, 4)), RNG.normal(size=(20, 4))
    order = RNG.permutation(20)
    assert of(made, real) == of(made[order], real[order])
    with pytest.raises(ValueError, match="the covariance of 1 vectors"):
        of(made[:1], real[:1])
