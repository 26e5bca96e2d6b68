"""The text says how each feature of the image is scaled and shifted."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vlm_jax.layers.convolution import Conv, ConvNorm
from vlm_jax.layers.norm import BatchNorm, Norm, PlainBatchNorm
from vlm_jax.layers.pooling import cleared, pool
from vlm_jax.types import Features


class Film(nn.Module, kw_only=True):
    """The image's places [b n width] after Perez et al. 2018 (arXiv 1709.07871, eq. 1 and 2, figure 3).

        image -> 3x3 convolution, norm, relu -> num_blocks times FilmBlock -> places

    gamma and beta of all blocks come from the text, pooled to one vector, by one linear layer; gamma is 1 + what
    that layer says (section 7.2). Before each block, and before the first convolution, stand the two coordinates of
    a place, from -1 to 1. With `output_width` a 1x1 convolution with norm and relu follows, which the paper counts to
    the classifier, and max_pool is how it goes on there. The paper's text vector is a GRU's last state:
    `text_pooling=last_pool`.

    The image's places are a grid row by row, `grid` its (height, width); None: a square. Places that are padding count
    as zeros, like what lies beyond the border; a batch's statistics in training know no padding, though.
    """

    width: int = 128
    num_blocks: int = 4
    output_width: int | None = None  # 512 in the paper
    grid: tuple[int, int] | None = None
    text_pooling: Callable[[Features], Array] = pool
    norm: Norm = BatchNorm()
    block_norm: Norm = PlainBatchNorm()  # before FiLM, which is its scale and bias
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Features | None, text: Features | None, *, train: bool) -> Features:
        if image is None or text is None:
            return image if text is None else text
        b, n, d = image.values.shape
        height, width = _sides(n, self.grid)
        kept = image.mask.reshape(b, height, width, 1)
        places = jnp.broadcast_to(coordinates(height, width), (b, height, width, 2))

        def placed(x):
            return jnp.concatenate([x, places.astype(x.dtype)], axis=-1) * kept

        question = self.text_pooling(text).astype(self.dtype)
        modulation = nn.Dense(2 * self.num_blocks * self.width, dtype=self.dtype, name="film")
        modulation = modulation(question).reshape(b, self.num_blocks, 2, 1, 1, self.width)

        def convolution(width, kernel_size, name):
            fields = dict(features=width, kernel_size=kernel_size, norm=self.norm)
            return ConvNorm(**fields, dtype=self.dtype, name=name)

        x = cleared(image).astype(self.dtype).reshape(b, height, width, d)
        x = nn.relu(convolution(self.width, 3, "stem")(placed(x), train=train)) * kept
        for i in range(self.num_blocks):
            block = FilmBlock(
                width=self.width, norm=self.block_norm, dtype=self.dtype, name=f"block_{i}"
            )
            gamma, beta = 1 + modulation[:, i, 0], modulation[:, i, 1]
            x = block(placed(x), kept, gamma, beta, train=train)
        if self.output_width is not None:
            x = nn.relu(convolution(self.output_width, 1, "output")(placed(x), train=train))
        return Features(values=x.reshape(b, n, x.shape[-1]), mask=image.mask)


class FilmBlock(nn.Module, kw_only=True):
    """y = relu(1x1 convolution of x), then y + relu(film(norm(3x3 convolution of y)))."""

    width: int
    norm: Norm
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        kept: Bool[Array, "b h w 1"],
        gamma: Float[Array, "b 1 1 d"],
        beta: Float[Array, "b 1 1 d"],
        *,
        train: bool,
    ) -> Float[Array, "b h w d"]:
        y = nn.relu(Conv(self.width, (1, 1), dtype=self.dtype, name="pointwise")(x)) * kept
        z = Conv(self.width, (3, 3), use_bias=False, dtype=self.dtype, name="conv")(y)
        z = self.norm(z, train=train, dtype=self.dtype, name="norm")
        return y + nn.relu(film(z, gamma, beta)) * kept


def film(
    x: Float[Array, "b *n d"], gamma: Float[Array, "b *#n d"], beta: Float[Array, "b *#n d"]
) -> Float[Array, "b *n d"]:
    """gamma * x + beta, feature by feature (eq. 2)."""
    return gamma * x + beta


def coordinates(height: int, width: int) -> Float[Array, "h w 2"]:
    """(column, row) of each place, from -1 at the left and the top to 1 at the right and the bottom."""
    columns, rows = jnp.meshgrid(jnp.linspace(-1, 1, width), jnp.linspace(-1, 1, height))
    return jnp.stack([columns, rows], axis=-1)


def _sides(num_places: int, grid: tuple[int, int] | None) -> tuple[int, int]:
    side = math.isqrt(num_places)
    height, width = grid or (side, side)
    if height * width != num_places:
        expected = "a square number" if grid is None else f"{height} * {width} of them"
        raise ValueError(
            f"Film was given {num_places} places, expected {expected}. Try grid=(rows, columns) of the image encoder"
        )
    return height, width
