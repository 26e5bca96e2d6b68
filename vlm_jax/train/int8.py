"""Kernels and tables held as bytes, for evaluation and prediction with weights of a quarter of the size."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from vlm_jax.train.adapted import Adapted
from vlm_jax.train.layers import layers_noted, output_axes
from vlm_jax.train.rules import matched
from vlm_jax.types import Array, Variables

VALUES, SCALE = "int8", "scale"
RULES = (r"(^|/)(kernel|table|embedding)$",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Int8(Adapted):
    """`model`, whose variables hold some parameters as {"int8": [...], "scale": [...]}: W = scale int8.

    They are made floating again where they are used, inside what is compiled.
    """

    def apply(self, variables: Variables, *args: Any, **kwargs: Any) -> Any:
        return self.model.apply(self.plain(variables), *args, **kwargs)

    def plain(self, variables: Variables) -> Variables:
        params = flatten_dict(variables["params"], sep="/")
        ends = f"/{VALUES}"
        for name in [name for name in params if name.endswith(ends)]:
            whole = name.removesuffix(ends)
            params[whole] = dequantised(params.pop(name), params.pop(f"{whole}/{SCALE}"))
        return {**variables, "params": unflatten_dict(params, sep="/")}


def in_int8(
    model: Any,
    variables: Variables,
    use: Callable[[Any, Variables], Any],
    *,
    rules: tuple[str, ...] = RULES,
) -> tuple[Int8, Variables]:
    """The model and its variables with the parameters that a rule matches, vectors excepted, in int8.

    A kernel has one scale for each of its outputs, a table one for each row. `use(model, variables)` is what they are
    for, such as `model.apply(variables, batch, train=False)`: it is traced, not computed, and shows which axes of a
    kernel are outputs. An adapted model is made plain first.
    """
    if isinstance(model, Adapted):
        model, variables = model.model, model.plain(variables)
    with layers_noted() as layers:
        jax.eval_shape(lambda given: use(model, given), variables)
    params = flatten_dict(variables["params"], sep="/")
    for name in matched(rules, list(params), what="in_int8: rules"):
        leaf, (place, _, kind) = jnp.asarray(params[name]), name.rpartition("/")
        if leaf.ndim < 2:
            continue
        outputs = output_axes(layers[place]) if place in layers else 1
        inputs = range(leaf.ndim - outputs) if kind == "kernel" else range(1, leaf.ndim)
        params[f"{name}/{VALUES}"], params[f"{name}/{SCALE}"] = quantised(leaf, tuple(inputs))
        del params[name]
    return Int8(model=model), {**variables, "params": unflatten_dict(params, sep="/")}


def quantised(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """x as int8 in [-127, 127] and the scale that it is to be multiplied by, one for each place of the other axes.

    Symmetric: the largest |x| over `axes` is 127 times the scale, so 0 stays 0 and no value moves by more than half
    the scale.
    """
    largest = jnp.abs(x.astype(jnp.float32)).max(axis=axes, keepdims=True)
    scale = jnp.where(largest == 0, 1.0, largest / 127)
    return jnp.round(x / scale).astype(jnp.int8), scale


def dequantised(values: Array, scale: Array) -> Array:
    return values.astype(jnp.float32) * scale


def size_in_bytes(variables: Variables) -> int:
    """Of all arrays."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
