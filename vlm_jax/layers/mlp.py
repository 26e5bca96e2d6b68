"""Feed-forward blocks."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class Mlp(nn.Module, kw_only=True):
    """Two linear layers round an activation, back to the width of the input (or `width`)."""

    hidden: int
    width: int | None = None
    activation: Callable = nn.gelu
    dropout_rate: float = 0.0
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *n d"], *, train: bool) -> Float[Array, "b *n d"]:
        width = x.shape[-1] if self.width is None else self.width
        form = {"use_bias": self.use_bias, "dtype": self.dtype}
        x = nn.Dense(self.hidden, **form, name="hidden_layer")(x)
        x = self.activation(x)
        x = nn.Dropout(self.dropout_rate)(x, deterministic=not train)
        x = nn.Dense(width, **form, name="output_layer")(x)
        return nn.Dropout(self.dropout_rate)(x, deterministic=not train)


class GatedMlp(nn.Module, kw_only=True):
    """activation(x V) * (x W), then linear: SwiGLU with silu (Shazeer 2020, eq. 6). Without biases, as there."""

    hidden: int
    width: int | None = None
    activation: Callable = nn.silu
    dropout_rate: float = 0.0
    use_bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *n d"], *, train: bool) -> Float[Array, "b *n d"]:
        width = x.shape[-1] if self.width is None else self.width
        form = {"use_bias": self.use_bias, "dtype": self.dtype}
        gate = nn.Dense(self.hidden, **form, name="gate")(x)
        value = nn.Dense(self.hidden, **form, name="hidden_layer")(x)
        x = self.activation(gate) * value
        x = nn.Dropout(self.dropout_rate)(x, deterministic=not train)
        return nn.Dense(width, **form, name="output_layer")(x)
