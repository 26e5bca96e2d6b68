"""Low-rank updates of linear layers, in place of updates of their kernels (Hu et al. 2021, arXiv 2106.09685)."""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from vlm_jax.train.adapted import Adapted
from vlm_jax.train.layers import layers_noted, output_axes
from vlm_jax.train.rules import matched
from vlm_jax.types import BASE, Array, Variables

A, B = "lora_a", "lora_b"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora(Adapted):
    """`model`, in which a kernel W that a rule matches acts as W + alpha / rank A B (section 4.1).

        variables["params"]   A [*in rank] and B [rank *out] beside where W would be, and what `trained` matches
        variables["base"]     all other parameters of the model; no gradient, no moments, no average, written once

    A is drawn with variance 1 / in and B is zero, so that a run begins as the model that it adapts. Kernels are those
    of Dense, DenseGeneral and ungrouped Conv; a rule must match one. `trained` are rules for parameters that are
    trained whole, such as a new head. `dropout_rate` falls on what A reads.

    `Experiment.init_params` are those of `model`: published weights, or a run. The gradient of W is never computed:
    the layer's output gets alpha / rank (x A) B on top.
    """

    rules: tuple[str, ...]
    rank: int = 8
    alpha: float = 16.0
    trained: tuple[str, ...] = ()
    dropout_rate: float = 0.0

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def init(self, key: jax.Array, *args: Any, **kwargs: Any) -> Variables:
        if self.rank < 1:
            raise ValueError(f"Lora.rank: given {self.rank}, expected at least 1")
        with layers_noted() as layers:
            variables = dict(self.model.init(key, *args, **kwargs))
        base = flatten_dict(variables.pop("params"), sep="/")
        adapted = self._adapted(layers, base)
        whole = matched(self.trained, base, what="Lora.trained")
        twice = sorted(whole.keys() & adapted.keys())
        if twice:
            raise ValueError(f"Lora: {twice[0]} is in both rules and trained; choose one of them")
        params = {name: base.pop(name) for name in whole}
        for name, layer in adapted.items():
            shape, split = base[name].shape, base[name].ndim - output_axes(layer)
            place = name.removesuffix("kernel")
            draw = jax.random.fold_in(key, zlib.crc32(name.encode()))
            normal = nn.initializers.variance_scaling(
                1.0, "fan_in", "normal", in_axis=tuple(range(split)), out_axis=-1
            )
            params[place + A] = normal(draw, (*shape[:split], self.rank))
            params[place + B] = jnp.zeros((self.rank, *shape[split:]))
        return {
            "params": unflatten_dict(params, sep="/"),
            BASE: unflatten_dict(base, sep="/"),
            **variables,
        }

    def apply(self, variables: Variables, *args: Any, mutable: Any = False, **kwargs: Any) -> Any:
        variables, updates = self._taken_apart(variables)
        if isinstance(mutable, list | tuple):
            mutable = [name for name in mutable if name != BASE]

        def with_update(call, arguments, options, context):
            y, layer = call(*arguments, **options), context.module
            place = "".join(f"{name}/" for name in layer.path)
            if context.method_name != "__call__" or place not in updates:
                return y
            a, b = updates[place]
            x = arguments[0]
            if self.dropout_rate and kwargs.get("train") and layer.has_rng("dropout"):
                dropout = nn.Dropout(self.dropout_rate, deterministic=False)
                x = dropout.apply({}, x, rngs={"dropout": layer.make_rng("dropout")})
            narrow = layer.clone(parent=None, features=self.rank, use_bias=False)
            x = narrow.apply({"params": {"kernel": a}}, x)
            return y + (self.scale * jnp.tensordot(x, b.astype(x.dtype), 1)).astype(y.dtype)

        with nn.intercept_methods(with_update):
            return self.model.apply(variables, *args, mutable=mutable, **kwargs)

    def plain(self, variables: Variables) -> Variables:
        """With the updates merged into the kernels."""
        variables, updates = self._taken_apart(variables)
        params = flatten_dict(variables["params"], sep="/")
        for place, (a, b) in updates.items():
            kernel = params[place + "kernel"]
            update = self.scale * jnp.tensordot(a.astype(jnp.float32), b.astype(jnp.float32), 1)
            params[place + "kernel"] = (kernel + update).astype(kernel.dtype)
        return {**variables, "params": unflatten_dict(params, sep="/")}

    def holding(self, variables: Variables, plain: Variables) -> Variables:
        def filled(tree):
            return unflatten_dict(
                {name: given.get(name, leaf) for name, leaf in flatten_dict(tree, sep="/").items()},
                sep="/",
            )

        given = flatten_dict(plain["params"], sep="/")
        return {
            **plain,
            "params": filled(variables["params"]),
            BASE: filled(variables[BASE]),
        }

    def _adapted(
        self, layers: Mapping[str, nn.Module], params: Mapping[str, Any]
    ) -> dict[str, nn.Module]:
        kernels = {f"{place}/kernel": layer for place, layer in layers.items()}
        others = sorted(params.keys() - kernels.keys())
        for rule in self.rules:
            if not matched((rule,), kernels, what=None) and matched((rule,), others, what=None):
                found = next(iter(matched((rule,), others, what=None)))
                raise ValueError(
                    f"Lora.rules: the rule {rule!r} matches {found} and the like, which are no kernels of Dense, "
                    "DenseGeneral or ungrouped Conv; train them whole by Lora.trained"
                )
        found = matched(self.rules, kernels, what="Lora.rules", of="kernel of a linear layer")
        return {name: kernels[name] for name in found}

    def _taken_apart(self, variables: Variables) -> tuple[dict, dict[str, tuple[Array, Array]]]:
        """The variables of `model` without the updates, and the updates by the place of their layer."""
        rest = {name: tree for name, tree in variables.items() if name not in ("params", BASE)}
        params = flatten_dict(variables["params"], sep="/")
        updates = {
            name.removesuffix(A): (params[name], params[name.removesuffix(A) + B])
            for name in params
            if name.rpartition("/")[2] == A
        }
        params = {k: v for k, v in params.items() if k.rpartition("/")[2] not in (A, B)}
        params |= flatten_dict(variables[BASE], sep="/")
        return {"params": unflatten_dict(params, sep="/"), **rest}, updates
