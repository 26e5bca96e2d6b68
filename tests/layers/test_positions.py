import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.layers.positions import (
    LearnedPositions,
    resize_grid,
    rotary,
    sinusoidal,
    sinusoidal_grid,
)


def test_sinusoidal_positions_are_those_of_the_paper():
    p = 5.0
    expected = [np.sin(p), np.cos(p), np.sin(p / 100), np.cos(p / 100)]  # 10000^(2/4) = 100
    np.testing.assert_allclose(sinusoidal(jnp.arange(6), width=4)[5], expected, rtol=1e-5)
    np.testing.assert_allclose(sinusoidal(jnp.array(5), width=4), expected, rtol=1e-5)


def test_a_place_of_the_grid_tells_its_row_then_its_column():
    grid = sinusoidal_grid(3, 5, features=8).reshape(3, 5, 8)
    lines = sinusoidal(jnp.arange(5), width=4)
    np.testing.assert_allclose(grid[2, 4], np.concatenate([lines[2], lines[4]]), rtol=1e-6)
    assert len(np.unique(np.round(grid.reshape(15, 8), 5), axis=0)) == 15


def test_rotary_turns_pairs_by_their_angle():
    x = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
    y = rotary(x, jnp.array([[7]]))[0, 0, 0]
    for first, angle in ((0, 7.0), (1, 7.0 / 100)):
        a, b = x[0, 0, 0, first], x[0, 0, 0, first + 2]
        np.testing.assert_allclose(y[first], a * np.cos(angle) - b * np.sin(angle), rtol=1e-4)
        np.testing.assert_allclose(y[first + 2], b * np.cos(angle) + a * np.sin(angle), rtol=1e-4)


def test_rotated_products_depend_on_the_distance_only():
    query, key = jax.random.normal(jax.random.key(0), (2, 1, 1, 2, 8))

    def product(p, q):
        turned = rotary(query, jnp.array([[p]])) * rotary(key, jnp.array([[q]]))
        return turned.sum(-1)

    np.testing.assert_allclose(product(3, 1), product(12, 10), rtol=1e-4, atol=1e-5)
    assert np.abs(product(3, 1) - product(1, 3)).max() > 1e-2
    np.testing.assert_array_equal(rotary(query, jnp.array([[0]])), query)


def test_resizing_to_the_same_size_is_exact():
    positions = jax.random.normal(jax.random.key(0), (6, 4))
    np.testing.assert_array_equal(resize_grid(positions, (2, 3), (2, 3)), positions)


def test_resizing_keeps_constants_and_the_order_of_rows_and_columns():
    constant = jnp.full((6, 2), 3.0)
    np.testing.assert_allclose(resize_grid(constant, (2, 3), (5, 4)), np.full((20, 2), 3.0), 1e-5)
    rows, columns = np.meshgrid(np.arange(4.0), np.arange(6.0), indexing="ij")
    grid = jnp.stack([rows.ravel(), columns.ravel()], axis=-1)
    larger = np.asarray(resize_grid(grid, (4, 6), (8, 12))).reshape(8, 12, 2)
    assert (np.diff(larger[2:-2, 5, 0]) > 0).all() and (np.diff(larger[4, 2:-2, 1]) > 0).all()
    np.testing.assert_allclose(larger[4, 2:-2, 0], larger[4, 2, 0], rtol=1e-5)


def test_bicubic_is_that_of_pytorch():
    """What torch.nn.functional.interpolate(mode="bicubic", align_corners=False) gave, 2.x, larger and smaller."""
    grid = jnp.array([[1.0, 0, -2, 4], [3, 5, 1, 0], [2, -1, 6, 2]]).reshape(12, 1)
    larger = [
        [0.935791, 0.480312, -0.322791, -2.13025, -1.989769, 1.999372, 5.045973],
        [1.796012, 2.245975, 2.506831, 0.309001, -1.160554, 0.891975, 2.651257],
        [2.801568, 3.927479, 5.070335, 3.28125, 0.758016, 0.094753, -0.099216],
        [2.61574, 2.085255, 1.616744, 3.216, 4.204443, 2.23324, 0.604618],
        [2.249275, 0.222785, -1.749011, 2.527751, 6.606781, 4.148533, 1.76656],
    ]
    smaller = [[1.516842, -0.513428, 2.325499], [1.966996, 2.923096, 1.995135]]
    for expected in (larger, smaller):
        size = (len(expected), len(expected[0]))
        found = np.asarray(resize_grid(grid, (3, 4), size)).reshape(size)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_learned_positions_are_rows_of_the_table_and_nan_beyond_it():
    table = jnp.arange(6.0).reshape(3, 2)
    module = LearnedPositions(max_length=3, width=2)
    rows = module.apply({"params": {"table": table}}, jnp.array([[2, 0]]))
    np.testing.assert_array_equal(rows, [[[4.0, 5.0], [0.0, 1.0]]])
    assert np.isnan(module.apply({"params": {"table": table}}, jnp.array(3))).all()
    with pytest.raises(ValueError, match="4 positions.*table of 3"):
        module.apply({"params": {"table": table}}, jnp.arange(4))


def test_odd_widths_are_refused():
    with pytest.raises(ValueError, match="width=3"):
        sinusoidal(jnp.arange(2), width=3)
    with pytest.raises(ValueError, match="6 features"):
        sinusoidal_grid(2, 2, features=6)
