"""Every word looks at the image."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vlm_jax.layers.attention_block import AttentionBlock
from vlm_jax.layers.norm import LayerNorm, Norm
from vlm_jax.layers.pooling import cleared
from vlm_jax.types import Features


class CrossAttention(nn.Module, kw_only=True):
    """The text's places [b l d], each with what it saw of the image, after Vaswani et al. 2017 (arXiv 1706.03762).

        t <- t + attention(norm(t), norm(image))      queries from the text (section 3.2.3), the image keys and values
        t <- t + mlp(norm(t))                         num_layers times both

    No word looks at another one: that is the text encoder's. Each layer sows its weights, "attention" [b i l n].
    """

    num_layers: int = 1
    num_heads: int = 4
    hidden: int
    dropout_rate: float = 0.0
    norm: Norm = LayerNorm()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Features | None, text: Features | None, *, train: bool) -> Features:
        if image is None or text is None:
            return image if text is None else text
        places = cleared(image).astype(self.dtype)
        places = self.norm(places, train=train, dtype=self.dtype, name="image_norm")
        x = cleared(text).astype(self.dtype)
        for i in range(self.num_layers):
            block = AttentionBlock(
                num_heads=self.num_heads,
                hidden=self.hidden,
                dropout_rate=self.dropout_rate,
                norm=self.norm,
                dtype=self.dtype,
                name=f"layer_{i}",
            )
            x = block(x, places, image.mask, train=train)
        return Features(values=x, mask=text.mask)
