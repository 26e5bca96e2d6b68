"""What stands where, in vectors."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int

from vlm_jax.language.embeddings import Embedding
from vlm_jax.layers.mlp import Mlp
from vlm_jax.layers.norm import LayerNorm, Norm
from vlm_jax.types import Features

NOTHING = 0  # a number of an object that is not there


class PlanEncoder(nn.Module, kw_only=True):
    """Plans as those of text.scene_plan.ScenePlan, [b m] = `num_parts` numbers an object, -> [b 1+o d], a vector an object.

    The vector is the sum of those of its numbers and what an MLP makes of that, normed: where an object stands is a sum
    over its column and its row, which attention can hold against places. The order of the objects is not seen, and those that are
    not there are masked. Before them stands a learned vector that is always there, and alone where nothing is planned.
    """

    vocab_size: int  # different numbers
    num_parts: int
    width: int
    hidden: int
    norm: Norm = LayerNorm()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, plans: Int[Array, "b m"], *, train: bool) -> Features:
        rows, length = plans.shape
        if length % self.num_parts:
            raise ValueError(
                f"PlanEncoder was given plans of {length} numbers, expected {self.num_parts} an object; make them with "
                "text.scene_plan.ScenePlan"
            )
        parts = plans.reshape(rows, -1, self.num_parts)
        table = Embedding(
            vocab_size=self.vocab_size, width=self.width, dtype=self.dtype, name="embedding"
        )
        objects = table(parts).sum(2)
        start = self.param("start", nn.initializers.normal(0.1), (1, 1, self.width))
        start = jnp.broadcast_to(start, (rows, 1, self.width)).astype(self.dtype)
        x = jnp.concatenate([start, objects], axis=1)
        x = x + Mlp(hidden=self.hidden, dtype=self.dtype, name="mlp")(x, train=train)
        there = jnp.pad(parts[..., 0] != NOTHING, ((0, 0), (1, 0)), constant_values=True)
        return Features(values=self.norm(x, train=train, dtype=self.dtype, name="norm"), mask=there)
