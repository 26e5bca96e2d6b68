"""RNN, GRU and LSTM over time: masked, stacked, in one direction or both.

A cell is a description (a frozen dataclass) of one step's equations; `RecurrentLayer` holds the weights.
The products with the input are taken for all times at once, before the loop, and the gradient of the recurrent
weights for all times at once, after it: the loop itself has one small product a step and direction.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from vlm_jax.types import Features

CellState = tuple[Array, ...]  # each Float[b d]; the first is the output h
Dot = Callable[[int, Array], Array]  # dot(j, x) = x @ kernels[j]


class Cell(Protocol):
    """One step. `inputs` [b num_gates*d] already holds W x + b of every gate, side by side."""

    num_gates: int
    num_states: int
    kernel_gates: tuple[int, ...]  # the recurrent kernels [d gates*d], by their number of gates

    def __call__(
        self, inputs: Float[Array, "b gd"], state: CellState, dot: Dot
    ) -> CellState: ...

    def bias(self, width: int) -> Float[Array, "gd"]:
        """What the bias is initialised to."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RNN:
    """h' = f(W x + U h + b) (Elman 1990); f is tanh unless said."""

    activation: Callable = jnp.tanh
    num_gates = 1
    num_states = 1
    kernel_gates = (1,)

    def __call__(self, inputs, state, dot):
        (h,) = state
        return (self.activation(inputs + dot(0, h)),)

    def bias(self, width):
        return jnp.zeros(width)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GRU:
    """The gated unit of Cho et al. 2014 (arXiv 1406.1078, eq. 5-8), the reset gate before the product.

        r = sigmoid(W_r x + U_r h + b_r)          z = sigmoid(W_z x + U_z h + b_z)
        g = tanh(W x + U (r * h) + b)             h' = z * h + (1 - z) * g

    Gates lie in the order r, z, g. Bahdanau et al. 2014 write 1 - z for our z.
    """

    num_gates = 3
    num_states = 1
    kernel_gates = (2, 1)

    def __call__(self, inputs, state, dot):
        (h,) = state
        width = h.shape[-1]
        r, z = jnp.split(nn.sigmoid(inputs[:, : 2 * width] + dot(0, h)), 2, axis=-1)
        g = jnp.tanh(inputs[:, 2 * width :] + dot(1, r * h))
        return (z * h + (1 - z) * g,)

    def bias(self, width):
        return jnp.zeros(3 * width)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResetAfterGRU:
    """GRU with the reset gate after the product, as in cuDNN: g = tanh(W x + b + r * (U h)).

    One product a step in place of two in a row. Without cuDNN's second bias inside r * (U h + b').
    """

    num_gates = 3
    num_states = 1
    kernel_gates = (3,)

    def __call__(self, inputs, state, dot):
        (h,) = state
        width = h.shape[-1]
        recurrent = dot(0, h)
        gates = inputs[:, : 2 * width] + recurrent[:, : 2 * width]
        r, z = jnp.split(nn.sigmoid(gates), 2, axis=-1)
        g = jnp.tanh(inputs[:, 2 * width :] + r * recurrent[:, 2 * width :])
        return (z * h + (1 - z) * g,)

    def bias(self, width):
        return jnp.zeros(3 * width)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LSTM:
    """Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000, no peepholes.

        i, f, o = sigmoid(W x + U h + b)          g = tanh(W_g x + U_g h + b_g)
        c' = f * c + i * g                        h' = o * tanh(c')

    Gates lie in the order i, f, g, o (torch's). The state is (h, c). The forget gate's bias starts
    at `forget_bias` (Jozefowicz et al. 2015: 1); Zaremba et al. 2014 have 0.
    """

    forget_bias: float = 1.0
    num_gates = 4
    num_states = 2
    kernel_gates = (4,)

    def __call__(self, inputs, state, dot):
        h, c = state
        i, f, g, o = jnp.split(inputs + dot(0, h), 4, axis=-1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        return nn.sigmoid(o) * jnp.tanh(c), c

    def bias(self, width):
        return jnp.zeros(4 * width).at[width : 2 * width].set(self.forget_bias)


class RecurrentLayer(nn.Module, kw_only=True):
    """One layer in one direction. The state is a tuple of [b width], the output h first."""

    cell: Cell
    width: int
    kernel_init: Callable = nn.initializers.glorot_uniform()
    recurrent_init: Callable = nn.initializers.orthogonal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        mask: Bool[Array, "b l"] | None = None,
        state: CellState | None = None,
        *,
        reverse: bool = False,
    ) -> tuple[Float[Array, "b l h"], CellState]:
        """All outputs and the last state. Where the mask is False the state stays as it was.

        `reverse` reads from the last position to the first; outputs keep their places.
        """
        inputs, kernels = self._weights(jnp.swapaxes(x, 0, 1))  # [l b g*h]
        if state is None:
            state = self.initial_state(x.shape[0])
        mask = None if mask is None else jnp.swapaxes(mask, 0, 1)
        outputs, state = unroll(self.cell, reverse, inputs, kernels, state, mask)
        return jnp.swapaxes(outputs, 0, 1), state

    def step(
        self, x: Float[Array, "b d"], state: CellState
    ) -> tuple[Float[Array, "b h"], CellState]:
        """One position of `__call__`, by the same equations."""
        outputs, state = self(x[:, None], None, state)
        return outputs[:, 0], state

    def initial_state(self, batch_size: int) -> CellState:
        return tuple(
            jnp.zeros((batch_size, self.width), self.dtype) for _ in range(self.cell.num_states)
        )

    def _weights(self, x):
        gates = self.cell.num_gates
        kernel = self.param("kernel", self._each(gates, self.kernel_init), (x.shape[-1], gates))
        return kernel
