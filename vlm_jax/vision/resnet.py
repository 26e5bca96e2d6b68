"""ResNet (He et al. 2016, arXiv:1512.03385): table 1 for ImageNet, section 4.2 for CIFAR."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vlm_jax.layers.convolution import ConvNorm, flatten_grid
from vlm_jax.layers.norm import BatchNorm, Norm
from vlm_jax.layers.stochastic_depth import StochasticDepth, rate_of
from vlm_jax.types import Features


class ResNet(nn.Module, kw_only=True):
    """An image to the grid after its last block: 224x224 -> [b 49 512], or 2048 with bottlenecks.

    `norm_scale_init` starts the scale of each block's last norm: ones as in the paper, zeros as in
    Goyal et al. 2017 (every block begins as the identity). `drop_path_rate` is the rate at which the
    last block is left out in training (stochastic depth); those before it are by less.
    """

    block: Callable[..., nn.Module]  # BasicBlock or BottleneckBlock
    stage_sizes: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem_width: int | None = None  # None: the first of `widths`
    stem: Callable[..., nn.Module]  # ImageNetStem or CifarStem
    shortcut: Callable[..., nn.Module]  # ProjectionShortcut (option B) or PaddedShortcut (option A)
    num_classes: int | None = None
    norm: Norm = BatchNorm()
    norm_scale_init: Callable = nn.initializers.ones
    drop_path_rate: float = 0.0
    dtype: Any = jnp.float32

    def __call__(self, image: Float[Array, "b h w c"], *, train: bool) -> Features:
        return flatten_grid(self.grid(image, train=train))

    def logits(self, image: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b k"]:
        """Scores of the `num_classes` classes: mean over the grid, linear."""
        pooled = self.grid(image, train=train).mean(axis=(1, 2))
        return self.head(pooled).astype(jnp.float32)

    def setup(self):
        if self.num_classes is not None:
            self.head = nn.Dense(self.num_classes, dtype=self.dtype)

    @nn.compact
    def grid(self, image: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w d"]:
        """The last block's output, before it is flattened or pooled."""
        settings = {"norm": self.norm, "dtype": self.dtype}
        x = self.stem(width=self.stem_width or self.widths[0], name="stem", **settings)(
            image.astype(self.dtype), train=train
        )
        for i, (num_blocks, width) in enumerate(zip(self.stage_sizes, self.widths)):
            for j in range(num_blocks):
                x = self.block(
                    width=width,
                    stride=2 if i > 0 and j == 0 else 1,
                    shortcut=self.shortcut,
                    norm_scale_init=self.norm_scale_init,
                    drop_path_rate=rate_of(
                        sum(self.stage_sizes[:i]) + j, sum(self.stage_sizes), self.drop_path_rate
                    ),
                    name=f"block_{i}_{j}",
                    **settings,
                )(x, train=train)
        return x


class BasicBlock(nn.Module, kw_only=True):
    """Two 3x3 convolutions (figure 2)."""

    width: int
    stride: int
    shortcut: Callable[..., nn.Module]
    norm_scale_init: Callable
    drop_path_rate: float
    norm: Norm
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        settings = {"norm": self.norm, "dtype": self.dtype}
        y = ConvNorm(features=self.width, strides=self.stride, padding=1, name="first", **settings)(
            x, train=train
        )
        y = ConvNorm(
            features=self.width, scale_init=self.norm_scale_init, name="second", **settings
        )(nn.relu(y), train=train)
        if x.shape != y.shape:
            x = self.shortcut(width=self.width, stride=self.stride, name="shortcut", **settings)(
                x, train=train
            )
        y = StochasticDepth(rate=self.drop_path_rate, name="depth")(y, train=train)
        return nn.relu(x + y)


class BottleneckBlock(nn.Module, kw_only=True):
    """1x1, 3x3, 1x1, the last four times as wide (figure 5).

    The 3x3 takes the stride, not the first 1x1 of the paper: the published "v1.5" weights do so.
    """

    width: int
    stride: int
    shortcut: Callable[..., nn.Module]
    norm_scale_init: Callable
    drop_path_rate: float
    norm: Norm
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        settings = {"norm": self.norm, "dtype": self.dtype}
        wide = 4 * self.width
        y = ConvNorm(features=self.width, kernel_size=1, name="narrow", **settings)(x, train=train)
        y = ConvNorm(
            features=self.width, strides=self.stride, padding=1, name="filter", **settings
        )(nn.relu(y), train=train)
        y = ConvNorm(
            features=wide,
            kernel_size=1,
            scale_init=self.norm_scale_init,
            name="widen",
            **settings,
        )(nn.relu(y), train=train)
        if x.shape != y.shape:
            x = self.shortcut(width=wide, stride=self.stride, name="shortcut", **settings)(
                x, train=train
            )
        y = StochasticDepth(rate=self.drop_path_rate, name="depth")(y, train=train)
        return nn.relu(x + y)


class ImageNetStem(nn.Module, kw_only=True):
    """7x7 convolution of stride 2, then 3x3 max pooling of stride 2."""

    width: int
    norm: Norm
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h/4 w/4 d"]:
        x = ConvNorm(
            features=self.width,
            kernel_size=7,
            strides=2,
            padding=3,
            norm=self.norm,
            dtype=self.dtype,
            name="conv_norm",
        )(x, train=train)
        return nn.max_pool(nn.relu(x), (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


class CifarStem(nn.Module, kw_only=True):
    """One 3x3 convolution."""

    width: int
    norm: Norm
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w d"]:
        x = ConvNorm(features=self.width, norm=self.norm, dtype=self.dtype, name="conv_norm")(
            x, train=train
        )
        return nn.relu(x)


class ProjectionShortcut(nn.Module, kw_only=True):
    """Option B: a strided 1x1 convolution with its norm."""

    width: int
    stride: int
    norm: Norm
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w d"]:
        return ConvNorm(
            features=self.width,
            kernel_size=1,
            strides=self.stride,
            norm=self.norm,
            dtype=self.dtype,
            name="conv_norm",
        )(x, train=train)


class PaddedShortcut(nn.Module, kw_only=True):
    """Option A: every second place, and zeros for the channels that are missing. No parameters."""

    width: int
    stride: int
    norm: Norm
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w d"]:
        x = x[:, :: self.stride, :: self.stride]
        missing = self.width - x.shape[-1]
        # Half of the zeros on either side, as the common CIFAR implementations do.
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))


def resnet18(**overrides) -> ResNet:
    """11,689,512 parameters with 1000 classes."""
    return _imagenet(BasicBlock, (2, 2, 2, 2), overrides)


def resnet34(**overrides) -> ResNet:
    """21,797,672 parameters with 1000 classes."""
    return _imagenet(BasicBlock, (3, 4, 6, 3), overrides)


def resnet50(**overrides) -> ResNet:
    """25,557,032 parameters with 1000 classes."""
    return _imagenet(BottleneckBlock, (3, 4, 6, 3), overrides)


def resnet101(**overrides) -> ResNet:
    """44,549,160 parameters with 1000 classes."""
    return _imagenet(BottleneckBlock, (3, 4, 23, 3), overrides)


def cifar_resnet20(**overrides) -> ResNet:
    """n = 3; 269,722 parameters with 10 classes. 32x32 -> [b 64 64]."""
    return _cifar(3, overrides)


def cifar_resnet32(**overrides) -> ResNet:
    """n = 5; 464,154 parameters with 10 classes."""
    return _cifar(5, overrides)


def cifar_resnet44(**overrides) -> ResNet:
    """n = 7; 658,586 parameters with 10 classes."""
    return _cifar(7, overrides)


def cifar_resnet56(**overrides) -> ResNet:
    """n = 9; 853,018 parameters with 10 classes."""
    return _cifar(9, overrides)


def cifar_resnet110(**overrides) -> ResNet:
    """n = 18; 1,727,962 parameters with 10 classes."""
    return _cifar(18, overrides)


def _imagenet(block, stage_sizes: tuple[int, ...], overrides) -> ResNet:
    fields = {
        "block": block,
        "stage_sizes": stage_sizes,
        "stem": ImageNetStem,
        "shortcut": ProjectionShortcut,
    }
    return ResNet(**fields | overrides)


def _cifar(n: int, overrides) -> ResNet:
    fields = {
        "block": BasicBlock,
        "stage_sizes": (n, n, n),
        "widths": (16, 32, 64),
        "stem": CifarStem,
        "shortcut": PaddedShortcut,
    }
    return ResNet(**fields | overrides)
