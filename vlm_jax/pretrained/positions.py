"""Learned positions of a grid of patches, resized when parameters are loaded for pictures of another size."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vlm_jax.layers.positions import resize_grid
from vlm_jax.pretrained.mapping import matching, named, unnamed
from vlm_jax.types import Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResizedPositions:
    """`Experiment.init_params` or `Encoded.init_params`: those of `init_params`, with positions of a grid `old` (rows,
    columns) interpolated to the model's grid `new` (bicubic, as Dosovitskiy et al. 2021, section 3.2, interpolate).

    `rules` find the tables [extra + rows * columns, width]; each must find one. The first vectors, the class token's,
    are kept as they are. The same size gives the same numbers, exactly.
    """

    init_params: Callable[[Any], Any]
    old: tuple[int, int]
    new: tuple[int, int]
    rules: tuple[str, ...] = (r"(^|/)positions/positions$",)

    def __call__(self, variables: Variables) -> Variables:
        """Given params, params; given variables, with the other collections too."""
        whole = "params" in variables
        leaves = named(variables if whole else {"params": variables})
        tables = matching(self.rules, leaves, what="ResizedPositions.rules")
        extra = {name: self._extra(name, leaves[name].shape) for name in tables}
        smaller = {
            name: jnp.zeros((number + _places(self.old), leaves[name].shape[1]), leaves[name].dtype)
            for name, number in extra.items()
        }
        given = unnamed(leaves | smaller)
        found = self.init_params(given if whole else given["params"])
        filled = named(found if whole else {"params": found})
        for name, number in extra.items():
            filled[name] = self._resized(name, jnp.asarray(filled[name]), number, leaves[name])
        filled = unnamed(filled)
        return filled if whole else filled["params"]

    def collections(self, collections: Variables) -> Variables:
        """Those of `init_params`, where it has any."""
        inner = getattr(self.init_params, "collections", None)
        return collections if inner is None else inner(collections)

    def _extra(self, name: str, shape: tuple[int, ...]) -> int:
        if len(shape) != 2 or shape[0] < _places(self.new):
            raise ValueError(
                f"ResizedPositions: the model's {name} has shape {shape}, expected [extra + {self.new[0]} * "
                f"{self.new[1]}, width] for new={self.new}"
            )
        return shape[0] - _places(self.new)

    def _resized(self, name: str, table: jax.Array, extra: int, like: Any) -> jax.Array:
        if table.shape[0] != extra + _places(self.old):
            raise ValueError(
                f"ResizedPositions: {name} was loaded with {table.shape[0]} vectors, expected {extra} + "
                f"{self.old[0]} * {self.old[1]} for old={self.old}"
            )
        places = resize_grid(table[extra:], self.old, self.new)
        return jnp.concatenate([table[:extra], places]).astype(like.dtype)


def _places(grid: tuple[int, int]) -> int:
    return grid[0] * grid[1]
