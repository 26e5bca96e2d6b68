"""Small convolutional encoders, for generated scenes and for a first afternoon."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vlm_jax.layers.convolution import Conv, ConvNorm, flatten_grid
from vlm_jax.layers.norm import BatchNorm, Norm
from vlm_jax.types import Features


class SmallCnn(nn.Module, kw_only=True):
    """3x3 convolutions, one for each entry of `features`: 64x64 -> [b 64 128].

    Each halves the picture, unless `strides` says otherwise, so that three turn 64x64 into an 8x8 grid.
    `positions`, called with the grid [b n d] and its (h, w), adds to each place where it is (LearnedGrid of the
    Vision Transformer, say): a convolution alone hardly knows left from right.
    """

    features: tuple[int, ...] = (32, 64, 128)
    strides: tuple[int, ...] | None = None  # one for each of `features`; None: 2 everywhere
    positions: nn.Module | None = None
    activation: Callable = nn.relu
    norm: Norm = BatchNorm()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w c"], *, train: bool) -> Features:
        strides = self.strides or (2,) * len(self.features)
        if len(strides) != len(self.features):
            raise ValueError(
                f"SmallCnn has {len(self.features)} features and {len(strides)} strides; expected one a convolution"
            )
        x = image.astype(self.dtype)
        for i, (width, stride) in enumerate(zip(self.features, strides)):
            x = ConvNorm(
                features=width, strides=stride, norm=self.norm, dtype=self.dtype, name=f"stage_{i}"
            )(x, train=train)
            x = self.activation(x)
        grid = flatten_grid(x)
        if self.positions is None:
            return grid
        return grid.replace(values=self.positions(grid.values, x.shape[1:3]))


class Convolution(nn.Module, kw_only=True):
    """One convolution and an activation: the tutorial's CNN. 64x64 -> [b 4096 64]."""

    filters: int = 64
    kernel_size: int = 3
    stride: int = 1
    activation: Callable = nn.relu
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w c"], *, train: bool) -> Features:
        x = Conv(
            self.filters,
            (self.kernel_size, self.kernel_size),
            strides=self.stride,
            dtype=self.dtype,
            name="conv",
        )(image.astype(self.dtype))
        return flatten_grid(self.activation(x))
