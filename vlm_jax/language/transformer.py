"""Transformers over text: an encoder, and a decoder that reads its memory by cross-attention or as a prefix.

Vaswani et al. 2017 (arXiv 1706.03762), with the norm before each block (Xiong et al. 2020) unless said.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vlm_jax.language.embeddings import Embedding, Vocabulary
from vlm_jax.layers.attention import (
    KeyValueCache,
    MultiHeadAttention,
    causal_mask,
    padding_mask,
    positions,
    prefix_mask,
)
from vlm_jax.layers.mlp import Mlp
from vlm_jax.layers.norm import LayerNorm, Norm
from vlm_jax.layers.positions import LearnedPositions, sinusoidal
from vlm_jax.types import PAD, Cache, Features


class TransformerEncoder(nn.Module, kw_only=True):
    """Reads text in both directions: Int[b l] -> Features [b l width]. Padding may stand on either side.

    The last values are normed where `pre_norm`, and zero at padding. An `embedding` that is given takes the place of
    its own.
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    hidden: int
    max_length: int | None = None  # learned positions up to there; None: sinusoidal
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    num_kv_heads: int | None = None
    activation: Callable = nn.gelu
    pre_norm: bool = True
    norm: Norm = LayerNorm()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b l"], *, embedding: nn.Module | None = None, train: bool
    ) -> Features:
        mask = tokens != PAD
        if embedding is None:
            embedding = PlacedEmbedding(**_shared(self, PlacedEmbedding), name="embedding")
        x = embedding(tokens, positions(mask), train=train)
        for i in range(self.num_layers):
            block = Block(**_shared(self, Block), name=f"block_{i}")
            x, _ = block(x, padding_mask(mask), train=train)
        if self.pre_norm:
            x = self.norm(x, train=train, dtype=self.dtype, name="norm")
        return Features(values=jnp.where(mask[..., None], x, 0), mask=mask)


class TransformerDecoder(nn.Module, kw_only=True):
    """Writes text: p(token | tokens before it, memory). Without a memory it is a language model.

    Every block reads the memory by cross-attention; with `prefix` the memory, projected to `width`, stands
    before the text instead, where all of it sees itself and the text sees all of it:

               p1 p2 t1 t2
            p1  1  1  0  0
            p2  1  1  0  0
            t1  1  1  1  0
            t2  1  1  1  1

    A token's position is the number of real tokens before it, so padding on the left changes nothing; nobody
    sees padding. The prefix has no positions but those its encoder gave it. Word vectors are multiplied by
    sqrt(width) (section 3.4), and score the words where `tied`.

    Every block sows the weights of the text over the memory, "attention" [b i l n], in "intermediates".
    A step beyond the cache's max_length gives NaN, and so does a learned position beyond `max_length`.

    Where it is not `causal` every token sees all others: logits of each of `tokens` itself, some of which are masked
    (Chang et al. 2022). Such a decoder has no steps; `decoding.masked` writes with it.
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    hidden: int
    prefix: bool = False
    causal: bool = True
    max_length: int | None = None  # learned positions up to there; None: sinusoidal
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    num_kv_heads: int | None = None
    activation: Callable = nn.gelu
    pre_norm: bool = True
    tied: bool = True
    norm: Norm = LayerNorm()
    dtype: Any = jnp.float32

    def setup(self):
        if self.prefix and not self.causal:
            raise ValueError("TransformerDecoder(prefix=True, causal=False): leave one of them out")
        self.embedding = PlacedEmbedding(**_shared(self, PlacedEmbedding))
        self.blocks = [Block(**_shared(self, Block)) for _ in range(self.num_layers)]
        self.vocabulary = Vocabulary(vocab_size=self.vocab_size, dtype=self.dtype)
        if self.prefix:
            self.projection = nn.Dense(self.width, dtype=self.dtype)

    def __call__(
        self, tokens: Int[Array, "b l"], memory: Features | None, *, train: bool
    ) -> Float[Array, "b l v"]:
        """Logits of the token after each of `tokens`."""
        kept = tokens != PAD
        x = self.embedding(tokens, positions(kept), train=train)
        length = tokens.shape[1]
        mask = causal_mask(length) if self.causal else jnp.ones((1, length, length), bool)
        num_before = 0
        if self.prefix and memory is not None:
            num_before = memory.mask.shape[1]
            x = jnp.concatenate([self.projection(memory.values).astype(x.dtype), x], axis=1)
            kept = jnp.concatenate([memory.mask, kept], axis=1)
            mask = prefix_mask(num_before, tokens.shape[1])
            memory = None
        mask = mask & padding_mask(kept)
        for block in self.blocks:
            beside = None if memory is None else (block.memory_keys(memory), memory.mask)
            x, _ = block(x, mask, beside, num_before=num_before, train=train)
        return self.logits(x[:, num_before:], train=train)

    def initial_cache(self, memory: Features | None, batch_size: int, max_length: int) -> Cache:
        """Keys and values of the memory, and room for max_length tokens.

        {"blocks": self-attention's, "memory": cross-attention's, "kept": which places of the former may be
        seen [b n+l], "position": of the next token [b]}
        """
        if not self.causal:
            raise ValueError(
                "TransformerDecoder(causal=False) has no steps: it reads all tokens at once; try MaskedDecoding"
            )
        num_before = memory.mask.shape[1] if self.prefix and memory is not None else 0
        capacity = num_before + max_length
        caches = [block.self_attention.initial_cache(batch_size, capacity) for block in self.blocks]
        kept = jnp.zeros((batch_size, capacity), bool)
        beside = ()
        if num_before:
            kept = kept.at[:, :num_before].set(memory.mask)
            x = self.projection(memory.values)
            for i, block in enumerate(self.blocks):
                x, caches[i] = block(x, padding_mask(kept), cache=caches[i], train=False)
        elif memory is not None:
            beside = tuple(block.memory_keys(memory) for block in self.blocks)
        position = jnp.zeros(batch_size, jnp.int32)
        return {"blocks": tuple(caches), "memory": beside, "kept": kept, "position": position}

    def step(
        self, token: Int[Array, "b"], cache: Cache, memory: Features | None
    ) -> tuple[Float[Array, "b v"], Cache]:
        logits, cache = self.extend(token[:, None], cache, memory)
        return logits[:, 0], cache

    def extend(
        self, tokens: Int[Array, "b l"], cache: Cache, memory: Features | None
    ) -> tuple[Float[Array, "b l v"], Cache]:
        """`step` for several tokens at once, such as a prompt."""
        b, l = tokens.shape
        real = tokens != PAD
        x = self.embedding(tokens, cache["position"][:, None] + positions(real), train=False)
        places = cache["blocks"][0].position[:, None] + jnp.arange(l)[None]  # [b l]
        kept = cache["kept"].at[jnp.arange(b)[:, None], places].set(real, mode="drop")
        before = jnp.arange(kept.shape[1])[None, None] <= places[:, :, None]  # [b l n+l]
        caches = []
        for i, block in enumerate(self.blocks):
            beside = (cache["memory"][i], memory.mask) if cache["memory"] else None
            x, block_cache = block(
                x, before & padding_mask(kept), beside, cache=cache["blocks"][i], train=False
            )
            caches.append(block_cache)
        return self.logits(x, train=False), {
            "blocks": tuple(caches),
            "memory": cache["memory"],
            "kept": kept,
            "position": cache["position"] + real.sum(axis=1, dtype=jnp.int32),
        }

    @nn.compact
    def logits(self, x: Float[Array, "b l d"], *, train: bool) -> Float[Array, "b l v"]:
        if self.pre_norm:
            x = self.norm(x, train=train, dtype=self.dtype, name="norm")
        return self.vocabulary(x, self.embedding.words if self.tied else None)


class PlacedEmbedding(nn.Module, kw_only=True):
    """sqrt(width) times the word vector, plus the position's, then dropout (Vaswani et al. 2017, 3.4-3.5)."""

    vocab_size: int
    width: int
    max_length: int | None = None
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    def setup(self):
        self.words = Embedding(
            vocab_size=self.vocab_size,
            width=self.width,
            stddev=self.width**-0.5,
            dtype=self.dtype,
        )
        if self.max_length is not None:
            # Half the word vectors' deviation, as in GPT-2.
            self.places = LearnedPositions(max_length=self.max_length, width=self.width, stddev=0.5)
        self.dropout = nn.Dropout(self.dropout_rate)

    def __call__(
        self, tokens: Int[Array, "b l"], positions: Int[Array, "b l"], *, train: bool
    ) -> Float[Array, "b l d"]:
        if self.max_length is None:
            places = sinusoidal(positions, width=self.width)
        else:
            places = self.places(positions)
        x = self.words(tokens) * self.width**0.5 + places.astype(self.dtype)
        return self.dropout(x, deterministic=not train)


class Block(nn.Module, kw_only=True):
    """x + f(norm(x)) for f = self-attention, attention over the memory, MLP; or norm(x + f(x))."""

    width: int
    num_heads: int
    hidden: int
    dropout_rate: float
    attention_dropout_rate: float
    num_kv_heads: int | None
    activation: Callable
    pre_norm: bool
    norm: Norm
    dtype: Any

    def setup(self):
        fields = {
            "num_heads": self.num_heads,
            "width": self.width,
            "dropout_rate": self.attention_dropout_rate,
            "num_kv_heads": self.num_kv_heads,
            "dtype": self.dtype,
        }
        self.self_attention = MultiHeadAttention(**fields)
        self.cross_attention = MultiHeadAttention(**fields)
        self.mlp = Mlp(
            hidden=self.hidden,
            activation=self.activation,
            dropout_rate=self.dropout_rate,
            dtype=self.dtype,
        )
        self.dropout = nn.Dropout(self.dropout_rate)

    def memory_keys(self, memory: Features) -> tuple[Array, Array]:
        return self.cross_attention.keys_values(memory.values.astype(self.dtype))

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        mask: Bool[Array, "..."],
        beside: tuple[tuple[Array, Array], Bool[Array, "b n"]] | None = None,
        *,
        cache: KeyValueCache | None = None,
        num_before: int = 0,
        train: bool,
    ) -> tuple[Float[Array, "b l d"], KeyValueCache | None]:
        """`beside`: keys and values of the memory, and its mask. The first `num_before` of x are a prefix."""

        def attention(y):
            nonlocal cache
            if cache is not None:
                y, cache = self.self_attention.extend(y, cache, mask)
                return y
            y, weights = self.self_attention.attend(
                y, *self.self_attention.keys_values(y), mask, train=train
            )
            if num_before:
                text_over_prefix = weights[:, :, num_before:, :num_before]
                self.sow("intermediates", "attention", text_over_prefix)
            return self.dropout(y, deterministic=not train)

        def cross_attention(y):
            keys_values, memory_mask = beside
            y, weights = self.cross_attention.attend(
                y, *keys_values, padding_mask(memory_mask), train=train
            )
            self.sow("intermediates", "attention", weights)
            return self.dropout(y, deterministic=not train)

        x = self._residual(x, attention, "self_attention_norm", train)
        if beside is not None:
            x = self._residual(x, cross_attention, "cross_attention_norm", train)
        return self._residual(x, lambda y: self.mlp(y, train=train), "mlp_norm", train), cache

    def _residual(self, x, f, name, train):
        def norm(y):
            return self.norm(y, train=train, dtype=self.dtype, name=name)

        y = f(norm(x)) if self.pre_norm else f(x)
        return x + y if self.pre_norm else norm(x + y)


def _shared(module: nn.Module, part: type[nn.Module]) -> dict[str, Any]:
    """The fields that a module hands on to its part: those of the same name."""
    names = {f.name for f in dataclasses.fields(part)} - {"parent", "name"}
    return {name: getattr(module, name) for name in names if hasattr(module, name)}
