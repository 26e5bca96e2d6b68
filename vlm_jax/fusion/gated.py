"""A gate between the two: the gated multimodal unit."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vlm_jax.layers.pooling import pool
from vlm_jax.types import Features


class Gated(nn.Module, kw_only=True):
    """The bimodal unit of Arevalo et al. 2017 (arXiv 1702.01992, section 3.1), at every text position.

        h_v = tanh(W_v v)    h_t = tanh(W_t t)    z = sigmoid(W_z [v, t])    h = z * h_v + (1 - z) * h_t

    v is the image pooled to one vector. `width` is by default the text's. Sows z as "gate" [b l width].
    The paper's layers have no bias; ours have.
    """

    width: int | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Features | None, text: Features | None, *, train: bool) -> Features:
        if image is None or text is None:
            return image if text is None else text
        width = self.width or text.values.shape[-1]
        picture, words = pool(image)[:, None].astype(self.dtype), text.values.astype(self.dtype)
        from_image = jnp.tanh(nn.Dense(width, dtype=self.dtype, name="image")(picture))
        from_text = jnp.tanh(nn.Dense(width, dtype=self.dtype, name="text")(words))
        # W_z [v, t] in two halves, so that the image's is computed once and not at every position.
        gate = nn.sigmoid(
            nn.Dense(width, use_bias=False, dtype=self.dtype, name="image_gate")(picture)
            + nn.Dense(width, dtype=self.dtype, name="text_gate")(words)
        )
        self.sow("intermediates", "gate", gate)
        return Features(values=gate * from_image + (1 - gate) * from_text, mask=text.mask)
