"""VGG (Simonyan and Zisserman 2015, arXiv:1409.1556), table 1: columns A, D and E."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vlm_jax.layers.convolution import Conv, flatten_grid
from vlm_jax.layers.norm import BatchNorm, NoNorm, Norm
from vlm_jax.types import Features


class Vgg(nn.Module, kw_only=True):
    """An image to the grid after its last 3x3 convolution or its last pooling.

    224x224 -> [b 49 512]; with `last_pool=False`, [b 196 512], which is what Show, Attend and Tell
    looks at. The classifier is the paper's: two layers of `hidden` units, dropout after each.
    """

    widths: tuple[tuple[int, ...], ...]  # of the convolutions between two poolings
    last_pool: bool = True
    hidden: int = 4096
    num_classes: int | None = None
    dropout_rate: float = 0.5
    norm: Norm = NoNorm()
    dtype: Any = jnp.float32

    def __call__(self, image: Float[Array, "b h w c"], *, train: bool) -> Features:
        grid = self.grid(image, train=train)
        return flatten_grid(nn.max_pool(grid, (2, 2), strides=(2, 2)) if self.last_pool else grid)

    def logits(self, image: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b k"]:
        """Scores of the `num_classes` classes. The first layer fixes the size of the image."""
        x = nn.max_pool(self.grid(image, train=train), (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)  # [b h*w*c]
        for layer in self.hidden_layers:
            x = self.dropout(nn.relu(layer(x)), deterministic=not train)
        return self.head(x).astype(jnp.float32)

    def setup(self):
        if self.num_classes is not None:
            self.hidden_layers = [nn.Dense(self.hidden, dtype=self.dtype) for _ in range(2)]
            self.dropout = nn.Dropout(self.dropout_rate)
            self.head = nn.Dense(self.num_classes, dtype=self.dtype)

    @nn.compact
    def grid(self, image: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w d"]:
        """The last convolution's output, before the last pooling."""
        x = image.astype(self.dtype)
        for i, stage in enumerate(self.widths):
            if i > 0:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            for j, width in enumerate(stage):
                # A bias also before a norm, as the published batch-norm variants have it.
                x = Conv(width, (3, 3), dtype=self.dtype, name=f"conv_{i}_{j}")(x)
                x = self.norm(x, train=train, dtype=self.dtype, name=f"norm_{i}_{j}")
                x = nn.relu(x)
        return x


def vgg11(**overrides) -> Vgg:
    """Column A: 132,863,336 parameters with 1000 classes."""
    widths = ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2)
    return Vgg(**{"widths": widths} | overrides)


def vgg16(**overrides) -> Vgg:
    """Column D: 138,357,544 parameters with 1000 classes."""
    widths = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
    return Vgg(**{"widths": widths} | overrides)


def vgg19(**overrides) -> Vgg:
    """Column E: 143,667,240 parameters with 1000 classes."""
    widths = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)
    return Vgg(**{"widths": widths} | overrides)


def vgg11_batch_norm(**overrides) -> Vgg:
    """VGG-11 with BatchNorm after each convolution."""
    return vgg11(**{"norm": BatchNorm()} | overrides)


def vgg16_batch_norm(**overrides) -> Vgg:
    """VGG-16 with BatchNorm after each convolution."""
    return vgg16(**{"norm": BatchNorm()} | overrides)


def vgg19_batch_norm(**overrides) -> Vgg:
    """VGG-19 with BatchNorm after each convolution."""
    return vgg19(**{"norm": BatchNorm()} | overrides)
