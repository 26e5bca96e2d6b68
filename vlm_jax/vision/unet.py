"""A U-Net that is told a time and a text: noisy picture -> picture-shaped answer.

Ronneberger et al. 2015 (arXiv 1505.04597), with residual blocks and attention at the coarse levels as Ho et al. 2020
(arXiv 2006.11239), scales and shifts by time and text as Dhariwal and Nichol 2021 (arXiv 2105.05233), and, as Hoogeboom
et al. 2023 (arXiv 2301.11093), on patches instead of pixels.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vlm_jax.layers.attention_block import AttentionBlock
from vlm_jax.layers.convolution import Conv
from vlm_jax.layers.modulation import Modulation, TimeEmbedding, modulate
from vlm_jax.layers.norm import GroupNorm, Norm
from vlm_jax.layers.pooling import cleared, pool
from vlm_jax.types import Features
from vlm_jax.vision.patches import from_patches, to_patches
from vlm_jax.vision.vit import LearnedGrid


class UNet(nn.Module, kw_only=True):
    """[b h w c] at times [b] in [0, 1], beside a text or none -> [b h w c], all zero at first.

        picture in patches -> level 0 ---------------------> level 0 -> patches put together
                                  \\-> level 1 ---> level 1 --/            each arrow across: joined to what comes up
                                          \\-> ... --/

    A level has `widths[i]` features and `num_blocks[i]` residual blocks on the way down, as many on the way up, and half
    the side of the level before. In the lowest `num_attending` levels every block is followed by attention, of each
    place over the text and all places.
    """

    widths: tuple[int, ...]
    num_blocks: tuple[int, ...]
    patch_size: int = 4
    num_attending: int = 1
    num_heads: int = 4
    condition_width: int = 256
    dropout_rate: float = 0.0
    norm: Norm = GroupNorm(num_groups=16)
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
        if len(self.widths) != len(self.num_blocks):
            raise ValueError(
                f"UNet was given widths={self.widths} and num_blocks={self.num_blocks}; expected one of each a level"
            )
        condition = condition_of(self, time, text)

        def block(x, level, name):
            fields = {"dropout_rate": self.dropout_rate, "norm": self.norm, "dtype": self.dtype}
            width = self.widths[level]
            x = ResidualBlock(width=width, **fields, name=name)(x, condition, train=train)
            if level < len(self.widths) - self.num_attending:
                return x
            return self._attended(x, text, name=f"{name}_attention", train=train)

        def project(x, width, name):
            return nn.Dense(width, dtype=self.dtype, name=name)(x)

        x = to_patches(image.astype(self.dtype), self.patch_size)
        x = Conv(self.widths[0], (3, 3), dtype=self.dtype, name="stem")(x)
        across = [x]
        for level, count in enumerate(self.num_blocks):
            if level:
                x = project(to_patches(x, 2), self.widths[level], f"down_{level}")
            if level == len(self.widths) - self.num_attending:
                x = _placed(x)
            for i in range(count):
                x = block(x, level, f"down_{level}_{i}")
                across.append(x)
        for level in reversed(range(len(self.widths))):
            for i in range(self.num_blocks[level]):
                x = jnp.concatenate([x, across.pop()], axis=-1)
                x = block(x, level, f"up_{level}_{i}")
            if level:
                x = from_patches(project(x, 4 * self.widths[level - 1], f"up_{level}"), 2)
        x = jnp.concatenate([x, across.pop()], axis=-1)
        x = nn.silu(self.norm(x, train=train, dtype=self.dtype, name="output_norm"))
        features = self.patch_size**2 * image.shape[-1]
        zeros = nn.initializers.zeros
        x = Conv(features, (3, 3), kernel_init=zeros, dtype=self.dtype, name="output")(x)
        return from_patches(x.astype(jnp.float32), self.patch_size)

    def _attended(self, x, text, *, name, train):
        b, h, w, d = x.shape
        memory, mask = None, jnp.ones((b, h * w), bool)
        if text is not None:
            memory = nn.Dense(d, dtype=self.dtype, name=f"{name}_text")(cleared(text))
            mask = jnp.concatenate([text.mask, mask], axis=1)
        attend = AttentionBlock(
            num_heads=self.num_heads,
            hidden=2 * d,
            sees_itself=True,
            dropout_rate=self.dropout_rate,
            dtype=self.dtype,
            name=name,
        )
        return attend(x.reshape(b, h * w, d), memory, mask, train=train).reshape(b, h, w, d)


class ResidualBlock(nn.Module, kw_only=True):
    """x + two 3x3 convolutions, each after a norm and a silu; what the condition says falls on the second norm."""

    width: int
    dropout_rate: float
    norm: Norm
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], condition: Float[Array, "b e"], *, train: bool
    ) -> Float[Array, "b h w d"]:
        def convolution(y, name, **fields):
            return Conv(self.width, (3, 3), dtype=self.dtype, name=name, **fields)(y)

        y = nn.silu(self.norm(x, train=train, dtype=self.dtype, name="norm_0"))
        y = self.norm(convolution(y, "conv_0"), train=train, dtype=self.dtype, name="norm_1")
        shift, scale = Modulation(
            number=2, features=self.width, dtype=self.dtype, name="modulation"
        )(condition)
        y = nn.silu(modulate(y, shift, scale))
        y = nn.Dropout(self.dropout_rate, deterministic=not train)(y)
        y = convolution(y, "conv_1", kernel_init=nn.initializers.zeros)
        if x.shape[-1] != self.width:
            x = nn.Dense(self.width, dtype=self.dtype, name="past")(x)
        return x + y


def condition_of(
    network: Any, time: Float[Array, "b"], text: Features | None
) -> Float[Array, "b e"]:
    """Time and pooled text as one vector of the network's `condition_width`, within its compact method."""
    width, dtype = network.condition_width, network.dtype
    condition = TimeEmbedding(width=width, dtype=dtype, name="time")(time)
    if text is not None:
        condition += nn.Dense(width, dtype=dtype, name="text")(pool(text).astype(dtype))
    return condition


def _placed(x: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
    """With a learned vector added to each place: attention alone knows no left and right."""
    b, h, w, d = x.shape
    places = LearnedGrid(grid=(h, w), num_extra=0, name="positions")
    return places(x.reshape(b, h * w, d), (h, w)).reshape(b, h, w, d)
