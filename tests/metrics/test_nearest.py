"""The nearest training picture, by hand."""

import numpy as np
import pytest

from vlm_jax.metrics import nearest as module
from vlm_jax.metrics.nearest import copies, nearest


def test_a_copy_is_found_at_no_distance_wherever_it_lies(monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 3)
    rng = np.random.default_rng(0)
    training = rng.integers(0, 256, (10, 4, 4, 3), np.uint8)
    made = training[[7, 2, 9]].copy()
    made[1, 0, 0, 0] ^= 4
    which, far = nearest(made, training)
    assert which.tolist() == [7, 2, 9]
    np.testing.assert_allclose(far, [0, 4 / np.sqrt(48), 0])


def test_the_distance_is_that_of_the_nearest_in_levels():
    training = np.zeros((2, 1, 2, 1), np.uint8)
    training[1] = 100
    which, far = nearest(np.array([[[[90], [100]]], [[[3], [4]]]], np.uint8), training)
    assert which.tolist() == [1, 0]
    np.testing.assert_allclose(far, [np.sqrt(50), np.sqrt(12.5)])


def test_copies_are_those_nearer_than_real_pictures_are():
    real = np.arange(1.0, 101.0)  # the hundredth part lies below 1.99
    found = copies(np.array([0.0, 1.5, 2.5, 50.0]), real)
    assert found == {"copies": 50, "nearest_made": 2.0, "nearest_real": pytest.approx(50.5)}
    assert copies(real, real)["copies"] == 1
