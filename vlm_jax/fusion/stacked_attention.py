"""Looking at the image several times, each time with what was seen so far."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vlm_jax.layers.attention import masked_softmax
from vlm_jax.layers.pooling import cleared, pool
from vlm_jax.types import Array, Features


class StackedAttention(nn.Module, kw_only=True):
    """One vector, [b 1 d] with d the text's, after Yang et al. 2016 (arXiv 1511.02274, section 3.3).

        v   = tanh(W f + b)                            each place of the image, at the question's width
        u_0 = the text pooled to one vector
        h_k = tanh(W_I v + (W_Q u_{k-1} + b))          for k = 1 .. num_layers
        p_k = softmax over places of W_P h_k
        u_k = sum_i p_ki v_i + u_{k-1}

    The paper's scores have a bias, which a softmax does not notice; ours have none. Its question vector is an LSTM's
    last state: `text_pooling=last_pool`. Sows each p_k [b n] as "attention", the first look first; padding has 0.
    """

    attention_width: int = 512
    num_layers: int = 2
    text_pooling: Callable[[Features], Array] = pool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Features | None, text: Features | None, *, train: bool) -> Features:
        if image is None or text is None:
            return image if text is None else text

        def dense(width, name, use_bias=True):
            return nn.Dense(width, use_bias=use_bias, dtype=self.dtype, name=name)

        u = self.text_pooling(text).astype(self.dtype)
        v = jnp.tanh(dense(u.shape[-1], "image")(cleared(image).astype(self.dtype)))
        for k in range(1, self.num_layers + 1):
            from_query = dense(self.attention_width, f"query_{k}")(u)[:, None]
            from_image = dense(self.attention_width, f"places_{k}", use_bias=False)(v)
            scores = dense(1, f"scores_{k}", use_bias=False)(jnp.tanh(from_image + from_query))
            weights = masked_softmax(scores[..., 0].astype(jnp.float32), image.mask)
            self.sow("intermediates", "attention", weights)
            u = jnp.einsum("bn,bnd->bd", weights.astype(v.dtype), v) + u
        return Features(values=u[:, None], mask=jnp.ones((len(u), 1), bool))
