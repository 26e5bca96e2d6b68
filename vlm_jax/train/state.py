"""What changes while training, as one pytree: everything a resumed run needs, and nothing else.

Randomness is not in it: every key is folded from the experiment's seed and `step`.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vlm_jax.types import BASE, CARRY, Array, Batch, Variables


@flax.struct.dataclass
class State:
    step: Array  # Int32[], batches consumed
    params: Any
    collections: Any  # the other Linen collections, batch statistics among them
    opt_state: Any
    ema: Any = None  # float32 moving average of params, where the optimizer keeps one
    skipped: Array | int = 0  # Int32[], non-finite steps in a row

    @property
    def variables(self) -> Variables:
        """What `model.apply` takes while training."""
        return {"params": self.params, **self.collections}

    @property
    def eval_variables(self) -> Variables:
        """What evaluation and prediction use: the moving average of the params where there is one."""
        if self.ema is None:
            return self.variables
        params = jax.tree.map(lambda average, p: average.astype(p.dtype), self.ema, self.params)
        return {"params": params, **self.collections}


def init_state(
    model: Any,
    tx: optax.GradientTransformation,
    batch: Batch,
    key: jax.Array,
    *,
    ema: bool = False,
) -> State:
    """A state at step 0 for batches shaped like `batch`; pure, so `jax.eval_shape` gives its shapes.

    The values in `batch` are not used: one row of zeros of the same shape initialises the model.
    """

    def zeros(x):  # ids are int64 on the host and int32 on the device
        return jnp.zeros((1, *x.shape[1:]), jax.dtypes.canonicalize_dtype(x.dtype))

    example = jax.tree.map(zeros, dict(batch))
    variables = dict(model.init(key, example, train=False))
    params = variables.pop("params", {})
    if CARRY in variables:  # what goes on from batch to batch has a row for each of the batch's
        rows = jax.tree.leaves(dict(batch))[0].shape[0]
        carry = variables[CARRY]
        variables[CARRY] = jax.tree.map(lambda x: jnp.repeat(x, rows, axis=0), carry)
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        collections=variables,
        opt_state=tx.init(params),
        ema=float32(params) if ema else None,
        skipped=jnp.zeros((), jnp.int32),
    )


def seed_keys(seed: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The keys of initialisation, of all steps, and of every evaluation."""
    initial, steps, evaluation = jax.random.split(jax.random.key(seed), 3)
    return initial, steps, evaluation


def float32(tree: Any) -> Any:
    """The tree with its floating leaves in float32; a copy, never the same buffers."""

    def cast(x):
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.array(x, jnp.float32 if floating else x.dtype, copy=True)

    return jax.tree.map(cast, tree)


def count_parameters(params: Any) -> int:
    """The number of scalars in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def parameters_of(variables: Variables) -> Variables:
    """Of all variables the parameters, those that a run never changes among them."""
    return {name: tree for name, tree in variables.items() if name in ("params", BASE)}


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves by path: `{"params/decoder/Dense_0/kernel": array, "opt_state/0/count": ...}`."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_name(path): leaf for path, leaf in flat}


def path_name(path: tuple) -> str:
    """A key path as `decoder/Dense_0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def leaf_hash(leaf: Any) -> str:
    """sha256 of dtype, shape and bytes."""
    array = np.asarray(leaf, order="C")
    digest = hashlib.sha256(f"{array.dtype.name} {array.shape} ".encode())
    digest.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


def state_hash(state: State | Mapping) -> str:
    """sha256 over the name and the bytes of every leaf: equal if and only if the states are bit-equal."""
    digest = hashlib.sha256()
    for name, leaf in sorted(named_leaves(state).items()):
        digest.update(f"{name} {leaf_hash(leaf)}\n".encode())
    return digest.hexdigest()
