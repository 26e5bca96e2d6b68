"""Tables of word vectors."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vlm_jax.types import NUM_SPECIAL


class Embedding(nn.Module, kw_only=True):
    """A vector for each token. `logits` scores all tokens with the same table (Press and Wolf 2017).

    A token outside the table gives NaN, which stops a run; JAX itself would give the last row.

    With `digits` the token NUM_SPECIAL + c is a code c of a FiniteScalarQuantiser with these levels, and to its own
    vector is added one for each of its digits, which it shares with all codes that have this digit there: codes that
    differ in one number only are painted almost alike, and are to be read and scored almost alike. Tokens beyond those
    of the codes have their own vector alone.
    """

    vocab_size: int
    width: int
    stddev: float = 0.1  # of the first values, where there is no `table_init`
    table_init: Callable | None = None
    digits: tuple[int, ...] = ()
    dtype: Any = jnp.float32

    def setup(self):
        # What is summed has the deviation that was asked for.
        stddev = self.stddev * (1 + len(self.digits)) ** -0.5
        init = self.table_init or nn.initializers.normal(stddev)
        self.table = self.param("table", init, (self.vocab_size, self.width))
        if not self.digits:
            return
        codes = math.prod(self.digits)
        if codes + NUM_SPECIAL > self.vocab_size:
            raise ValueError(
                f"Embedding(vocab_size={self.vocab_size}, digits={self.digits}): expected vocab_size at least "
                f"{codes + NUM_SPECIAL}, the {codes} codes of these digits and {NUM_SPECIAL} tokens that are none"
            )
        shared, code = 0, np.arange(codes)
        for i, base in enumerate(self.digits):
            vectors = self.param(f"digit_{i}", init, (base, self.width))
            shared, code = shared + vectors[code % base], code // base
        self.table = self.table.at[NUM_SPECIAL : NUM_SPECIAL + codes].add(shared)

    def __call__(self, tokens: Int[Array, "*l"]) -> Float[Array, "*l d"]:
        # Negative indices would count from the end.
        tokens = jnp.where(tokens < 0, self.vocab_size, tokens)
        rows = jnp.take(self.table, tokens, axis=0, mode="fill", fill_value=jnp.nan)
        return rows.astype(self.dtype)

    def logits(self, x: Float[Array, "*l d"]) -> Float[Array, "*l v"]:
        """x times the table, in float32."""
        scores = x.astype(self.dtype) @ self.table.astype(self.dtype).T
        return scores.astype(jnp.float32)


class Vocabulary(nn.Module, kw_only=True):
    """Scores of all tokens, in float32: a linear layer, or the embedding's own table where that is given."""

    vocab_size: int
    kernel_init: Callable | None = None  # of the linear layer
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "*l d"], table: Embedding | None = None
    ) -> Float[Array, "*l v"]:
        if table is None:
            init = self.kernel_init or nn.linear.default_kernel_init
            form = {"use_bias": self.use_bias, "kernel_init": init, "dtype": self.dtype}
            return nn.Dense(self.vocab_size, **form, name="linear")(x).astype(jnp.float32)
        if x.shape[-1] != table.width:
            x = nn.Dense(table.width, use_bias=False, dtype=self.dtype, name="projection")(x)
        logits = table.logits(x)
        if not self.use_bias:
            return logits
        return logits + self.param("bias", nn.initializers.zeros, (self.vocab_size,))
