"""An encoder that reads several pictures an example, or the squares of one (data/tiles.py)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vlm_jax.types import Features


class Tiled(nn.Module, kw_only=True):
    """Image [b t h w c] -> Features [b t*n d]: what `encoder` makes of each square, one after another.

    A square of zeros is none: its places are masked, as in the published model (Laurençon et al. 2024). [b h w c] is one
    square each.
    """

    encoder: nn.Module

    @nn.compact
    def __call__(
        self, image: Float[Array, "b t h w c"] | Float[Array, "b h w c"], *, train: bool
    ) -> Features:
        image = image[:, None] if image.ndim == 4 else image
        b, t = image.shape[:2]
        seen = self.encoder(image.reshape(b * t, *image.shape[2:]), train=train)
        there = present(image).reshape(b * t, 1)
        together = Features(values=seen.values, mask=seen.mask & there)
        return jax.tree.map(lambda x: x.reshape(b, -1, *x.shape[2:]), together)


def present(image: Float[Array, "b t h w c"]) -> Bool[Array, "b t"]:
    """Which squares are pictures."""
    return jnp.any(image != 0, axis=(2, 3, 4))
