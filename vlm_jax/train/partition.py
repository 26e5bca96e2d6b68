"""How state and batches lie on devices: a mesh of named axes, or pmap with the state on every device.

Partition()                                              data parallel over all devices
Partition(mesh=(("data", 2), ("fsdp", -1)),              parameters and moments split over fsdp as well
          rules=((r"kernel$", ("fsdp",)), (".*", ())))
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vlm_jax.train.state import State, named_leaves, path_name
from vlm_jax.types import BASE, Batch

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")  # the batch is split over both


@dataclasses.dataclass(frozen=True, kw_only=True)
class Partition:
    """`rules` are (regular expression, spec); the first found in 'decoder/Dense_0/kernel' gives that parameter's
    spec, one mesh axis, tuple of axes or None for each array axis from the left. Moments and averages follow
    their parameter."""

    strategy: Literal["mesh", "pmap"] = "mesh"
    mesh: tuple[tuple[str, int], ...] = (("data", -1),)  # -1: the devices that are left
    rules: tuple[tuple[str, tuple], ...] = ((".*", ()),)

    def build(self, devices: list | None = None) -> "MeshLayout | PmapLayout":
        """The layout on these devices, by default all of them."""
        devices = jax.devices() if devices is None else devices
        sizes = _sizes(self.mesh, len(devices))
        devices = devices[: math.prod(sizes)]
        if self.strategy == "pmap":
            if [name for name, _ in self.mesh] != ["data"] or self.rules != ((".*", ()),):
                raise ValueError(
                    f"strategy 'pmap' is data parallel only; given mesh {self.mesh} and rules {self.rules}, "
                    "expected mesh (('data', n),) and no rules. Use strategy='mesh'"
                )
            return PmapLayout(devices)
        names = tuple(name for name, _ in self.mesh)
        # Auto, not Explicit: Linen modules (Embed first) do not state the shardings of their results.
        mesh = jax.make_mesh(sizes, names, (AxisType.Auto,) * len(names), devices=devices)
        return MeshLayout(mesh, self.rules)


class MeshLayout:
    """Global arrays under jit: the compiler adds the communication."""

    def __init__(self, mesh: Mesh, rules: tuple[tuple[str, tuple], ...]):
        self.mesh, self.rules = mesh, rules
        self.replicated = NamedSharding(mesh, PartitionSpec())
        axes = tuple(name for name in mesh.axis_names if name in BATCH_AXES)
        self.rows = NamedSharding(mesh, PartitionSpec(axes))
        self.num_shards = math.prod(mesh.shape[name] for name in axes)

    def state(self, shapes: State) -> State:
        """The shardings of a state of these shapes. Raises for a rule that matches no parameter, or an axis
        that does not divide."""
        specs = self._specs(
            named_leaves(shapes.params) | named_leaves(shapes.collections.get(BASE, {}))
        )

        def sharding(path, leaf):
            parts = path_name(path).split("/")
            for start in range(
                len(parts)
            ):  # 'opt_state/0/mu/decoder/kernel' follows 'decoder/kernel'
                found = specs.get("/".join(parts[start:]))
                if found is not None and found[0] == leaf.shape:
                    return NamedSharding(self.mesh, found[1])
            return self.replicated

        return jax.tree_util.tree_map_with_path(sharding, shapes)

    def _specs(self, params: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], PartitionSpec]]:
        used, specs = set(), {}
        for name, leaf in params.items():
            for index, (pattern, spec) in enumerate(self.rules):
                if re.search(pattern, name):
                    used.add(index)
                    specs[name] = (leaf.shape, self._checked(name, leaf.shape, spec))
                    break
            else:
                specs[name] = (leaf.shape, PartitionSpec())
        for index, (pattern, _) in enumerate(self.rules):
            if index not in used and pattern != ".*":
                raise ValueError(
                    f"Partition.rules[{index}]: {pattern!r} matches no parameter that an earlier rule left over; "
                    f"the parameters are {', '.join(list(specs)[:8])}{' ...' if len(specs) > 8 else ''}"
                )
        return specs

    def _checked(self, name: str, shape: tuple[int, ...], spec: tuple) -> PartitionSpec:
        if len(spec) > len(shape):
            raise ValueError(
                f"Partition.rules: {name} has shape {shape}, the spec {spec} more axes"
            )
        for axis, entry in enumerate(spec):
            names = () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)
            unknown = [n for n in names if n not in self.mesh.shape]
            if unknown:
                raise ValueError(
                    f"Partition.rules: the spec {spec} of {name} names the mesh axis {unknown[0]!r}; the mesh has "
                    f"{dict(self.mesh.shape)}"
                )
            size = math.prod(self.mesh.shape[n] for n in names)
            if shape[axis] % size:
                raise ValueError(
                    f"Partition.rules: axis {axis} of {name} {shape} is split over {'*'.join(names)} = {size} "
                    f"devices, which does not divide {shape[axis]}; round the size up to a multiple of {size}, or "
                    "give the parameter a rule of its own"
                )
        return PartitionSpec(*spec)

    def create(self, function: Callable[..., State], *args: Any) -> State:
        """The state that the pure function returns, every leaf born where it belongs."""
        shardings = self.state(jax.eval_shape(function, *args))
        return jax.jit(function, out_shardings=shardings)(*args)

    def place_state(self, state: State) -> State:
        """A single state laid over the devices."""
        return jax.device_put(state, self.state(state))

    def like(self, shapes: State) -> State:
        """Shapes, dtypes and shardings of the single state: what a checkpoint is restored into."""
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            self.state(shapes),
        )

    def place_batch(self, batch: Batch) -> Batch:
        """A global batch from this process's rows, axis b over the mesh."""
        if jax.process_count() == 1:
            _check_rows(batch, self.num_shards)
            return jax.device_put(dict(batch), self.rows)
        return {
            name: jax.make_array_from_process_local_data(self.rows, np.asarray(x))
            for name, x in batch.items()
        }

    def compile_train_step(self, pure: Callable, state: State, key: jax.Array) -> Callable:
        """`pure(axis)` gives step(state, batch, key); the result is step(state, batch), which consumes its state."""
        shardings = self.state(state)
        step = jax.jit(pure(None), donate_argnums=0, out_shardings=(shardings, self.replicated))
        return lambda state, batch: step(state, batch, key)

    def place_evaluation_batch(self, batch: Batch) -> Batch:
        """As `place_batch`, and whole on every device where the rows do not divide."""
        rows = next(iter(batch.values())).shape[0]
        if jax.process_count() == 1 and rows % self.num_shards:
            return jax.device_put(dict(batch), self.replicated)
        return self.place_batch(batch)

    def single(self, state: State) -> State:
        """The state as evaluation and checkpoints want it."""
        return state


class PmapLayout:
    """The state on every device, the batch split: `[b ...]` -> `[devices b/devices ...]`."""

    axis = "data"

    def __init__(self, devices: list):
        self.devices = devices
        self.num_shards = len(devices)
        self.mesh = jax.make_mesh((len(devices),), (self.axis,), (AxisType.Auto,), devices=devices)
        self.rows = NamedSharding(self.mesh, PartitionSpec(self.axis))

    def create(self, function: Callable[..., State], *args: Any) -> State:
        return self.place_state(jax.jit(function)(*args))

    def place_state(self, state: State) -> State:
        """[...] -> [devices ...], a copy on each."""
        return jax.tree.map(
            lambda x: jax.device_put(np.broadcast_to(x, (self.num_shards, *x.shape)), self.rows),
            state,
        )

    def like(self, shapes: State) -> State:
        return shapes

    def place_batch(self, batch: Batch) -> Batch:
        _check_rows(batch, self.num_shards)
        return {
            name: jax.device_put(np.reshape(x, (self.num_shards, -1, *x.shape[1:])), self.rows)
            for name, x in batch.items()
        }

    def compile_train_step(self, pure: Callable, state: State, key: jax.Array) -> Callable:
        step = jax.pmap(
            pure(self.axis), self.axis, in_axes=(0, 0, None), donate_argnums=0, devices=self.devices
        )

        def run(state, batch):
            state, metrics = step(state, batch, key)
            return state, jax.tree.map(_first, metrics)

        return run

    def place_evaluation_batch(self, batch: Batch) -> Batch:
        return jax.device_put(dict(batch), self.devices[0])

    def single(self, state: State) -> State:
        """One copy, on the first device."""
        return jax.tree.map(_first, state)


def _first(x: jax.Array) -> jax.Array:
    """[devices ...] -> [...] without the computation that x[0] would be."""
    return x.addressable_shards[0].data[0]


def _sizes(mesh: tuple[tuple[str, int], ...], num_devices: int) -> tuple[int, ...]:
    names = [name for name, _ in mesh]
    unknown = [name for name in names if name not in AXES]
    if unknown or len(set(names)) != len(names) or not names:
        raise ValueError(f"Partition.mesh {mesh}: expected different names out of {AXES}")
    sizes = [size for _, size in mesh]
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise ValueError(f"Partition.mesh {mesh}: sizes are positive, and at most one of them -1")
    known = math.prod(size for size in sizes if size != -1)
    if known > num_devices or (-1 in sizes and num_devices % known):
        raise ValueError(
            f"Partition.mesh {mesh} does not fit {num_devices} devices; the sizes must multiply to a divisor of "
            "their number, with -1 for what is left"
        )
    return tuple(num_devices // known if size == -1 else size for size in sizes)


def _check_rows(batch: Batch, num_shards: int) -> None:
    rows = next(iter(batch.values())).shape[0]
    if rows % num_shards:
        raise ValueError(
            f"batch_size {rows} is split over {num_shards} devices, which does not divide it; use a multiple of "
            f"{num_shards}, or fewer devices in Partition.mesh"
        )
