"""A sequence of vectors to one vector."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vlm_jax.layers.attention import MultiHeadAttention, padding_mask
from vlm_jax.layers.mlp import Mlp
from vlm_jax.layers.norm import LayerNorm, Norm
from vlm_jax.types import Features


def pool(features: Features) -> Float[Array, "b d"]:
    """The mean over the real positions; zeros where a row has none.

    `[[1], [3], [9]], mask [1, 1, 0] -> [2]`
    """
    # where, not a product: what lies under padding may be NaN.
    kept = jnp.where(features.mask[..., None], features.values, 0)
    count = jnp.maximum(features.mask.sum(axis=1, keepdims=True), 1)
    return kept.sum(axis=1) / count.astype(kept.dtype)


def max_pool(features: Features) -> Float[Array, "b d"]:
    """The largest value of each feature over the real positions; zeros where a row has none.

    `[[1, 5], [3, -2], [9, 9]], mask [1, 1, 0] -> [3, 5]`
    """
    mask = features.mask[..., None]
    largest = jnp.where(mask, features.values, -jnp.inf).max(axis=1)
    return jnp.where(mask.any(axis=1), largest, 0)


def first_pool(features: Features) -> Float[Array, "b d"]:
    """The first position, real or not: a class token."""
    return features.values[:, 0]


def last_pool(features: Features) -> Float[Array, "b d"]:
    """The last real position, such as the last state of a recurrent reader; zeros where a row has none.

    `[[1], [3], [9]], mask [1, 1, 0] -> [3]`
    """
    mask = features.mask
    num_after = jnp.cumsum(mask[:, ::-1], axis=1)[:, ::-1]  # real positions from here on
    return jnp.where((mask & (num_after == 1))[..., None], features.values, 0).sum(axis=1)


def concat_pool(features: Features) -> Float[Array, "b nd"]:
    """All positions one after another, zeros where padded, as a layer over a whole picture reads them (LeCun et al. 1998).

    It knows every place by itself, and so takes as many positions as it was built for: pictures of one size.
    `[[1], [3], [9]], mask [1, 1, 0] -> [1, 3, 0]`
    """
    values = cleared(features)
    return values.reshape(values.shape[0], -1)


def cleared(features: Features) -> Float[Array, "b n d"]:
    """The values, zero at padding: what lies there may be anything, and NaN survives a weight of 0."""
    return jnp.where(features.mask[..., None], features.values, 0)


class AttentionPooling(nn.Module, kw_only=True):
    """What a learned query finds in all real positions, and an MLP on it (Zhai et al. 2022, arXiv 2106.04560, section 3.2):
    y = attention(query, values), then y + mlp(norm(y))."""

    num_heads: int
    hidden: int
    activation: Callable = nn.gelu
    norm: Norm = LayerNorm()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Features) -> Float[Array, "b d"]:
        b, _, width = features.values.shape
        query = self.param("query", nn.initializers.xavier_uniform(), (1, 1, width))
        query = jnp.broadcast_to(query, (b, 1, width)).astype(self.dtype)
        attention = MultiHeadAttention(
            num_heads=self.num_heads, width=width, dtype=self.dtype, name="attention"
        )
        mask = padding_mask(features.mask)
        x = attention(query, cleared(features).astype(self.dtype), mask, train=False)
        y = self.norm(x, train=False, dtype=self.dtype, name="norm")
        mlp = Mlp(hidden=self.hidden, activation=self.activation, dtype=self.dtype, name="mlp")
        return (x + mlp(y, train=False))[:, 0]


class LinearPooling(nn.Module, kw_only=True):
    """A linear layer, with its bias, over what `pooling` makes of the positions."""

    pooling: Callable[[Features], Array]
    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Features) -> Float[Array, "b d"]:
        return nn.Dense(self.width, dtype=self.dtype, name="linear")(self.pooling(features))
