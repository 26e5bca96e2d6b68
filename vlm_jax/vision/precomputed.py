"""Features that another network computed, and a cache keeps."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vlm_jax.layers.norm import NoNorm, Norm
from vlm_jax.types import Features


class Precomputed(nn.Module, kw_only=True):
    """Cached features in place of the image: [b d], [b n d] or [b h w d] -> Features.

    In this order: `transform` (jnp.log1p, say), `norm` (UnitNorm() divides each vector by its
    length; BatchNorm() standardises each feature over the training pictures), dropout, and where
    `width` is given a linear layer, its activation, and dropout again.
    """

    transform: Callable | None = None
    norm: Norm = NoNorm()
    width: int | None = None
    activation: Callable | None = None
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b *n d"], *, train: bool) -> Features:
        if image.ndim < 2:
            raise ValueError(
                f"Precomputed was given shape {image.shape}; expected [b d], [b n d] or [b h w d]."
            )
        # Integers would be bytes of a picture, not features.
        if not jnp.issubdtype(image.dtype, jnp.floating):
            raise ValueError(
                f"Precomputed was given {image.dtype} values; expected cached float features. "
                "For pictures, try an encoder such as SmallCnn."
            )
        # Sums over thousands of float16 features overflow; the cache is float16, the work is not.
        x = image.astype(self.dtype).reshape(image.shape[0], -1, image.shape[-1])  # [b n d]
        if self.transform is not None:
            x = self.transform(x)
        x = self.norm(x, train=train, dtype=self.dtype, name="norm")
        x = nn.Dropout(self.dropout_rate)(x, deterministic=not train)
        if self.width is not None:
            x = nn.Dense(self.width, dtype=self.dtype, name="projection")(x)
            if self.activation is not None:
                x = self.activation(x)
            x = nn.Dropout(self.dropout_rate)(x, deterministic=not train)
        return Features(values=x, mask=jnp.ones(x.shape[:2], bool))
