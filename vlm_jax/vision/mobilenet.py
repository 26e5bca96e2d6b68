"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381), table 2."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vlm_jax.layers.convolution import ConvNorm, flatten_grid
from vlm_jax.layers.norm import BatchNorm, NoNorm, Norm
from vlm_jax.types import Features

# Table 2, a row a stage: n blocks of c channels, expanded t times; the first has stride s.
STAGES = (
    # t, c, n, s
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class MobileNetV2(nn.Module, kw_only=True):
    """An image to its grid of features, 32 times smaller: 224x224 -> [b 49 1280].

    With `norm=NoNorm()` each convolution carries a bias: the form of weights whose BatchNorm was
    folded into the convolutions. Padding is TensorFlow's SAME, as in the published weights.
    """

    stages: tuple[tuple[int, int, int, int], ...] = STAGES
    stem_width: int = 32
    width: int = 1280
    num_classes: int | None = None
    dropout_rate: float = 0.2  # before the classifier, as in the official slim code
    norm: Norm = BatchNorm()
    dtype: Any = jnp.float32

    def __call__(self, image: Float[Array, "b h w c"], *, train: bool) -> Features:
        return flatten_grid(self.grid(image, train=train))

    def logits(self, image: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b k"]:
        """Scores of the `num_classes` classes: mean over the grid, dropout, linear."""
        pooled = self.grid(image, train=train).mean(axis=(1, 2))
        pooled = self.dropout(pooled, deterministic=not train)
        return self.head(pooled).astype(jnp.float32)

    def setup(self):
        if self.num_classes is not None:
            self.dropout = nn.Dropout(self.dropout_rate)
            self.head = nn.Dense(self.num_classes, dtype=self.dtype)

    @nn.compact
    def grid(self, image: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w d"]:
        """The last convolution's output, before it is flattened or pooled."""
        block_index = 0
        x = ConvNorm(
            features=self.stem_width, strides=2, norm=self.norm, dtype=self.dtype, name="stem"
        )(image.astype(self.dtype), train=train)
        x = nn.relu6(x)
        for expansion, width, num_blocks, stride in self.stages:
            for i in range(num_blocks):
                x = InvertedResidual(
                    width=width,
                    expansion=expansion,
                    stride=stride if i == 0 else 1,
                    norm=self.norm,
                    dtype=self.dtype,
                    name=f"block_{block_index}",
                )(x, train=train)
                block_index += 1
        x = ConvNorm(
            features=self.width, kernel_size=1, norm=self.norm, dtype=self.dtype, name="last"
        )(x, train=train)
        return nn.relu6(x)


def mobilenet_v2(**overrides) -> MobileNetV2:
    """Width multiplier 1.0, to be trained from scratch: 3,504,872 parameters with 1000 classes."""
    return MobileNetV2(**overrides)


def mobilenet_v2_folded(**overrides) -> MobileNetV2:
    """The same without BatchNorm, each convolution with a bias: what the published weights fill."""
    return MobileNetV2(**{"norm": NoNorm()} | overrides)


class InvertedResidual(nn.Module, kw_only=True):
    """Widen (1x1), filter each channel (3x3), narrow linearly (1x1); add where shapes agree."""

    width: int
    expansion: int
    stride: int
    norm: Norm
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        settings = {"norm": self.norm, "dtype": self.dtype}
        hidden = x.shape[-1] * self.expansion
        y = x
        if self.expansion != 1:
            y = ConvNorm(features=hidden, kernel_size=1, name="expand", **settings)(y, train=train)
            y = nn.relu6(y)
        y = ConvNorm(
            features=hidden, strides=self.stride, groups=hidden, name="depthwise", **settings
        )(y, train=train)
        y = nn.relu6(y)
        y = ConvNorm(features=self.width, kernel_size=1, name="project", **settings)(y, train=train)
        return x + y if x.shape == y.shape else y
