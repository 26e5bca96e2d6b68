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
    """Strided 3x3 convolutions, one for each entry of `features`: 64x64 -> [b 64 128].

    Each halves the picture, so that three turn 64x64 into an 8x8 grid.
    """

    features: tuple[int, ...] = (32, 64, 128)
    activation: Callable = nn.relu
    norm: Norm = BatchNorm()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w c"], *, train: bool) -> Features:
        x = image.astype(self.dtype)
        for i, width in enumerate(self.features):
            x = ConvNorm(
                features=width, strides=2, norm=self.norm, dtype=self.dtype, name=f"stage_{i}"
            )(x, train=train)
            x = self.activation(x)
        return flatten_grid(x)


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
