"""Leaving out the branch of a residual block, at random, in training."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class StochasticDepth(nn.Module, kw_only=True):
    """x, or zeros for a row in `rate` of the cases (Huang et al. 2016, arXiv 1603.09382, eq. 2).

    What is kept is divided by 1 - rate, so that its expectation is x and evaluation needs no factor (their eq. 5).
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "b *n d"], *, train: bool) -> Float[Array, "b *n d"]:
        if not 0 <= self.rate < 1:
            raise ValueError(f"StochasticDepth: rate is {self.rate}, expected 0 <= rate < 1")
        if not train or self.rate == 0:
            return x
        shape = (x.shape[0], *(1,) * (x.ndim - 1))
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, shape)
        return jnp.where(kept, x / (1 - self.rate), 0)


def rate_of(block: int, num_blocks: int, last: float) -> float:
    """The rate of a block, 0, 1, ...: it grows by equal steps to `last` (Huang et al. 2016, eq. 4)."""
    return last * (block + 1) / num_blocks
