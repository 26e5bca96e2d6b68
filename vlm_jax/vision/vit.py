"""Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), with its common variations."""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vlm_jax.layers.attention import MultiHeadAttention
from vlm_jax.layers.mlp import Mlp
from vlm_jax.layers.norm import LayerNorm, Norm
from vlm_jax.layers.positions import resize_grid, sinusoidal_grid
from vlm_jax.types import Features


class LearnedGrid(nn.Module, kw_only=True):
    """Adds a learned vector to each place; a grid of another size gets them interpolated.

    Vectors: [class token, row 0 column 0, row 0 column 1, ...]; the class token's is never resized.
    """

    grid: tuple[int, int]
    num_extra: int  # tokens before the grid
    stddev: float = 0.02
    method: Literal["bicubic", "bilinear"] = "bicubic"

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "b n d"], grid: tuple[int, int]
    ) -> Float[Array, "b n d"]:
        number = self.num_extra + self.grid[0] * self.grid[1]
        shape = (number, tokens.shape[-1])
        positions = self.param("positions", nn.initializers.normal(self.stddev), shape)
        extra, places = positions[: self.num_extra], positions[self.num_extra :]
        places = resize_grid(places, self.grid, grid, self.method)
        return tokens + jnp.concatenate([extra, places]).astype(tokens.dtype)


class BilinearGrid(LearnedGrid, kw_only=True):
    """The same, antialiased where it shrinks: for pictures of every shape (Tschannen et al. 2025, arXiv 2502.14786)."""

    method: Literal["bicubic", "bilinear"] = "bilinear"


class SinusoidalGrid(nn.Module, kw_only=True):
    """Adds fixed sines of row and column to each place of the grid; nothing to the class token."""

    grid: tuple[int, int]
    num_extra: int

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "b n d"], grid: tuple[int, int]
    ) -> Float[Array, "b n d"]:
        places = sinusoidal_grid(*grid, features=tokens.shape[-1])
        return tokens + jnp.pad(places, ((self.num_extra, 0), (0, 0))).astype(tokens.dtype)


class Vit(nn.Module, kw_only=True):
    """An image to a vector for each patch: 224x224 in patches of 16 -> [b 196 width].

    With `class_token` the logits are read from an extra first token, which is not part of the
    Features unless `keep_class_token`; without, from the mean over the patches (Beyer et al. 2022).
    """

    width: int
    num_layers: int
    num_heads: int
    hidden: int
    patch_size: int = 16
    image_size: tuple[int, int] = (224, 224)  # that the positions are made for; others interpolate
    class_token: bool = True
    keep_class_token: bool = False  # as the first of the Features
    drop_rest: bool = False  # what is left of a picture, at the right and below
    positions: Callable[..., nn.Module] = LearnedGrid  # or SinusoidalGrid
    num_classes: int | None = None
    dropout_rate: float = 0.0
    activation: Callable = nn.gelu
    norm: Norm = LayerNorm()
    patch_bias: bool = True
    norm_first: bool = False  # a norm of the patches and positions, before the first block (CLIP)
    norm_last: bool = True
    dtype: Any = jnp.float32

    def __call__(self, image: Float[Array, "b h w c"], *, train: bool) -> Features:
        first = int(self.class_token and not self.keep_class_token)
        values = self.encode(image, train=train)[:, first:]
        return Features(values=values, mask=jnp.ones(values.shape[:2], bool))

    def logits(self, image: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b k"]:
        """Scores of the `num_classes` classes."""
        tokens = self.encode(image, train=train)
        pooled = tokens[:, 0] if self.class_token else tokens.mean(axis=1)
        return self.head(pooled).astype(jnp.float32)

    def setup(self):
        if self.num_classes is not None:
            self.head = nn.Dense(self.num_classes, dtype=self.dtype)

    def _whole_patches(self, image: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        (height, width), size = image.shape[1:3], self.patch_size
        if (height % size or width % size) and not self.drop_rest:
            raise ValueError(
                f"Vit with patch_size={size} was given a {height}x{width} image; expected both to be multiples of {size}. "
                "Try Resize in the data pipeline, or drop_rest=True."
            )
        return image[:, : height - height % size, : width - width % size]

    @nn.compact
    def encode(self, image: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b n d"]:
        """All tokens after the last norm, unless there is none, the class token first where there is one."""
        x = nn.Conv(
            self.width,
            (self.patch_size, self.patch_size),
            strides=self.patch_size,
            padding="VALID",
            use_bias=self.patch_bias,
            dtype=self.dtype,
            name="patches",
        )(self._whole_patches(image).astype(self.dtype))
        b, h, w, _ = x.shape
        x = x.reshape(b, h * w, self.width)
        if self.class_token:
            token = self.param("class_token", nn.initializers.zeros, (1, 1, self.width))
            token = jnp.broadcast_to(token, (b, 1, self.width)).astype(x.dtype)
            x = jnp.concatenate([token, x], axis=1)  # [b 1+h*w d]
        x = self.positions(
            grid=(self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size),
            num_extra=int(self.class_token),
            name="positions",
        )(x, (h, w))
        if self.norm_first:
            x = self.norm(x, train=train, dtype=self.dtype, name="first_norm")
        x = nn.Dropout(self.dropout_rate)(x, deterministic=not train)
        for i in range(self.num_layers):
            x = Block(
                num_heads=self.num_heads,
                hidden=self.hidden,
                dropout_rate=self.dropout_rate,
                activation=self.activation,
                norm=self.norm,
                dtype=self.dtype,
                name=f"block_{i}",
            )(x, train=train)
        return self.norm(x, train=train, dtype=self.dtype, name="norm") if self.norm_last else x


class Block(nn.Module, kw_only=True):
    """x + attention(norm(x)), then x + mlp(norm(x)) (eq. 2 and 3)."""

    num_heads: int
    hidden: int
    dropout_rate: float
    activation: Callable
    norm: Norm
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], *, train: bool) -> Float[Array, "b n d"]:
        y = self.norm(x, train=train, dtype=self.dtype, name="attention_norm")
        y = MultiHeadAttention(
            num_heads=self.num_heads,
            width=x.shape[-1],
            dropout_rate=self.dropout_rate,
            dtype=self.dtype,
            name="attention",
        )(y, y, None, train=train)
        x = x + nn.Dropout(self.dropout_rate)(y, deterministic=not train)
        y = self.norm(x, train=train, dtype=self.dtype, name="mlp_norm")
        y = Mlp(
            hidden=self.hidden,
            activation=self.activation,
            dropout_rate=self.dropout_rate,
            dtype=self.dtype,
            name="mlp",
        )(y, train=train)
        return x + y


def vit_tiny_16(**overrides) -> Vit:
    """Ti/16 (Touvron et al. 2021): 5,717,416 parameters with 1000 classes."""
    return _vit(192, 12, 3, overrides)


def vit_small_16(**overrides) -> Vit:
    """S/16 (Touvron et al. 2021): 22,050,664 parameters with 1000 classes."""
    return _vit(384, 12, 6, overrides)


def vit_base_16(**overrides) -> Vit:
    """B/16 (table 1): 86,567,656 parameters with 1000 classes."""
    return _vit(768, 12, 12, overrides)


def _vit(width: int, num_layers: int, num_heads: int, overrides) -> Vit:
    fields = {
        "width": width,
        "num_layers": num_layers,
        "num_heads": num_heads,
        "hidden": 4 * width,
    }
    return Vit(**fields | overrides)
