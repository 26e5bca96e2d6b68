"""The image's features at the width of the text, and nothing of the text."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vlm_jax.layers.activations import exact_gelu
from vlm_jax.layers.norm import Norm
from vlm_jax.types import Features


class Projection(nn.Module, kw_only=True):
    """Image [b n c] -> [b n width]: a linear layer, or two with an activation between them where `hidden` (Liu et al.
    2024, arXiv 2310.03744, section 3.2), then a `norm` where one is given.

    With `merge` each square of merge x merge places of a square grid is one vector first, their features side by side,
    row by row (Laurençon et al. 2024, arXiv 2408.12637, section 2.2): n / merge^2 places. With `side` the places are
    those of several such grids, each side x side, one after another.
    """

    width: int
    hidden: int | None = None
    activation: Callable = exact_gelu
    use_bias: bool = True
    norm: Norm | None = None
    merge: int = 1
    side: int | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, image: Features | None, text: Features | None = None, *, train: bool
    ) -> Features:
        if image is None or text is not None:
            given = "no image" if image is None else "a text as well"
            raise ValueError(f"Projection was given {given}; expected an image alone. Try Prefix()")
        form = {"use_bias": self.use_bias, "dtype": self.dtype}
        x, mask = image.values, image.mask
        if self.merge > 1:
            x = merged(x, self.merge, self.side)
            mask = merged(mask[..., None], self.merge, self.side).all(-1)
        if self.hidden is not None:
            x = self.activation(nn.Dense(self.hidden, **form, name="hidden_layer")(x))
        x = nn.Dense(self.width, **form, name="projection")(x)
        if self.norm is not None:
            x = self.norm(x, train=train, dtype=self.dtype, name="norm")
        return Features(values=x, mask=mask)


def merged(x: Float[Array, "b n c"], merge: int, side: int | None = None) -> Float[Array, "b m d"]:
    """Squares of square grids as one vector each: [b n c] -> [b n/merge^2 merge^2*c]; one grid unless a `side` is given."""
    b, n, c = x.shape
    side = math.isqrt(n) if side is None else side
    if n % side**2 or side % merge:
        raise ValueError(
            f"Projection(merge={merge}) was given {n} places; expected a square grid whose side {merge} divides"
        )
    x = x.reshape(b, n // side**2, side // merge, merge, side // merge, merge, c)
    return x.transpose(0, 1, 2, 4, 3, 5, 6).reshape(b, n // merge**2, merge**2 * c)
