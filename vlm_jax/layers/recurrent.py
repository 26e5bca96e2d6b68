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

CellState = tuple[Array, ...]  # each Float[b d]; the first is the output h
Dot = Callable[[int, Array], Array]  # dot(j, x) = x @ kernels[j]


class Cell(Protocol):
    """One step. `inputs` [b num_gates*d] already holds W x + b of every gate, side by side."""

    num_gates: int
    num_states: int
    kernel_gates: tuple[int, ...]  # the recurrent kernels [d gates*d], by their number of gates

    def __call__(self, inputs: Float[Array, "b gd"], state: CellState, dot: Dot) -> CellState: ...

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

    Gates lie in the order r, z, g. Bahdanau et al. 2014 write 1 - z for our z. The biases of r and z start at
    `gate_bias`: 0 in the paper, 1 in TensorFlow's cell, which remembers longer at first.
    """

    gate_bias: float = 0.0
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
        return jnp.zeros(3 * width).at[: 2 * width].set(self.gate_bias)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResetAfterGRU:
    """GRU with the reset gate after the product, as in cuDNN: g = tanh(W x + b + r * (U h)).

    One product a step in place of two in a row. Without cuDNN's second bias inside r * (U h + b').
    """

    gate_bias: float = 0.0
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
        return jnp.zeros(3 * width).at[: 2 * width].set(self.gate_bias)


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
        cell, width = self.cell, self.width
        kernel = self.param(
            "kernel", gatewise(self.kernel_init, cell.num_gates), (x.shape[-1], width)
        )
        bias = self.param("bias", lambda key: cell.bias(width))
        kernels = tuple(
            self.param(f"recurrent_kernel_{j}", gatewise(self.recurrent_init, n), (width, width))
            for j, n in enumerate(cell.kernel_gates)
        )
        x, kernel, bias, kernels = jax.tree.map(
            lambda leaf: leaf.astype(self.dtype), (x, kernel, bias, kernels)
        )
        if state is None:
            state = self.initial_state(x.shape[0])
        inputs = jnp.swapaxes(x, 0, 1) @ kernel + bias[None, None]  # [l b gates*width]
        mask = None if mask is None else jnp.swapaxes(mask, 0, 1)
        outputs, state = unroll(_CellStep(cell), reverse, (inputs, mask), kernels, state)
        return jnp.swapaxes(outputs, 0, 1), state

    def initial_state(self, batch_size: int) -> CellState:
        return tuple(
            jnp.zeros((batch_size, self.width), self.dtype) for _ in range(self.cell.num_states)
        )


class RecurrentStack(nn.Module, kw_only=True):
    """Layers in one direction, dropout between them and after the last (Zaremba et al. 2014, eq. 4-6).

    The state has a CellState a layer. With `same_dropout` a row's mask is the same at all times (Gal and Ghahramani
    2016, arXiv 1512.05287, on what goes from layer to layer; not on the state).
    """

    cell: Cell
    width: int
    num_layers: int = 1
    dropout_rate: float = 0.0
    same_dropout: bool = False
    kernel_init: Callable = nn.initializers.glorot_uniform()
    recurrent_init: Callable = nn.initializers.orthogonal()
    dtype: Any = jnp.float32

    def setup(self):
        self.layers = [
            RecurrentLayer(
                cell=self.cell,
                width=self.width,
                kernel_init=self.kernel_init,
                recurrent_init=self.recurrent_init,
                dtype=self.dtype,
            )
            for _ in range(self.num_layers)
        ]
        self.dropout = nn.Dropout(
            self.dropout_rate, broadcast_dims=(1,) if self.same_dropout else ()
        )

    def __call__(
        self,
        x: Float[Array, "b l d"],
        mask: Bool[Array, "b l"] | None = None,
        state: tuple[CellState, ...] | None = None,
        *,
        train: bool,
    ) -> tuple[Float[Array, "b l h"], tuple[CellState, ...]]:
        state = self.initial_state(x.shape[0]) if state is None else state
        after = []
        for layer, before in zip(self.layers, state):
            x, last = layer(x, mask, before)
            x = self.dropout(x, deterministic=not train)
            after.append(last)
        return x, tuple(after)

    def step(
        self, x: Float[Array, "b d"], state: tuple[CellState, ...], *, train: bool = False
    ) -> tuple[Float[Array, "b h"], tuple[CellState, ...]]:
        """One position of `__call__`."""
        outputs, state = self(x[:, None], None, state, train=train)
        return outputs[:, 0], state

    def initial_state(self, batch_size: int) -> tuple[CellState, ...]:
        zeros = jnp.zeros((batch_size, self.width), self.dtype)
        return ((zeros,) * self.cell.num_states,) * self.num_layers


class Bidirectional(nn.Module, kw_only=True):
    """Layers that read in both directions: [b l d] -> [b l 2*width], forward half first.

    Each layer reads both halves of the one below. A padded position has zeros, wherever it stands.
    """

    cell: Cell
    width: int
    num_layers: int = 1
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l d"], mask: Bool[Array, "b l"] | None = None, *, train: bool
    ) -> Float[Array, "b l h2"]:
        for i in range(self.num_layers):
            halves = [
                RecurrentLayer(
                    cell=self.cell, width=self.width, dtype=self.dtype, name=f"{name}_{i}"
                )(x, mask, reverse=name == "backward")[0]
                for name in ("forward", "backward")
            ]
            x = jnp.concatenate(halves, axis=-1)
            x = nn.Dropout(self.dropout_rate)(x, deterministic=not train)
        return x if mask is None else jnp.where(mask[..., None], x, 0)


def gatewise(init: Callable, num_gates: int) -> Callable:
    """An initialiser that draws the matrix [d h] of each gate by itself: [d num_gates*h]."""

    def draw(key, shape, dtype=jnp.float32):
        keys = jax.random.split(key, num_gates)
        return jnp.concatenate([init(k, shape, dtype) for k in keys], axis=-1)

    return draw


class Step(Protocol):
    """One step of any network that `unroll` takes: hashable, and pure.

    Every product of a step's vectors with a weight matrix must be asked of `dot`, each kernel once a step.
    `context` has gradients, `fixed` (masks) has none; both are the same at all times.
    """

    def __call__(self, x: Any, state: Any, dot: Dot, context: Any, fixed: Any) -> tuple[Any, Any]:
        """The next state, and what to keep of this step."""


@dataclasses.dataclass(frozen=True)
class _CellStep:
    cell: Cell

    def __call__(self, x, state, dot, context, fixed):
        inputs, keep = x
        state = hold(self.cell(inputs, state, dot), state, keep)
        return state, state[0]


def hold(after: Any, before: Any, keep: Bool[Array, "b"] | None) -> Any:
    """The state after where `keep` is True, the state before elsewhere; a tree of [b d]."""
    if keep is None:
        return after
    return jax.tree.map(lambda new, old: jnp.where(keep[:, None], new, old), after, before)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def unroll(
    step: Step,
    reverse: bool,
    xs: Any,
    kernels: tuple[Float[Array, "d e"], ...],
    state: Any,
    context: Any = (),
    fixed: Any = (),
) -> tuple[Any, Any]:
    """What each step keeps, [l ...], and the last state. Every leaf of `xs` has time first.

    As lax.scan, but the gradient of each kernel is one product over all times after the loop. There is no
    forward-mode derivative.
    """
    return _unroll_forward(step, reverse, xs, kernels, state, context, fixed)[0]


def _unroll_forward(step, reverse, xs, kernels, state, context, fixed):
    def body(before, x):
        products = [None] * len(kernels)

        def dot(j, v):
            products[j] = v @ kernels[j]
            return products[j]

        after, kept = step(x, before, dot, context, fixed)
        return after, (kept, before, tuple(products))

    last, (kept, before, products) = lax.scan(body, state, xs, reverse=reverse)
    return (kept, last), (xs, kernels, context, fixed, before, products)


def _unroll_backward(step, reverse, saved, gradients):
    xs, kernels, context, fixed, before, products = saved
    d_kept, d_last = gradients

    def body(carry, at):
        d_after, d_context = carry
        x, before, products, d_kept = at

        def one_step(x, before, context, offsets):
            factors = [None] * len(kernels)

            def dot(j, v):
                factors[j] = v
                return _known_product(v, kernels[j], products[j], offsets[j])

            return step(x, before, dot, context, fixed), tuple(factors)

        zeros = jax.tree.map(jnp.zeros_like, products)
        _, pull_back, factors = jax.vjp(one_step, x, before, context, zeros, has_aux=True)
        d_x, d_before, more, d_products = pull_back((d_after, d_kept))
        d_context = jax.tree.map(lambda total, g: total + g.astype(total.dtype), d_context, more)
        # A mask among the xs has a gradient of a type that no loop carries.
        d_x = jax.tree.map(lambda g: None if g.dtype == jax.dtypes.float0 else g, d_x)
        return (d_before, d_context), (d_x, d_products, factors)

    # Sums over many steps are kept in float32.
    no_gradient = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), context)
    (d_state, d_context), (d_xs, d_products, factors) = lax.scan(
        body, (d_last, no_gradient), (xs, before, products, d_kept), reverse=not reverse
    )
    d_kernels = tuple(
        jnp.einsum("lbi,lbj->ij", factor, d_product)
        for factor, d_product in zip(factors, d_products)
    )
    d_context = jax.tree.map(lambda g, leaf: g.astype(leaf.dtype), d_context, context)
    return d_xs, d_kernels, d_state, d_context, None


unroll.defvjp(_unroll_forward, _unroll_backward)


@jax.custom_vjp
def _known_product(v, kernel, product, offset):
    """v @ kernel, computed before, whose gradient also goes to `offset` and not to the kernel."""
    return product


def _known_product_forward(v, kernel, product, offset):
    return product, kernel


def _known_product_backward(kernel, gradient):
    return gradient @ kernel.T, None, None, gradient


_known_product.defvjp(_known_product_forward, _known_product_backward)
