"""Vectors -> codes of a finite set: a codebook that follows its vectors, or rounding each number.

A quantiser has fields or properties `num_codes` and `width` (of the vectors that it takes), is called with vectors
[b n width], and looks codes up again: `lookup(codes) == values` of the same call, but for the gradient.
"""

import math
from typing import NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vlm_jax.layers.norm import is_mapped

CODEBOOK = "codebook"  # the Linen collection of what follows the vectors without a gradient


class Quantised(NamedTuple):
    """`values` pass the gradient on to the vectors as if nothing had been rounded (straight through)."""

    values: Array  # Float[b n width]
    codes: Array  # Int[b n]
    commitment: Array  # Float[b], to be added to what is minimised; zeros where there is nothing to commit to


class Quantiser(Protocol):
    num_codes: int
    width: int

    def __call__(
        self, vectors: Float[Array, "b n d"], *, valid: Bool[Array, "b"] | None = None, train: bool
    ) -> Quantised: ...

    def lookup(self, codes: Int[Array, "b n"]) -> Float[Array, "b n d"]: ...


class VectorQuantiser(nn.Module, kw_only=True):
    """The nearest of `num_codes` vectors that are moving averages of what they stand for.

    van den Oord et al. 2017 (arXiv 1711.00937), eq. 1-2 and appendix A.1: with n_i the vectors of this batch nearest to
    code i and their sum s_i,

        N_i <- g N_i + (1 - g) n_i      m_i <- g m_i + (1 - g) s_i      e_i = m_i / N_i

    in the collection "codebook", in training only; rows that are not `valid` do not count. `commitment` times the mean
    squared distance to the chosen code (the last term of eq. 3) is left to be minimised.

    A code is dead where N_i, how often a batch uses it, is below `dead_below`: it begins anew at a vector of this batch,
    drawn with a probability in proportion to its squared distance from the code nearest to it (as k-means++ draws its
    next centre). In the first update all are. The draw depends on the number of the update and nothing else, so that
    a resumed run and every device draw alike. Where the mapped axis `axis_name` is in scope (pmap), uses, sums and the
    vectors to begin from are those of the global batch; under a mesh they are anyway.
    """

    num_codes: int
    width: int
    decay: float = 0.98
    commitment: float = 0.25
    dead_below: float = 0.3
    axis_name: str | None = "data"

    def setup(self):
        shape = (self.num_codes, self.width)
        drawn = nn.initializers.normal(self.width**-0.5)
        self.vectors = self.variable(
            CODEBOOK, "vectors", lambda: drawn(self.make_rng("params"), shape)
        )
        self.uses = self.variable(CODEBOOK, "uses", jnp.zeros, shape[:1])
        self.sums = self.variable(CODEBOOK, "sums", jnp.zeros, shape)
        self.updates = self.variable(CODEBOOK, "updates", jnp.zeros, (), jnp.int32)

    def __call__(
        self, vectors: Float[Array, "b n d"], *, valid: Bool[Array, "b"] | None = None, train: bool
    ) -> Quantised:
        given = jax.lax.stop_gradient(vectors.astype(jnp.float32))
        codes, distances = self._nearest(given)
        chosen = self.lookup(codes)
        if train and not self.is_initializing() and self.is_mutable_collection(CODEBOOK):
            kept = jnp.ones(codes.shape[0], bool) if valid is None else valid
            kept = jnp.repeat(kept, codes.shape[1])
            self._follow(
                given.reshape(-1, self.width), codes.reshape(-1), distances.reshape(-1), kept
            )
        committed = jnp.square(vectors.astype(jnp.float32) - chosen).mean((1, 2))
        return Quantised(
            values=vectors + jax.lax.stop_gradient(chosen.astype(vectors.dtype) - vectors),
            codes=codes,
            commitment=self.commitment * committed,
        )

    def lookup(self, codes: Int[Array, "b n"]) -> Float[Array, "b n d"]:
        return jax.lax.stop_gradient(self.vectors.value)[codes]

    def _nearest(self, x: Float[Array, "b n d"]) -> tuple[Int[Array, "b n"], Float[Array, "b n"]]:
        """The nearest code, and the squared distance from it."""
        table = jax.lax.stop_gradient(self.vectors.value)
        # |x - e|^2 but for |x|^2, which is the same for all codes.
        partly = jnp.square(table).sum(-1) - 2.0 * x @ table.T  # [b n k]
        codes = partly.argmin(-1)
        nearest = partly.min(-1) + jnp.square(x).sum(-1)
        return codes, jnp.maximum(nearest, 0.0)

    def _follow(self, x, codes, distances, kept):
        """The moving averages after this batch [m d], and new places for dead codes."""
        uses = jax.ops.segment_sum(kept.astype(jnp.float32), codes, self.num_codes)
        sums = jax.ops.segment_sum(jnp.where(kept[:, None], x, 0.0), codes, self.num_codes)
        if is_mapped(self.axis_name):
            uses, sums = jax.lax.psum((uses, sums), self.axis_name)
            x, distances, kept = jax.lax.all_gather(
                (x, distances, kept), self.axis_name, axis=0, tiled=True
            )
        uses = self.decay * self.uses.value + (1.0 - self.decay) * uses
        sums = self.decay * self.sums.value + (1.0 - self.decay) * sums

        dead = self._dead(uses)
        starts = self._starts(x, distances, kept)
        turn = (jnp.cumsum(dead) - 1) % jnp.maximum(kept.sum(), 1)  # of each dead code
        start = starts[turn]  # [k d]

        self.uses.value = jnp.where(dead, 1.0, uses)
        self.sums.value = jnp.where(dead[:, None], start, sums)
        self.vectors.value = self.sums.value / jnp.maximum(self.uses.value, 1e-5)[:, None]
        self.updates.value += 1

    def _dead(self, uses: Float[Array, "k"]) -> Bool[Array, "k"]:
        return (uses < self.dead_below) | (self.updates.value == 0)

    def _starts(
        self, x: Float[Array, "m d"], distances: Float[Array, "m"], kept: Bool[Array, "m"]
    ) -> Float[Array, "m d"]:
        """The vectors in the order in which dead codes begin at them, those that are not kept last."""
        key = jax.random.fold_in(jax.random.key(0), self.updates.value)
        # Gumbel noise on log weights: the order is that of draws without replacement.
        weights = jnp.where(kept, jnp.log(jnp.maximum(distances, 1e-12)), -jnp.inf)
        return x[jnp.argsort(-(weights + jax.random.gumbel(key, weights.shape)))]


class FiniteScalarQuantiser(nn.Module, kw_only=True):
    """Each of a few numbers rounded to one of `levels` values. Mentzer et al. 2024 (arXiv 2309.15505), section 3.1.

    Number i is squashed by tanh to the span of levels[i] whole numbers, shifted by a half where they are even, and
    rounded; values are divided by levels[i] // 2, so that they lie in [-1, 1]. The code is the number written with
    these digits, the first one the lowest. No codebook, nothing to commit to, nothing to keep alive.
    """

    levels: tuple[int, ...] = (8, 8, 8)

    def setup(self):
        if not self.levels or min(self.levels) < 3:
            raise ValueError(
                f"FiniteScalarQuantiser(levels={self.levels}): expected at least 3 levels for each number"
            )

    @property
    def num_codes(self) -> int:
        return math.prod(self.levels)

    @property
    def width(self) -> int:
        return len(self.levels)

    def __call__(
        self, vectors: Float[Array, "b n d"], *, valid: Bool[Array, "b"] | None = None, train: bool
    ) -> Quantised:
        bounded = self._bounded(vectors.astype(jnp.float32))
        rounded = bounded + jax.lax.stop_gradient(jnp.round(bounded) - bounded)
        digits = jax.lax.stop_gradient(jnp.round(bounded)).astype(jnp.int32) + self._half
        return Quantised(
            values=(rounded / self._half).astype(vectors.dtype),
            codes=(digits * self._places).sum(-1),
            commitment=jnp.zeros(vectors.shape[0], jnp.float32),
        )

    def lookup(self, codes: Int[Array, "b n"]) -> Float[Array, "b n d"]:
        digits = (codes[..., None] // self._places) % jnp.array(self.levels)
        return (digits - self._half) / self._half.astype(jnp.float32)

    @property
    def _half(self) -> Int[Array, "d"]:
        return jnp.array([level // 2 for level in self.levels])

    @property
    def _places(self) -> Int[Array, "d"]:
        return jnp.array([math.prod(self.levels[:i]) for i in range(len(self.levels))])

    def _bounded(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        levels = jnp.array(self.levels, jnp.float32)
        # A little less than the whole span, or a half would round to a level that is not there.
        span = (levels - 1.0) * (1.0 - 1e-3) / 2.0
        offset = jnp.where(levels % 2 == 0, 0.5, 0.0)
        return jnp.tanh(x + jnp.arctanh(offset / span)) * span - offset
