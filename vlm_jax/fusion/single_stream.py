"""Places and words read by one Transformer."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vlm_jax.layers.attention_block import AttentionBlock
from vlm_jax.layers.norm import LayerNorm, Norm
from vlm_jax.layers.pooling import cleared
from vlm_jax.types import Features


class SingleStream(nn.Module, kw_only=True):
    """What another fusion put in one row, Prefix or Resampler say, where everything now looks at everything.

    So in VisualBERT (Li et al. 2019, arXiv 1908.03557, section 3.2). Positions and the difference between places and
    words are what the encoders and the `fusion` gave them. Sows the weights of each layer, "attention" [b i n n].
    """

    fusion: nn.Module
    num_layers: int = 1
    num_heads: int = 4
    hidden: int
    dropout_rate: float = 0.0
    norm: Norm = LayerNorm()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Features | None, text: Features | None, *, train: bool) -> Features:
        both = self.fusion(image, text, train=train)
        if image is None or text is None:
            return both
        x = cleared(both).astype(self.dtype)
        for i in range(self.num_layers):
            block = AttentionBlock(
                num_heads=self.num_heads,
                hidden=self.hidden,
                dropout_rate=self.dropout_rate,
                norm=self.norm,
                dtype=self.dtype,
                name=f"layer_{i}",
            )
            x = block(x, None, both.mask, train=train)
        x = self.norm(x, train=train, dtype=self.dtype, name="norm")
        return Features(values=x, mask=both.mask)
