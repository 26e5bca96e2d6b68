"""A time, and the scales and shifts that a vector gives the features of a layer."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vlm_jax.layers.mlp import Mlp
from vlm_jax.layers.positions import sinusoidal

TIME_SCALE = 1000.0  # times from 0 to 1 as positions: the steps of Ho et al. 2020


class TimeEmbedding(nn.Module, kw_only=True):
    """Sines of 1000 t, then an MLP (Peebles and Xie 2023, section 3.2): Float[b] in [0, 1] -> [b width]."""

    width: int
    num_sines: int = 128
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, time: Float[Array, "b"]) -> Float[Array, "b d"]:
        sines = sinusoidal(TIME_SCALE * time, width=self.num_sines).astype(self.dtype)
        fields = {"hidden": self.width, "width": self.width, "activation": nn.silu}
        return Mlp(**fields, dtype=self.dtype, name="mlp")(sines, train=False)


class Modulation(nn.Module, kw_only=True):
    """`number` vectors for the features of a layer from one that says what they depend on: [b e] -> number times [b d].

    A linear layer after a silu, all zero at first (adaLN-Zero, Peebles and Xie 2023, section 3.2).
    """

    number: int
    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, condition: Float[Array, "b e"]) -> list[Float[Array, "b d"]]:
        values = nn.Dense(
            self.number * self.features,
            kernel_init=nn.initializers.zeros,
            dtype=self.dtype,
            name="linear",
        )(nn.silu(condition))
        return jnp.split(values, self.number, axis=-1)


def modulate(
    x: Float[Array, "b *n d"], shift: Float[Array, "b d"], scale: Float[Array, "b d"]
) -> Float[Array, "b *n d"]:
    """(1 + scale) x + shift, at all places of a row alike."""
    places = tuple(range(1, x.ndim - 1))
    return x * (1 + jnp.expand_dims(scale, places)) + jnp.expand_dims(shift, places)
