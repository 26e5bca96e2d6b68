import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.model_zoo import filled
from vlm_jax.layers.recurrent import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    RecurrentLayer,
    RecurrentStack,
    ResetAfterGRU,
    unroll,
)

CELLS = (RNN(), GRU(gate_bias=0.5), ResetAfterGRU(), LSTM())
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 1]], bool)
B, L = MASK.shape
D, H = 3, 4


def by_name(cell):
    return type(cell).__name__


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(cell, params, x, state):
    """One step of each cell as its paper writes it, a matrix for each gate, in double precision."""
    params = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}
    gates = {"RNN": 1, "GRU": 3, "ResetAfterGRU": 3, "LSTM": 4}[by_name(cell)]
    w = np.split(params["kernel"], gates, axis=1)
    b = np.split(params["bias"], gates)
    recurrent = np.concatenate([params[k] for k in sorted(params) if "recurrent" in k], axis=1)
    u = np.split(recurrent, gates, axis=1)
    if by_name(cell) == "RNN":
        return (np.tanh(x @ w[0] + state[0] @ u[0] + b[0]),)
    if by_name(cell) == "LSTM":
        h, c = state
        i, f, g, o = (x @ w[j] + h @ u[j] + b[j] for j in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    (h,) = state
    r, z = (sigmoid(x @ w[j] + h @ u[j] + b[j]) for j in range(2))
    inner = (r * h) @ u[2] if by_name(cell) == "GRU" else r * (h @ u[2])
    return (z * h + (1 - z) * np.tanh(x @ w[2] + b[2] + inner),)


def layer_and_params(cell):
    layer = RecurrentLayer(cell=cell, width=H)
    x = jnp.zeros((B, L, D))
    return layer, filled(jax.eval_shape(lambda: layer.init(jax.random.key(0), x)))


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("cell", CELLS, ids=by_name)
def test_a_layer_equals_the_equations_and_holds_its_state_where_masked(cell, reverse):
    layer, params = layer_and_params(cell)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(B, L, D)).astype(np.float32)
    state = tuple(rng.normal(size=(B, H)).astype(np.float32) for _ in range(cell.num_states))
    run = jax.jit(lambda *given: layer.apply(params, *given, reverse=reverse))
    outputs, last = run(x, MASK, state)

    for t in reversed(range(L)) if reverse else range(L):
        new = reference(cell, params["params"], x[:, t], state)
        state = tuple(np.where(MASK[:, t, None], a, b) for a, b in zip(new, state))
        np.testing.assert_allclose(outputs[:, t], state[0], atol=1e-5)
    for a, b in zip(last, state):
        np.testing.assert_allclose(a, b, atol=1e-5)


@dataclasses.dataclass(frozen=True)
class WithContext:
    """A step that uses everything `unroll` offers: two kernels, a mask, a context and what is fixed."""

    cell: object

    def __call__(self, x, state, dot, context, fixed):
        inputs, keep = x
        inputs = inputs + jnp.where(fixed, context["shift"] * dot(0, state[0]), 0)
        new = self.cell(inputs, state, lambda j, v: dot(1 + j, v))
        new = tuple(jnp.where(keep[:, None], a, b) for a, b in zip(new, state))
        return new, {"h": new[0], "square": new[0] ** 2}


@pytest.mark.parametrize(
    "cell, reverse", [(cell, False) for cell in CELLS] + [(GRU(), True)], ids=by_name
)
def test_gradients_equal_those_of_a_plain_scan(cell, reverse):
    rng = np.random.default_rng(2)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    wide = cell.num_gates * H
    given = {
        "inputs": draw(L, B, wide),
        "kernels": (draw(H, wide), *(draw(H, n * H) for n in cell.kernel_gates)),
        "state": tuple(draw(B, H) for _ in range(cell.num_states)),
        "context": {"shift": draw(B, wide)},
    }
    fixed = rng.random((B, wide)) < 0.5
    weights = draw(L, B, H)

    def plain(step, reverse, xs, kernels, state, context, fixed):
        def body(state, x):
            return step(x, state, lambda j, v: v @ kernels[j], context, fixed)

        last, kept = lax.scan(body, state, xs, reverse=reverse)
        return kept, last

    def loss(form, given):
        xs = (given["inputs"], jnp.asarray(MASK.T))
        kept, last = form(
            WithContext(cell),
            reverse,
            xs,
            given["kernels"],
            given["state"],
            given["context"],
            jnp.asarray(fixed),
        )
        total = (kept["h"] * weights).sum() + kept["square"].sum()
        return total + sum((leaf**3).sum() for leaf in last)

    ours, theirs = (
        jax.jit(jax.value_and_grad(lambda given, form=form: loss(form, given)))(given)
        for form in (unroll, plain)
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_a_stack_continues_from_its_state():
    stack = RecurrentStack(cell=LSTM(), width=H, num_layers=2)
    x = np.random.default_rng(3).normal(size=(B, L, D)).astype(np.float32)
    params = filled(jax.eval_shape(lambda: stack.init(jax.random.key(0), x, train=False)))

    @jax.jit
    def run(x):
        whole, last = stack.apply(params, x, train=False)
        first, state = stack.apply(params, x[:, :2], train=False)
        outputs = [first]
        for t in range(2, L):
            output, state = stack.apply(params, x[:, t], state, train=False, method="step")
            outputs.append(output[:, None])
        return whole, last, outputs, state

    whole, last, outputs, state = run(x)
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), whole, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state, last)


def test_bidirectional_reads_a_padded_text_as_if_it_were_alone():
    both = Bidirectional(cell=GRU(), width=H, num_layers=2)
    x = np.random.default_rng(4).normal(size=(B, L, D)).astype(np.float32)
    params = filled(jax.eval_shape(lambda: both.init(jax.random.key(0), x, train=False)))
    run = jax.jit(lambda x, mask: both.apply(params, x, mask, train=False))
    outputs = np.asarray(run(x, MASK))
    for row in range(B):
        start, stop = np.flatnonzero(MASK[row])[[0, -1]]
        # As many places, but the text stands elsewhere among them, and something else around it.
        moved, kept = np.full_like(x, 9.0), np.zeros_like(MASK)
        moved[row, : stop - start + 1], kept[row, : stop - start + 1] = x[row, MASK[row]], True
        alone = np.asarray(run(moved, kept))
        np.testing.assert_allclose(outputs[row, MASK[row]], alone[row, kept[row]], atol=1e-6)
        assert (outputs[row, ~MASK[row]] == 0).all()
    # The first output knows the last input through the backward half alone.
    moved = x.copy()
    moved[0, -1] += 1
    change = np.abs(np.asarray(run(moved, MASK)) - outputs)[0, 0]
    assert change[:H].max() > 1e-4 and change[H:].max() > 1e-4


def test_an_lstm_starts_by_remembering_and_gates_are_orthogonal_each():
    layer = RecurrentLayer(cell=LSTM(forget_bias=1.0), width=H)
    params = layer.init(jax.random.key(0), jnp.zeros((1, 1, D)))["params"]
    np.testing.assert_array_equal(params["bias"], [0] * H + [1] * H + [0] * 2 * H)
    for gate in np.split(np.asarray(params["recurrent_kernel_0"]), 4, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(H), atol=1e-5)


@pytest.mark.parametrize("same", [True, False])
def test_the_same_dropout_at_all_times_is_another_for_each_row(same):
    """Gal and Ghahramani 2016: one mask a row."""
    x, key = jnp.ones((3, 5, 4)), jax.random.key(0)
    stack = RecurrentStack(cell=RNN(), width=8, dropout_rate=0.5, same_dropout=same)
    variables = filled(jax.eval_shape(lambda: stack.init(key, x, train=False)))
    run = jax.jit(lambda v: stack.apply(v, x, train=True, rngs={"dropout": key})[0])
    dropped = np.asarray(run(variables) == 0)
    assert 0 < dropped.mean() < 1
    assert (dropped == dropped[:, :1]).all() == same
    assert not (dropped[0] == dropped[1]).all()
