"""Attention and an MLP, each after a norm and beside a way past it."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vlm_jax.layers.attention import MultiHeadAttention
from vlm_jax.layers.mlp import Mlp
from vlm_jax.layers.norm import LayerNorm, Norm


class AttentionBlock(nn.Module, kw_only=True):
    """x + attention(norm(x)), then x + mlp(norm(x)) (Vaswani et al. 2017, the norms as in Xiong et al. 2020).

    It looks at the `memory`; at x itself where there is none; at both, the memory first, where `sees_itself`. The
    mask [b n], True for what may be seen, is of all of that. Sows the weights "attention" [b i q n].
    """

    num_heads: int
    hidden: int
    sees_itself: bool = False
    dropout_rate: float = 0.0
    norm: Norm = LayerNorm()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b q d"],
        memory: Float[Array, "b m e"] | None,
        mask: Bool[Array, "b n"],
        *,
        train: bool,
    ) -> Float[Array, "b q d"]:
        dropout = nn.Dropout(self.dropout_rate, deterministic=not train)
        y = self.norm(x, train=train, dtype=self.dtype, name="attention_norm")
        if memory is None:
            seen = y
        else:
            seen = jnp.concatenate([memory, y], axis=1) if self.sees_itself else memory
        attention = MultiHeadAttention(
            num_heads=self.num_heads,
            width=x.shape[-1],
            dropout_rate=self.dropout_rate,
            dtype=self.dtype,
            name="multi_head_attention",
        )
        y, weights = attention.attend(
            y, *attention.keys_values(seen), mask[:, None, :], train=train
        )
        self.sow("intermediates", "attention", weights)
        x = x + dropout(y)
        y = self.norm(x, train=train, dtype=self.dtype, name="mlp_norm")
        mlp = Mlp(hidden=self.hidden, dropout_rate=self.dropout_rate, dtype=self.dtype, name="mlp")
        return x + mlp(y, train=train)
