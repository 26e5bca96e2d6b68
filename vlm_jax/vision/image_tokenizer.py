"""Pictures <-> a grid of codes: an encoder, a quantiser, a decoder. What text-to-image models write instead of words.

    picture [h w c] -> encoder -> vectors [8 8 d] -> quantiser -> codes [64] -> decoder -> picture

van den Oord et al. 2017 (VQ-VAE, arXiv 1711.00937); which quantiser it is is a field.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vlm_jax.layers.convolution import Conv, flatten_grid
from vlm_jax.layers.norm import LayerNorm, Norm
from vlm_jax.types import Batch, Features


@flax.struct.dataclass
class Reconstructed:
    """Pictures made again of their codes."""

    images: Array  # Float[b h w c], on the scale of batch["image"]
    codes: Array  # Int[b n]


class ImageTokenizer(nn.Module, kw_only=True):
    """batch["image"] -> Reconstructed; `encode` and `decode` are its halves.

    `encoder` gives a grid [b gh gw d], `decoder` takes one; both are of `grid` places. What the quantiser asks to be
    minimised is sown a row [b] in "losses". Codes are written row by row, or column by column where `by_columns`,
    with the same parameters:

        [[a b] [c d]] -> a b c d, or a c b d
    """

    encoder: nn.Module
    decoder: nn.Module
    quantiser: nn.Module
    grid: tuple[int, int] = (8, 8)
    by_columns: bool = False

    def setup(self):
        self.projection = nn.Dense(self.quantiser.width)

    def __call__(self, batch: Batch, *, train: bool) -> Reconstructed:
        quantised = self.quantiser(
            self._vectors(batch["image"], train=train), valid=batch["valid"], train=train
        )
        if not self.is_initializing():
            self.sow("losses", "commitment", quantised.commitment)
        images = self._pictures(quantised.values, train=train)
        return Reconstructed(images=images, codes=quantised.codes)

    def encode(self, image: Float[Array, "b h w c"]) -> Int[Array, "b n"]:
        """The codes of pictures, in the order of writing."""
        return self.quantiser(self._vectors(image, train=False), train=False).codes

    def decode(self, codes: Int[Array, "b n"]) -> Float[Array, "b h w c"]:
        """The pictures of codes; reads neither encoder nor projection."""
        return self._pictures(self.quantiser.lookup(codes), train=False)

    @property
    def num_places(self) -> int:
        return math.prod(self.grid)

    def _vectors(self, image, *, train):
        grid = self.encoder(image, train=train)
        if grid.shape[1:3] != self.grid:
            raise ValueError(
                f"ImageTokenizer(grid={self.grid}) was given pictures of {image.shape[1:3]}, of which its encoder "
                f"makes {grid.shape[1:3]} places; resize the pictures, or change encoder.features, patch or grid"
            )
        values = self.projection(grid)
        return flatten_grid(values.swapaxes(1, 2) if self.by_columns else values).values

    def _pictures(self, values, *, train):
        shape = self.grid[::-1] if self.by_columns else self.grid
        values = values.reshape(-1, *shape, values.shape[-1])
        return self.decoder(values.swapaxes(1, 2) if self.by_columns else values, train=train)


class CodesOf(nn.Module, kw_only=True):
    """The codes of pictures as Features [b n 1], for `data.encoded.Encoded(dtype="int32")`."""

    tokenizer: ImageTokenizer

    def __call__(self, image: Float[Array, "b h w c"], *, train: bool) -> Features:
        if self.is_initializing():
            self.tokenizer({"image": image, "valid": jnp.ones(image.shape[0], bool)}, train=False)
        codes = self.tokenizer.encode(image)
        return Features(values=codes[..., None], mask=jnp.ones(codes.shape, bool))


class PictureEncoder(nn.Module, kw_only=True):
    """[b h w c] -> [b h/s w/s features[-1]], s = patch * 2^(len(features) - 1).

    Patches of `patch` x `patch` pixels, then a convolution that halves the grid for each further width; at each width
    `num_blocks` residual blocks.
    """

    features: tuple[int, ...] = (64, 128)
    patch: int = 4
    num_blocks: int = 1
    norm: Norm = LayerNorm()
    activation: Callable = nn.silu
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b gh gw d"]:
        x = image.astype(self.dtype)
        for i, width in enumerate(self.features):
            size, stride = (self.patch, self.patch) if i == 0 else (3, 2)
            x = Conv(width, (size, size), strides=stride, dtype=self.dtype, name=f"down_{i}")(x)
            for j in range(self.num_blocks):
                x = _block(self, width, f"block_{i}_{j}")(x, train=train)
        return self.activation(self.norm(x, train=train, dtype=self.dtype, name="norm"))


class PictureDecoder(nn.Module, kw_only=True):
    """[b gh gw d] -> [b h w channels], the way of `PictureEncoder` back: each place is spread over its 2 x 2 places by a
    matrix of its own for each, and last over its pixels."""

    features: tuple[int, ...] = (64, 128)
    patch: int = 4
    num_blocks: int = 1
    channels: int = 3
    norm: Norm = LayerNorm()
    activation: Callable = nn.silu
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, grid: Float[Array, "b gh gw d"], *, train: bool) -> Float[Array, "b h w c"]:
        x = Conv(self.features[-1], (3, 3), dtype=self.dtype, name="conv")(grid.astype(self.dtype))
        for i, width in reversed(list(enumerate(self.features))):
            if i < len(self.features) - 1:
                x = nn.Dense(4 * width, dtype=self.dtype, name=f"up_{i}")(x)
                x = spread(x, 2)
            for j in range(self.num_blocks):
                x = _block(self, width, f"block_{i}_{j}")(x, train=train)
        x = self.activation(self.norm(x, train=train, dtype=self.dtype, name="norm"))
        x = nn.Dense(
            self.patch**2 * self.channels,
            # From zero: what it would draw of codes that mean nothing yet teaches the decoder to leave them out.
            kernel_init=nn.initializers.zeros,
            dtype=self.dtype,
            name="pixels",
        )(x)
        return spread(x, self.patch).astype(jnp.float32)


class ResidualBlock(nn.Module, kw_only=True):
    """x + conv(act(norm(conv(act(norm(x)))))), both convolutions 3x3."""

    features: int
    norm: Norm
    activation: Callable
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"], *, train: bool) -> Float[Array, "b h w d"]:
        y = x
        for i in range(2):
            y = self.activation(self.norm(y, train=train, dtype=self.dtype, name=f"norm_{i}"))
            y = Conv(self.features, (3, 3), dtype=self.dtype, name=f"conv_{i}")(y)
        return x + y


def spread(x: Float[Array, "b h w d"], size: int) -> Float[Array, "b h*s w*s e"]:
    """Each vector laid out over size x size places: depth to space (Shi et al. 2016, section 3.2).

    [1 1 1 4] holding (a, b, c, d), size 2 -> the rows (a, b) and (c, d)
    """
    b, h, w, d = x.shape
    x = x.reshape(b, h, w, size, size, d // size**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * size, w * size, -1)


def _block(module: Any, width: int, name: str) -> ResidualBlock:
    return ResidualBlock(
        features=width,
        norm=module.norm,
        activation=module.activation,
        dtype=module.dtype,
        name=name,
    )
