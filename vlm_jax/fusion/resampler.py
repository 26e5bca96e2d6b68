"""A picture of any size as a few vectors, before the words."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vlm_jax.layers.attention_block import AttentionBlock
from vlm_jax.layers.norm import LayerNorm, Norm
from vlm_jax.layers.pooling import cleared
from vlm_jax.types import Features


class Resampler(nn.Module, kw_only=True):
    """[latents, text] [b r+l d], d the text's: the Perceiver Resampler of Alayrac et al. 2022 (arXiv 2204.14198).

    `num_latents` learned vectors look at the image and at themselves (section 2.1 and appendix A.1.1):

        z <- z + attention(norm(z), [norm(image), norm(z)])
        z <- z + mlp(norm(z))                              num_layers times both, and a norm at the end

    Then they stand before the text as a prefix, for a decoder or a SingleStream to read together. There is no time
    here, so no embeddings of it; one norm of the image serves all layers. Each layer sows its weights "attention"
    [b i r n+r], the image's first.
    """

    num_latents: int
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
        b, width = text.mask.shape[0], text.values.shape[-1]
        # As wide as the text, which need not be as wide as the image.
        places = nn.Dense(width, dtype=self.dtype, name="image")(cleared(image).astype(self.dtype))
        places = self.norm(places, train=train, dtype=self.dtype, name="image_norm")
        latents = self.param("latents", nn.initializers.normal(0.02), (self.num_latents, width))
        z = jnp.broadcast_to(latents.astype(self.dtype), (b, *latents.shape))
        kept = jnp.ones((b, self.num_latents), bool)
        for i in range(self.num_layers):
            block = AttentionBlock(
                num_heads=self.num_heads,
                hidden=self.hidden,
                sees_itself=True,
                dropout_rate=self.dropout_rate,
                norm=self.norm,
                dtype=self.dtype,
                name=f"layer_{i}",
            )
            z = block(z, places, jnp.concatenate([image.mask, kept], axis=1), train=train)
        z = self.norm(z, train=train, dtype=self.dtype, name="norm")
        return Features(
            values=jnp.concatenate([z, cleared(text).astype(self.dtype)], axis=1),
            mask=jnp.concatenate([kept, text.mask], axis=1),
        )
