"""Side by side."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vlm_jax.layers.pooling import pool
from vlm_jax.types import Features


class Concat(nn.Module, kw_only=True):
    """[image, text] at every text position, the image pooled to one vector; then linear to `width`, if given.

    Fukui et al. 2016 (MCB, arXiv 1606.01847, table 1) compare it with sum, product and their own.
    """

    width: int | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Features | None, text: Features | None, *, train: bool) -> Features:
        if image is None or text is None:
            return image if text is None else text
        beside = jnp.broadcast_to(
            pool(image)[:, None], (*text.values.shape[:2], image.values.shape[-1])
        )
        both = jnp.concatenate([beside.astype(text.values.dtype), text.values], axis=-1)
        if self.width is not None:
            both = nn.Dense(self.width, dtype=self.dtype, name="projection")(both)
        return Features(values=both, mask=text.mask)
