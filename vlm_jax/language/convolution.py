"""Convolutions over words."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vlm_jax.language.embeddings import Embedding
from vlm_jax.types import PAD, Features


class ConvolutionEncoder(nn.Module, kw_only=True):
    """Reads text through windows of several sizes: Int[b l] -> Features [b l filters * len(windows)].

    `relu(W x[t - (h-1)//2 : t + h//2 + 1] + b)` at every word t for each window of h words (Kim 2014, arXiv
    1408.5882, eq. 2), side by side; beyond the text and under padding there are zeros. With `max_pool` and a linear
    layer behind it this is Kim's network. The paper's sentences are padded with h - 1 zeros on either side, so that it
    also has windows with only the first or the last word in them.
    """

    vocab_size: int
    embedding_width: int
    windows: tuple[int, ...] = (3, 4, 5)
    filters: int = 100  # of each window
    embedding_dropout_rate: float = 0.0
    embedding_stddev: float = 0.1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "b l"], *, train: bool) -> Features:
        mask = tokens != PAD
        x = Embedding(
            vocab_size=self.vocab_size,
            width=self.embedding_width,
            stddev=self.embedding_stddev,
            dtype=self.dtype,
            name="embedding",
        )(tokens)
        x = nn.Dropout(self.embedding_dropout_rate)(x, deterministic=not train)
        x = jnp.where(mask[..., None], x, 0)
        found = [_windows(x, size, self.filters, self.dtype) for size in self.windows]
        values = nn.relu(jnp.concatenate(found, axis=-1))
        return Features(values=jnp.where(mask[..., None], values, 0), mask=mask)


def _windows(
    x: Float[Array, "b l d"], size: int, filters: int, dtype: Any
) -> Float[Array, "b l f"]:
    layer = nn.Conv(
        filters,
        (size,),
        padding=(((size - 1) // 2, size // 2),),
        kernel_init=nn.initializers.xavier_uniform(),
        dtype=dtype,
        name=f"window_{size}",
    )
    return layer(x)
