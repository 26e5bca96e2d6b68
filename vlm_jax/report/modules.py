"""The table that `describe` prints: every module, its output shape, its parameters, the work of one example."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from vlm_jax.types import Batch

Path = tuple[str, ...]
HEAD = ("module", "class", "output", "parameters", "FLOPs / example")


class Row(NamedTuple):
    """A module. Its parameters and FLOPs contain those of the modules below it."""

    path: Path  # () is the whole model
    kind: str
    output: str  # the shapes of what its first call returned
    parameters: int
    flops: float  # of a forward pass of one example


def module_table(model: Any, batch: Batch) -> str:
    """Modules as lines: path, class, output shapes, parameters, FLOPs of a forward pass of one example.

    `batch` is any batch that the model takes; only its first row is used. Modules without parameters and without
    work (dropout, here) are left out.
    """
    rows = [row for row in module_rows(model, batch) if row.parameters or row.flops]
    lines = [
        ("/".join(row.path) or "(all)", row.kind, row.output, f"{row.parameters:,}", _si(row.flops))
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [HEAD, *lines]) for i in range(len(HEAD))]

    def written(line):
        left = [cell.ljust(width) for cell, width in zip(line[:3], widths)]
        right = [cell.rjust(width) for cell, width in zip(line[3:], widths[3:])]
        return "  ".join(left + right).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([written(HEAD), rule, *map(written, lines)])


def module_rows(model: Any, batch: Batch) -> list[Row]:
    """Every module that is called, each before those below it, in the order of the first calls.

    FLOPs are counted in the traced program: two for a multiplication and an addition of a matrix product or a
    convolution, one for any other arithmetic operation on a number, every turn of a loop over time counted.
    Nothing is computed or compiled.
    """
    batch = {name: array[:1] for name, array in batch.items()}
    called: dict[Path, list[Any]] = {}  # path -> [class, {method: output}]

    def record(call, arguments, keywords, context):
        path = context.module.path
        seen = called.setdefault(path, [type(context.module).__name__, {}])
        output = call(*arguments, **keywords)
        if context.method_name != "setup":
            seen[1].setdefault(context.method_name, _shapes(output))
        return output

    def init(key, batch):
        return model.init_with_output(key, batch, train=False)[1]

    def forward(variables, batch):
        return model.apply(variables, batch, train=False)

    with nn.intercept_methods(record):
        variables = jax.eval_shape(init, jax.random.key(0), batch)
    with nn.override_named_call(True):  # whatever FLAX_PROFILE says
        program = jax.make_jaxpr(forward)(variables, batch).jaxpr
    own: dict[Path, float] = {}
    for names, flops in _operations(program, 1.0):
        path = _module_path(names, called)
        own[path] = own.get(path, 0.0) + flops

    params = variables.get("params", {})
    return [
        Row(
            path=path,
            kind=called[path][0],
            output=_output(called[path][1]),
            parameters=sum(leaf.size for leaf in jax.tree.leaves(_below(params, path))),
            flops=sum(flops for at, flops in own.items() if at[: len(path)] == path),
        )
        for path in _parents_first(list(called))
    ]


# ---- FLOPs of a traced program

_ARITHMETIC = frozenset(
    "add add_any sub mul div rem max min neg abs sign floor ceil round exp exp2 expm1 log log1p sqrt rsqrt cbrt "
    "tanh logistic sin cos tan erf erfc erf_inv pow integer_pow square clamp".split()
)
_OVER_INPUTS = frozenset(
    "reduce_sum reduce_max reduce_min reduce_prod argmax argmin cumsum cumprod cummax cumlogsumexp "
    "reduce_window_sum reduce_window_max".split()
)


def _operations(jaxpr: Any, times: float) -> Iterator[tuple[tuple[str, ...], float]]:
    """(names of the scopes around an operation, its FLOPs) for the operations that have any."""
    for equation in jaxpr.eqns:
        names = tuple(str(equation.source_info.name_stack).split("/"))
        inner = list(_programs(equation))
        if not inner:
            flops = _flops(equation)
            if flops:
                yield names, times * flops
            continue
        turns = times * equation.params.get("length", 1)  # of a scan; a while loop counts once
        found = [list(_operations(program, turns)) for program in inner]
        if equation.primitive.name == "cond":
            found = [max(found, key=lambda branch: sum(flops for _, flops in branch))]
        for branch in found:
            for below, flops in branch:
                yield names + below, flops


def _programs(equation: Any) -> Iterator[Any]:
    for name, value in equation.params.items():
        if name in ("fwd_jaxpr_thunk", "jvp_jaxpr_fun", "cond_jaxpr"):
            continue
        for item in value if isinstance(value, tuple | list) else (value,):
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item


def _flops(equation: Any) -> float:
    name, output = equation.primitive.name, equation.outvars[0].aval
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2.0 * math.prod(output.shape) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * math.prod(output.shape) * math.prod(kernel) / features
    if not hasattr(output, "dtype") or not jnp.issubdtype(output.dtype, jnp.floating):
        return 0.0
    if name in _ARITHMETIC:
        return float(math.prod(output.shape))
    if name in _OVER_INPUTS:
        return float(math.prod(equation.invars[0].aval.shape))
    return 0.0


# ---- paths of modules


def _module_path(names: tuple[str, ...], known: Mapping[Path, Any]) -> Path:
    """The module that Linen's scope names lead to: ('Generator', 'decoder', 'decoder.read', 'rnn') -> decoder, rnn.

    A part that is called by another module than the one that holds it is found on the way back up.
    """
    path: Path = ()
    for name in names:
        name = name.split(".")[0]  # the method
        for length in range(len(path), -1, -1):
            if (*path[:length], name) in known:
                path = (*path[:length], name)
                break
    return path


def _parents_first(paths: list[Path]) -> list[Path]:
    """[(), (a, b), (c,), (a,), (a, d)] -> [(), (a,), (a, b), (a, d), (c,)]"""
    place: dict[Path, int] = {}
    for index, path in enumerate(paths):
        for length in range(len(path) + 1):
            place.setdefault(path[:length], index)
    key: Callable = lambda path: [place[path[:length]] for length in range(len(path) + 1)]  # noqa: E731
    return sorted(paths, key=key)


def _below(params: Any, path: Path) -> Any:
    for name in path:
        params = params.get(name, {})
    return params


def _output(by_method: Mapping[str, str]) -> str:
    return by_method.get("__call__") or next(filter(None, by_method.values()), "")


def _shapes(outputs: Any) -> str:
    arrays = [leaf for leaf in jax.tree.leaves(outputs) if hasattr(leaf, "shape")]
    return " ".join(str(list(array.shape)) for array in arrays[:2])


def _si(number: float) -> str:
    if number <= 0:
        return "-"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.4g} {unit}"
    return f"{number:.4g}"
