"""Attention with several heads, its cache, and the masks.

A mask is Bool, True where a query may look, of any shape that broadcasts to [b q n].
"""

from typing import Any

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from vlm_jax.layers.norm import Norm
from vlm_jax.layers.positions import Rotary, rotary


@flax.struct.dataclass
class KeyValueCache:
    """Keys and values of the positions read so far, with room for more."""

    keys: Array  # Float[b n i d]
    values: Array  # Float[b n i d]
    position: Array  # Int[b], how many positions are taken


class MultiHeadAttention(nn.Module, kw_only=True):
    """Scaled dot products in `num_heads` heads (Vaswani et al. 2017, eq. 1): [b q d] -> [b q width].

    With `num_kv_heads` groups of heads share keys and values (Ainslie et al. 2023). A query that may look
    nowhere gets zeros. Dropout falls on the weights. Sows "weights" [b i q n] in "intermediates".

    In the order of their use: `query_key_norm` norms every query and key over its head (Henry et al. 2020, arXiv
    2010.04245); `rotary` turns both by their positions; their products are multiplied by `scale`, 1 / sqrt(head width)
    where it is None, and bent to stay within +-`soft_cap` (Gemma Team 2024, arXiv 2408.00118, section 2).
    """

    num_heads: int
    width: int
    dropout_rate: float = 0.0
    num_kv_heads: int | None = None
    head_width: int | None = None  # None: width / num_heads
    use_bias: bool = True
    scale: float | None = None
    soft_cap: float | None = None
    query_key_norm: Norm | None = None
    rotary: Rotary | None = None
    dtype: Any = jnp.float32

    def setup(self):
        heads, kv_heads = self.num_heads, self.num_kv_heads or self.num_heads
        if (self.head_width is None and self.width % heads) or heads % kv_heads:
            raise ValueError(
                f"MultiHeadAttention was given width={self.width}, num_heads={heads}, num_kv_heads={kv_heads}; "
                "expected num_heads to divide width, and num_kv_heads to divide num_heads. Try head_width=..."
            )

        def project(number, name):
            shape = (number, self._head_width)
            return nn.DenseGeneral(shape, use_bias=self.use_bias, dtype=self.dtype, name=name)

        self.query = project(heads, "query")
        self.key = project(kv_heads, "key")
        self.value = project(kv_heads, "value")
        self.output = nn.DenseGeneral(
            self.width, axis=(-2, -1), use_bias=self.use_bias, dtype=self.dtype
        )
        self.dropout = nn.Dropout(self.dropout_rate)

    def __call__(
        self,
        queries: Float[Array, "b q d"],
        memory: Float[Array, "b n e"],
        mask: Bool[Array, "..."] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "b q w"]:
        """Without `rotary`, which needs to know the positions."""
        x, weights = self.attend(queries, *self.keys_values(memory), mask, train=train)
        self.sow("intermediates", "weights", weights)
        return x

    @property
    def _head_width(self) -> int:
        return self.head_width or self.width // self.num_heads

    def keys_values(
        self, memory: Float[Array, "b n e"], positions: Int[Array, "b n"] | None = None
    ) -> tuple[Float[Array, "b n i d"], Float[Array, "b n i d"]]:
        """What `attend` needs of a memory; computed once where the memory stays the same."""
        return self._placed(self.key(memory), positions, "key_norm"), self.value(memory)

    @nn.compact
    def _normed(self, x: Float[Array, "b n i d"], name: str) -> Float[Array, "b n i d"]:
        return self.query_key_norm(x, train=False, dtype=self.dtype, name=name)

    def _placed(self, x: Float[Array, "b n i d"], positions, name: str) -> Float[Array, "b n i d"]:
        if self.query_key_norm is not None:
            x = self._normed(x, name)
        if self.rotary is None:
            return x
        if positions is None:
            raise ValueError("MultiHeadAttention(rotary=...): expected positions, given None")
        return rotary(x, positions, form=self.rotary)

    def attend(
        self,
        queries: Float[Array, "b q d"],
        keys: Float[Array, "b n i d"],
        values: Float[Array, "b n i d"],
        mask: Bool[Array, "..."] | None,
        *,
        positions: Int[Array, "b q"] | None = None,
        bias: Float[Array, "#b i q n"] | None = None,
        train: bool,
    ) -> tuple[Float[Array, "b q w"], Float[Array, "b i q n"]]:
        """The result, and the weights before dropout. `positions` are the queries'; `bias` is added to the scores."""
        query = self._placed(self.query(queries), positions, "query_norm")
        b, q, heads, d = query.shape
        groups = keys.shape[2]
        query = query.reshape(b, q, groups, heads // groups, d)
        if self.scale is None:
            query = query / jnp.sqrt(d).astype(query.dtype)
        elif self.scale != 1.0:
            query = query * jnp.asarray(self.scale, query.dtype)
        scores = jnp.einsum("bqgrd,bngd->bgrqn", query, keys)
        scores = scores.astype(jnp.float32)
        if self.soft_cap is not None:
            scores = soft_capped(scores, self.soft_cap)
        if bias is not None:
            scores = scores + bias.reshape(-1, groups, heads // groups, q, keys.shape[1])
        if mask is None:
            weights = nn.softmax(scores)
        else:
            mask = jnp.broadcast_to(mask, (b, q, keys.shape[1]))
            weights = masked_softmax(scores, mask[:, None, None])
        kept = self.dropout(weights.astype(values.dtype), deterministic=not train)
        x = jnp.einsum("bgrqn,bngd->bqgrd", kept, values)
        x = self.output(x.reshape(b, q, heads, d))
        # Without this a query that looks nowhere would get the output layer's bias.
        if mask is not None:
            x = jnp.where(mask.any(-1)[..., None], x, 0)
        return x, weights.reshape(b, heads, q, keys.shape[1])

    def initial_cache(self, batch_size: int, max_length: int) -> KeyValueCache:
        shape = (
            batch_size,
            max_length,
            self.num_kv_heads or self.num_heads,
            self._head_width,
        )
        zeros = jnp.zeros(shape, self.dtype)
        return KeyValueCache(keys=zeros, values=zeros, position=jnp.zeros(batch_size, jnp.int32))

    def extend(
        self,
        x: Float[Array, "b q d"],
        cache: KeyValueCache,
        mask: Bool[Array, "..."],
        positions: Int[Array, "b q"] | None = None,
        bias: Float[Array, "#b i q n"] | None = None,
    ) -> tuple[Float[Array, "b q w"], KeyValueCache]:
        """Self-attention of q more positions, over themselves and those read before; no dropout.

        The mask is over the whole cache: [b q capacity], and so is the bias. A row that has no room for the q
        positions gives NaN.
        """
        q, capacity = x.shape[1], cache.keys.shape[1]
        keys, values = self.keys_values(x, positions)
        rows = jnp.arange(x.shape[0])[:, None]
        places = cache.position[:, None] + jnp.arange(q)[None]  # [b q]
        # JAX drops what is written outside an array without a word; the NaN below speaks up.
        new = KeyValueCache(
            keys=cache.keys.at[rows, places].set(keys.astype(cache.keys.dtype), mode="drop"),
            values=cache.values.at[rows, places].set(
                values.astype(cache.values.dtype), mode="drop"
            ),
            position=cache.position + q,
        )
        x, _ = self.attend(
            x, new.keys, new.values, mask, positions=positions, bias=bias, train=False
        )
        return jnp.where((places < capacity)[..., None], x, jnp.nan), new


def soft_capped(x: Float[Array, "*n"], cap: float) -> Float[Array, "*n"]:
    """cap tanh(x / cap): nearly x while it is small, never beyond +-cap."""
    return cap * jnp.tanh(x / cap)


def masked_softmax(
    scores: Float[Array, "*b n"], mask: Bool[Array, "*#b n"]
) -> Float[Array, "*b n"]:
    """Softmax over the last axis among the True; zeros elsewhere, exactly, and where none is True."""
    least = jnp.finfo(scores.dtype).min
    scores = jnp.where(mask, scores, least)
    largest = lax.stop_gradient(scores.max(axis=-1, keepdims=True, initial=least))
    powers = jnp.where(mask, jnp.exp(scores - largest), 0)
    total = powers.sum(axis=-1, keepdims=True)
    return powers / jnp.where(total == 0, 1, total)


def causal_mask(length: int) -> Bool[Array, "1 l l"]:
    """Each position sees itself and those before it."""
    return jnp.tril(jnp.ones((1, length, length), bool))


def prefix_mask(prefix_length: int, length: int) -> Bool[Array, "1 n n"]:
    """The prefix sees all of itself and nothing of the text; the text sees the prefix and what came before.

    prefix 2, text 2 -> [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    """
    mask = causal_mask(prefix_length + length)
    return mask.at[:, :, :prefix_length].set(True)


def window_mask(
    queries: Int[Array, "b q"], keys: Int[Array, "b n"], window: int
) -> Bool[Array, "b q n"]:
    """Of these positions, each sees its own and the `window` - 1 before and after it (Beltagy et al. 2020, arXiv
    2004.05150); a causal mask takes away those after."""
    return abs(queries[:, :, None] - keys[:, None, :]) < window


def padding_mask(kept: Bool[Array, "b n"]) -> Bool[Array, "b 1 n"]:
    """Nobody sees padding."""
    return kept[:, None, :]


def positions(
    kept: Bool[Array, "b l"], segment: Int[Array, "b l"] | None = None
) -> Int[Array, "b l"]:
    """The number of real positions before each, so that padding on the left moves nothing; in a row of several
    segments, of those before it in its own.

    [[0, 1, 1], [1, 1, 0]] -> [[0, 0, 1], [0, 1, 2]]
    """
    kept = kept.astype(jnp.int32)
    before = jnp.cumsum(kept, axis=1) - kept
    if segment is None:
        return before
    begins = jnp.pad(segment[:, 1:] != segment[:, :-1], ((0, 0), (1, 0)))
    return before - lax.cummax(jnp.where(begins, before, 0), axis=1)


def segment_mask(segment: Int[Array, "b l"], num_before: int = 0) -> Bool[Array, "b n n"]:
    """Each position sees its own segment, and the `num_before` positions of a prefix that all segments have."""
    same = segment[:, :, None] == segment[:, None, :]
    return jnp.pad(same, ((0, 0), (num_before, 0), (num_before, 0)), constant_values=True)
