import jax.numpy as jnp
import numpy as np
import pytest

from tests.fusion.by_hand import TEXT, dense, rows_of, variables_of
from vlm_jax.fusion.film import Film, coordinates
from vlm_jax.types import Features

# A grid of 2 rows and 3 columns; the last place of the first picture is padding.
GRID = Features(
    values=jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 2)), jnp.float32),
    mask=jnp.array([[1] * 5 + [0], [1] * 6], bool),
)


def convolved(x, kernel):
    """Zeros beyond the border; x [h w c], kernel [3 3 c d]."""
    height, width, _ = x.shape
    result = np.zeros((height, width, kernel.shape[3]))
    for row in range(height):
        for column in range(width):
            for i in range(3):
                for j in range(3):
                    r, c = row + i - 1, column + j - 1
                    if 0 <= r < height and 0 <= c < width:
                        result[row, column] += x[r, c] @ kernel[i, j]
    return result


def test_places_are_those_that_perez_draws():
    fusion = Film(width=4, num_blocks=2, output_width=3, grid=(2, 3))
    variables = variables_of(fusion, GRID)
    found = fusion.apply(variables, GRID, TEXT, train=False)
    params, statistics = variables["params"], variables["batch_stats"]

    def normed(x, *names):
        mean_var, affine = statistics, params
        for name in names:
            mean_var, affine = mean_var[name], affine.get(name, {})
        x = (x - mean_var["mean"]) / np.sqrt(mean_var["var"] + 1e-5)
        return x * affine.get("scale", 1) + affine.get("bias", 0)

    assert "norm" not in params["block_0"], "the norm before FiLM has a scale of its own"
    place = np.array([[[-1, -1], [0, -1], [1, -1]], [[-1, 1], [0, 1], [1, 1]]])
    for row, (kept, words) in enumerate(zip(np.asarray(GRID.mask), rows_of(TEXT))):
        kept = kept.reshape(2, 3, 1)
        x = np.concatenate([np.asarray(GRID.values[row]).reshape(2, 3, 2), place], -1) * kept
        x = normed(convolved(x, params["stem"]["conv"]["kernel"]), "stem", "norm")
        x = np.maximum(x, 0) * kept
        modulation = dense(words.mean(0), params["film"]).reshape(2, 2, 4)
        for i, (delta, beta) in enumerate(modulation):
            block = params[f"block_{i}"]
            kernel = {**block["pointwise"], "kernel": block["pointwise"]["kernel"][0, 0]}
            y = np.maximum(dense(np.concatenate([x, place], -1) * kept, kernel), 0) * kept
            z = normed(convolved(y, block["conv"]["kernel"]), f"block_{i}", "norm")
            x = y + np.maximum((1 + delta) * z + beta, 0) * kept
        x = np.concatenate([x, place], -1) * kept
        x = normed(x @ params["output"]["conv"]["kernel"][0, 0], "output", "norm")
        expected = np.maximum(x, 0).reshape(6, 3)[np.asarray(GRID.mask[row])]
        np.testing.assert_allclose(
            found.values[row][GRID.mask[row]], expected, rtol=1e-4, atol=1e-5
        )
    np.testing.assert_array_equal(found.mask, GRID.mask)


def test_coordinates_go_right_and_down():
    found = coordinates(2, 3)
    assert found[0, :, 0].tolist() == [-1, 0, 1] and found[:, 0, 1].tolist() == [-1, 1]


def test_what_is_no_grid_is_refused_by_number():
    with pytest.raises(ValueError, match="6 places, expected a square.*grid="):
        variables_of(Film(), GRID)
    with pytest.raises(ValueError, match=r"6 places, expected 3 \* 3"):
        variables_of(Film(grid=(3, 3)), GRID)
