"""A Transformer over patches that is told a time and a text: noisy picture -> picture-shaped answer.

Diffusion Transformer, Peebles and Xie 2023 (arXiv 2212.09748).
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vlm_jax.layers.attention import MultiHeadAttention, padding_mask
from vlm_jax.layers.mlp import Mlp
from vlm_jax.layers.modulation import Modulation, modulate
from vlm_jax.layers.norm import Norm, PlainLayerNorm
from vlm_jax.layers.pooling import cleared
from vlm_jax.types import Features
from vlm_jax.vision.patches import from_patches, to_patches
from vlm_jax.vision.unet import condition_of
from vlm_jax.vision.vit import SinusoidalGrid


class DiT(nn.Module, kw_only=True):
    """[b h w c] at times [b] in [0, 1], beside a text or none -> [b h w c], all zero at first.

    Blocks with adaLN-Zero (section 3.2, figure 3) by the sum of time and pooled text. Beside that vector the text is read
    word by word: each patch attends to all words and all patches at once, which the paper, whose condition is a class,
    has no need of.
    """

    width: int
    num_layers: int
    num_heads: int
    hidden: int
    patch_size: int = 4
    condition_width: int = 256
    dropout_rate: float = 0.0
    norm: Norm = PlainLayerNorm()  # adaLN is its scale and shift
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        image: Float[Array, "b h w c"],
        time: Float[Array, "b"],
        text: Features | None,
        *,
        train: bool,
    ) -> Float[Array, "b h w c"]:
        condition = condition_of(self, time, text)
        patches = to_patches(image.astype(self.dtype), self.patch_size)
        b, m, n, features = patches.shape
        x = nn.Dense(self.width, dtype=self.dtype, name="patches")(patches.reshape(b, m * n, -1))
        x = SinusoidalGrid(grid=(m, n), num_extra=0, name="positions")(x, (m, n))
        mask, memory = jnp.ones((b, m * n), bool), None
        if text is not None:
            memory = nn.Dense(self.width, dtype=self.dtype, name="words")(cleared(text))
            mask = jnp.concatenate([text.mask, mask], axis=1)
        for i in range(self.num_layers):
            x = Block(
                num_heads=self.num_heads,
                hidden=self.hidden,
                dropout_rate=self.dropout_rate,
                norm=self.norm,
                dtype=self.dtype,
                name=f"block_{i}",
            )(x, memory, mask, condition, train=train)
        shift, scale = Modulation(
            number=2, features=self.width, dtype=self.dtype, name="modulation"
        )(condition)
        x = modulate(self.norm(x, train=train, dtype=self.dtype, name="norm"), shift, scale)
        x = nn.Dense(features, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="output")(
            x
        )
        return from_patches(x.reshape(b, m, n, features).astype(jnp.float32), self.patch_size)


class Block(nn.Module, kw_only=True):
    """x + gate attention(norm(x)), then x + gate mlp(norm(x)), norms scaled and shifted by the condition."""

    num_heads: int
    hidden: int
    dropout_rate: float
    norm: Norm
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        memory: Float[Array, "b l d"] | None,
        mask: Bool[Array, "b m"],
        condition: Float[Array, "b e"],
        *,
        train: bool,
    ) -> Float[Array, "b n d"]:
        width = x.shape[-1]
        modulation = Modulation(number=6, features=width, dtype=self.dtype, name="modulation")
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation(condition)
        y = self.norm(x, train=train, dtype=self.dtype, name="attention_norm")
        y = modulate(y, shift, scale)
        seen = y if memory is None else jnp.concatenate([memory, y], axis=1)
        attention = MultiHeadAttention(
            num_heads=self.num_heads,
            width=width,
            dropout_rate=self.dropout_rate,
            dtype=self.dtype,
            name="attention",
        )
        y, weights = attention.attend(
            y, *attention.keys_values(seen), padding_mask(mask), train=train
        )
        self.sow("intermediates", "attention", weights)
        dropout = nn.Dropout(self.dropout_rate, deterministic=not train)
        x = x + gate[:, None] * dropout(y)
        y = self.norm(x, train=train, dtype=self.dtype, name="mlp_norm")
        y = modulate(y, mlp_shift, mlp_scale)
        mlp = Mlp(hidden=self.hidden, dropout_rate=self.dropout_rate, dtype=self.dtype, name="mlp")
        return x + mlp_gate[:, None] * mlp(y, train=train)
