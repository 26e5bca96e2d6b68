"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545): a convolutional network with a Transformer's choices."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vlm_jax.layers.activations import exact_gelu
from vlm_jax.layers.convolution import Conv, flatten_grid
from vlm_jax.layers.mlp import Mlp
from vlm_jax.layers.norm import LayerNorm, Norm
from vlm_jax.layers.stochastic_depth import StochasticDepth
from vlm_jax.types import Features

_INIT = nn.initializers.truncated_normal(0.02)  # their appendix A.1


class ConvNeXt(nn.Module, kw_only=True):
    """An image to the grid after its last block, 32 times smaller: 224x224 -> [b 49 768].

    `layer_scale` is where the factor of each block's branch begins (Touvron et al. 2021); None, without one.
    `drop_path_rate` is the rate at which the last block is left out in training; the first never is.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    patch_size: int = 4
    num_classes: int | None = None
    layer_scale: float | None = 1e-6
    drop_path_rate: float = 0.0
    activation: Callable = exact_gelu
    norm: Norm = LayerNorm()
    head_norm: Norm = LayerNorm()
    dtype: Any = jnp.float32

    def __call__(self, image: Float[Array, "b h w c"], *, train: bool) -> Features:
        return flatten_grid(self.grid(image, train=train))

    @nn.compact
    def logits(self, image: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b k"]:
        """Scores of the `num_classes` classes: mean over the grid, norm, linear."""
        pooled = self.grid(image, train=train).mean(axis=(1, 2))
        pooled = self.head_norm(pooled, train=train, dtype=self.dtype, name="head_norm")
        head = nn.Dense(self.num_classes, kernel_init=_INIT, dtype=self.dtype, name="head")
        return head(pooled).astype(jnp.float32)

    @nn.compact
    def grid(self, image: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w d"]:
        """The last block's output, before it is flattened or pooled."""

        def norm(x, name):
            return self.norm(x, train=train, dtype=self.dtype, name=name)

        x = self._patches(image.astype(self.dtype), self.widths[0], self.patch_size, "stem")
        x = norm(x, "stem_norm")
        last = max(sum(self.depths) - 1, 1)
        for i, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            if i > 0:
                x = norm(x, f"downsample_norm_{i}")
                x = self._patches(x, width, 2, f"downsample_{i}")
            for j in range(depth):
                x = Block(
                    layer_scale=self.layer_scale,
                    drop_path_rate=self.drop_path_rate * (sum(self.depths[:i]) + j) / last,
                    activation=self.activation,
                    norm=self.norm,
                    dtype=self.dtype,
                    name=f"block_{i}_{j}",
                )(x, train=train)
        return x

    def _patches(self, x, width: int, size: int, name: str):
        """One linear layer for each square of `size`; what is left over at the edge is dropped, as theirs is."""
        window = (size, size)
        fields = {"strides": window, "padding": "VALID", "kernel_init": _INIT, "dtype": self.dtype}
        return nn.Conv(width, window, **fields, name=name)(x)


class Block(nn.Module, kw_only=True):
    """Filter each channel (7x7), norm, then an MLP four times as wide at each place (figure 4)."""

    layer_scale: float | None
    drop_path_rate: float
    activation: Callable
    norm: Norm
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        width = x.shape[-1]
        y = Conv(
            width,
            (7, 7),
            padding=3,
            feature_group_count=width,
            kernel_init=_INIT,
            dtype=self.dtype,
            name="depthwise",
        )(x)
        y = self.norm(y, train=train, dtype=self.dtype, name="norm")
        mlp = Mlp(hidden=4 * width, activation=self.activation, dtype=self.dtype, name="mlp")
        y = mlp(y, train=train)
        if self.layer_scale is not None:
            start = nn.initializers.constant(self.layer_scale)
            y = y * self.param("scale", start, (width,)).astype(self.dtype)
        return x + StochasticDepth(rate=self.drop_path_rate, name="depth")(y, train=train)


def convnext_tiny(**overrides) -> ConvNeXt:
    """T (section 3): 28,589,128 parameters with 1000 classes."""
    return ConvNeXt(**overrides)


def convnext_small(**overrides) -> ConvNeXt:
    """S: 50,223,688 parameters with 1000 classes."""
    return ConvNeXt(**{"depths": (3, 3, 27, 3)} | overrides)


def convnext_base(**overrides) -> ConvNeXt:
    """B: 88,591,464 parameters with 1000 classes."""
    fields = {"depths": (3, 3, 27, 3), "widths": (128, 256, 512, 1024)}
    return ConvNeXt(**fields | overrides)
