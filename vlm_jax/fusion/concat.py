"""Concatenation: the picture's vector beside each position of the text."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vlm_jax.layers.pooling import pool
from vlm_jax.types import Features


class Concat(nn.Module, kw_only=True):
    """[text; image] at each text position, and a linear layer to `width` where that is given.

    Without text the picture's features pass; without a picture the text's do.
    """

    width: int | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Features | None, text: Features | None, *, train: bool) -> Features:
        if image is None or text is None:
            joined = image if text is None else text
            values, mask = joined.values, joined.mask
        else:
            vector = pool(image)[:, None]  # [b 1 d]
            shape = (*text.values.shape[:2], vector.shape[-1])
            values = jnp.concatenate([text.values, jnp.broadcast_to(vector, shape)], axis=-1)
            mask = text.mask
        if self.width is not None:
            values = nn.Dense(self.width, dtype=self.dtype)(values)
        return Features(values=values, mask=mask)
