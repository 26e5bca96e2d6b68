"""Where a token or a patch stands: sinusoidal, learned, rotary and relative positions."""

import dataclasses
import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def sinusoidal(
    positions: Float[Array, "*l"] | Int[Array, "*l"], *, width: int, base: float = 10000.0
) -> Float[Array, "*l d"]:
    """Vaswani et al. 2017, section 3.5: [sin(p w_0), cos(p w_0), sin(p w_1), ...].

    w_i = base^(-2i / width). Positions are given as numbers, so that a decoder may ask for one.
    """
    if width % 2:
        raise ValueError(f"sinusoidal positions were given width={width}; expected an even width.")
    angles = positions[..., None] * _frequencies(width // 2, base)
    both = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)  # [*l d/2 2]
    return both.reshape(*angles.shape[:-1], width)


def sinusoidal_grid(
    height: int, width: int, *, features: int, base: float = 10000.0
) -> Float[Array, "h*w d"]:
    """One half tells the row, the other the column, as Beyer et al. 2022 (arXiv:2205.01580) do."""
    if features % 4:
        raise ValueError(
            f"A grid's positions were given {features} features; expected 4 to divide."
        )
    rows = sinusoidal(jnp.arange(height), width=features // 2, base=base)
    columns = sinusoidal(jnp.arange(width), width=features // 2, base=base)
    grid = jnp.concatenate(
        [
            jnp.broadcast_to(rows[:, None], (height, width, features // 2)),
            jnp.broadcast_to(columns[None], (height, width, features // 2)),
        ],
        axis=-1,
    )
    return grid.reshape(height * width, features)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Llama3Scaling:
    """Angles of long waves divided by `factor`, of short ones left alone, between them a mixture, so that a model reads
    longer texts than it was made for (Dubey et al. 2024, arXiv 2407.21783, section 3.4; the rule is that of the published
    weights). A wave is long above `original_length` / `low` positions, and short below `original_length` / `high`."""

    factor: float
    original_length: int
    low: float = 1.0
    high: float = 4.0

    def __call__(self, frequencies: Float[Array, "n"]) -> Float[Array, "n"]:
        turns = self.original_length * frequencies / (2 * math.pi)
        share = jnp.clip((turns - self.low) / (self.high - self.low), 0, 1)
        return frequencies * (share + (1 - share) / self.factor)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotary:
    """Su et al. 2021, eq. 34, as an attention's field. Positions are divided by `factor` (Chen et al. 2023, arXiv
    2306.15595), or `scaling` changes the frequencies."""

    base: float = 10000.0
    factor: float = 1.0
    scaling: Llama3Scaling | None = None

    def frequencies(self, number: int) -> Float[Array, "number"]:
        frequencies = _frequencies(number, self.base) / self.factor
        return frequencies if self.scaling is None else self.scaling(frequencies)


def rotary(
    x: Float[Array, "b l i d"],
    positions: Int[Array, "b l"],
    *,
    form: Rotary | None = None,
) -> Float[Array, "b l i d"]:
    """Su et al. 2021, eq. 34: each pair (x_j, x_{j + d/2}) turned by the angle p base^(-2j / d).

    The pairing is GPT-NeoX's (halves), which Llama's published weights use. The product of a
    rotated query and a rotated key depends on the difference of their positions only.
    """
    if x.shape[-1] % 2:
        raise ValueError(f"rotary was given head width {x.shape[-1]}; expected an even one.")
    form = form or Rotary()
    angles = positions[..., None, None] * form.frequencies(x.shape[-1] // 2)  # [b l 1 d/2]
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


class RelativePositions(nn.Module, kw_only=True):
    """A number for every head and every bucket of distances, added to the scores of attention (Raffel et al. 2020, arXiv
    1910.10683, section 2.1): Int[b q], Int[n] -> Float[b i q n].

    The first half of the buckets are the distances 0, 1, 2, ...; the others grow like a logarithm up to `max_distance`,
    which shares the last one with all beyond. Where the text is read in both directions each direction has half of them;
    where it is `causal` what comes after is in bucket 0.
    """

    num_heads: int
    num_buckets: int = 32
    max_distance: int = 128
    causal: bool = False

    @nn.compact
    def __call__(
        self, queries: Int[Array, "b q"], keys: Int[Array, "n"]
    ) -> Float[Array, "b i q n"]:
        shape = (self.num_buckets, self.num_heads)
        table = self.param("table", nn.initializers.normal(0.02), shape)
        values = table[self._bucket(keys[None, None, :] - queries[:, :, None])]
        return jnp.moveaxis(values, -1, 1)

    def _bucket(self, distance: Int[Array, "b q n"]) -> Int[Array, "b q n"]:
        number, start = self.num_buckets, 0
        if self.causal:
            distance = jnp.maximum(-distance, 0)
        else:
            number //= 2
            start = jnp.where(distance > 0, number, 0)
            distance = jnp.abs(distance)
        exact = number // 2
        ratio = jnp.log(jnp.maximum(distance, 1) / exact) / math.log(self.max_distance / exact)
        far = jnp.minimum(exact + (ratio * (number - exact)).astype(jnp.int32), number - 1)
        return start + jnp.where(distance < exact, distance, far)


class LearnedPositions(nn.Module, kw_only=True):
    """A table with a row for each position: Int[*l] -> Float[*l width]."""

    max_length: int
    width: int
    stddev: float = 0.02

    @nn.compact
    def __call__(self, positions: Int[Array, "*l"]) -> Float[Array, "*l d"]:
        table = self.param(
            "table", nn.initializers.normal(self.stddev), (self.max_length, self.width)
        )
        if positions.shape and positions.shape[-1] > self.max_length:
            raise ValueError(
                f"{positions.shape[-1]} positions were asked of a table of {self.max_length}; "
                "try a larger max_length."
            )
        # Beyond the table the row is NaN: better seen than the last row, which JAX would give.
        return table.at[positions].get(mode="fill", fill_value=jnp.nan)


def resize_grid(
    positions: Float[Array, "n d"],
    old: tuple[int, int],
    new: tuple[int, int],
    method: Literal["bicubic", "bilinear"] = "bicubic",
) -> Float[Array, "m d"]:
    """A grid of position vectors, row by row, interpolated to another size; bilinear is antialiased.

    The same size gives the same numbers, exactly. Bicubic is Keys 1981's kernel with a = -3/4, the border repeated beyond
    it: how PyTorch interpolates, with which published models were resized (jax.image.resize has a = -1/2).
    """
    if old == new:
        return positions
    grid = positions.reshape(*old, positions.shape[-1])
    if method == "bilinear":
        grid = jax.image.resize(grid, (*new, grid.shape[-1]), method="linear", antialias=True)
    else:
        rows, columns = (_cubic(a, b).astype(grid.dtype) for a, b in zip(old, new))
        grid = jnp.einsum("ar,bc,rcd->abd", rows, columns, grid, precision="highest")
    return grid.reshape(-1, grid.shape[-1])


def _cubic(old: int, new: int, a: float = -0.75) -> np.ndarray:
    """What each of the `old` places gives to each of the `new`: Float[new old]; rows sum to one."""
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.zeros((new, old))
    for step in (-1, 0, 1, 2):
        place = np.floor(centres).astype(int) + step
        x = np.abs(centres - place)
        near = ((a + 2) * x - (a + 3)) * x**2 + 1
        far = a * (((x - 5) * x + 8) * x - 4)
        np.add.at(
            weights, (np.arange(new), np.clip(place, 0, old - 1)), np.where(x <= 1, near, far)
        )
    return weights


def _frequencies(number: int, base: float) -> Float[Array, "number"]:
    return base ** -(jnp.arange(number) / number)
