"""A grid of features as one vector that still knows where each of them was."""

import flax.linen as nn
import jax.numpy as jnp

from vlm_jax.types import Array, Features


class GridVector(nn.Module, kw_only=True):
    """The encoder's square grid, max-pooled to `side` x `side` cells and flattened: [b 1 side*side*d].

    A mean over the grid says what is in a picture and not where; decoders that take one vector (the recurrent
    ones) need this for left, right, above and below.

    `[[1, 2, 0, 0], [3, 4, 0, 5], ...], side 2 -> [4, 5, ...]`
    """

    encoder: nn.Module
    side: int = 8

    def __call__(self, image: Array, *, train: bool) -> Features:
        found = self.encoder(image, train=train)
        size, positions, width = found.values.shape
        length = round(positions**0.5)
        if length * length != positions or length % self.side:
            raise ValueError(
                f"GridVector(side={self.side}) was given {positions} positions; expected a square grid whose side is "
                f"a multiple of {self.side}"
            )
        cell = length // self.side
        grid = found.values.reshape(size, length, length, width)
        # Not `max` over reshaped axes: its gradient looks for the maximum by equality, and divides 0 by 0 where the
        # compiler rounds the two sides differently.
        pooled = nn.max_pool(grid, (cell, cell), strides=(cell, cell))  # [b side side d]
        values = pooled.reshape(size, 1, -1)
        return Features(values=values, mask=jnp.ones((size, 1), bool))
