"""What the tests of fusions share: two small inputs, filled variables, and the layers of papers in numpy."""

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.train.state import path_name
from vlm_jax.types import Features

# The last place of the first picture and the last word of the first text are padding.
IMAGE = Features(
    values=jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3)), jnp.float32),
    mask=jnp.array([[1, 1, 1, 0], [1, 1, 1, 1]], bool),
)
TEXT = Features(
    values=jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 5)), jnp.float32),
    mask=jnp.array([[1, 1, 0], [1, 1, 1]], bool),
)


def fused(fusion, image=IMAGE, text=TEXT, *, seed=0):
    """(the result, what it sowed, its parameters) with variables at which mistakes show."""
    variables = variables_of(fusion, image, text, seed=seed)
    found, sown = fusion.apply(variables, image, text, train=False, mutable=["intermediates"])
    return found, sown.get("intermediates", {}), variables.get("params", {})


def variables_of(fusion, image=IMAGE, text=TEXT, *, seed=0):
    """Nothing near 0, no bias 0, no scale 1, and nothing to compile."""
    shapes = jax.eval_shape(lambda: fusion.init(jax.random.key(0), image, text, train=False))
    shapes.pop("intermediates", None)
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        values = 0.7 * rng.normal(size=leaf.shape)
        if path_name(path).split("/")[-1] in ("scale", "var"):
            values = np.exp(values)
        return values.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, dict(shapes))


def rows_of(features):
    """Each row's real places alone, as numpy."""
    values, mask = np.asarray(features.values, np.float64), np.asarray(features.mask)
    return [row[kept] for row, kept in zip(values, mask)]


def dense(x, params):
    return x @ np.asarray(params["kernel"], np.float64) + params.get("bias", 0)


def softmax(x, axis=-1):
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))
