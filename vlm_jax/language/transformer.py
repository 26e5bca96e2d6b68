"""Transformers over text: an encoder, and a decoder that reads its memory by cross-attention, as a prefix, or in places
that the text keeps for it.

Vaswani et al. 2017 (arXiv 1706.03762), with the norm before each block (Xiong et al. 2020) unless said. What today's
models do otherwise is a `Form`, the same for all blocks, and a `Layer` for each of them.
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
    segment_mask,
    soft_capped,
    window_mask,
)
from vlm_jax.layers.mlp import GatedMlp, Mlp
from vlm_jax.layers.norm import LayerNorm, Norm
from vlm_jax.layers.positions import LearnedPositions, RelativePositions, Rotary, sinusoidal
from vlm_jax.types import BOS, EOS, PAD, Cache, Features


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """Where blocks depart from Vaswani et al.; the defaults do not. The fields of attention are MultiHeadAttention's."""

    head_width: int | None = None
    use_bias: bool = True  # of all linear layers of the blocks
    scale: float | None = None
    soft_cap: float | None = None
    query_key_norm: Norm | None = None
    gated: bool = False  # layers.mlp.GatedMlp
    sandwich: bool = False  # x + norm(f(norm(x))), with `pre_norm`
    output_scale: float = 1.0  # of what the words are scored by, after the last norm
    final_soft_cap: float | None = None  # of the logits
    # Of the word vectors: times sqrt(width); with a vector of the place in the text added; and of which segment it is,
    # one that every EOS before it ends (BERT); the sum normed.
    scale_words: bool = True
    add_places: bool = True
    num_segments: int = 0
    norm_words: bool = False
    # The token whose vector BOS has too, where one token is both (GPT-2).
    bos_like: int | None = None
    output_bias: bool = True  # of the scores of words where they are tied
    head_layer: bool = False  # linear, activation, norm, before the words are scored (BERT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """What differs from block to block: its self-attention sees `window` real places back, itself among them (None: all),
    and turns queries and keys by their positions."""

    window: int | None = None
    rotary: Rotary | None = None


class TransformerEncoder(nn.Module, kw_only=True):
    """Reads text in both directions: Int[b l] -> Features [b l width]. Padding may stand on either side.

    The last values are normed where `pre_norm`, and zero at padding. An `embedding` that is given takes the place of
    its own; a `memory` is read by cross-attention in every block. With `filled_with`, a token, a text is that token from
    its end to `max_length`, and everyone sees it, as SigLIP was trained (Zhai et al. 2023).
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
    form: Form = Form()
    layers: tuple[Layer, ...] = (Layer(),)  # of the first blocks, and again from the beginning
    relative: int | None = None  # so many buckets of distances (layers.positions.RelativePositions)
    causal: bool = False
    filled_with: int | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "b l"],
        *,
        embedding: nn.Module | None = None,
        memory: Features | None = None,
        train: bool,
    ) -> Features:
        mask = tokens != PAD
        if self.filled_with is not None:
            if self.max_length is None:
                raise ValueError(
                    f"TransformerEncoder(filled_with={self.filled_with}, max_length=None): expected a length to fill texts "
                    "up to; give max_length"
                )
            tokens = filled(tokens, self.filled_with, self.max_length)
            mask = jnp.ones(tokens.shape, bool)
        if embedding is None:
            embedding = PlacedEmbedding(**_shared(self, PlacedEmbedding), name="embedding")
        place = positions(mask)
        x = embedding(tokens, place, train=train)
        seen, length = padding_mask(mask), tokens.shape[1]
        if self.causal:
            seen = seen & causal_mask(length)
        bias = None
        if self.relative is not None:
            relative = RelativePositions(
                num_heads=self.num_heads, num_buckets=self.relative, name="relative"
            )
            bias = relative(jnp.arange(length)[None], jnp.arange(length))
        for i in range(self.num_layers):
            layer = self.layers[i % len(self.layers)]
            block = Block(**_shared(self, Block), layer=layer, name=f"block_{i}")
            beside = None if memory is None else (block.memory_keys(memory), memory.mask)
            places = {"positions": place, "key_positions": place, "bias": bias}
            x, _ = block(x, seen, beside, **places, train=train)
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
    (Chang et al. 2022); `decoding.masked` writes with it. Of such a text the first `num_causal` tokens, BOS among them, may
    be causal: each sees those before it and gives the logits of the next, and the others see them and each other. Only those
    have steps, and the others are read behind them in one piece.

    With an `image_token` the memory's vectors, of the decoder's own width, stand in the text instead, the k-th in the
    place of the k-th such token (Liu et al. 2023, arXiv 2304.08485); a text with more or fewer of them, unless none, gives NaN. With
    a `prefix_end` all tokens up to the first such one, the prompt, see each other (Beyer et al. 2024, arXiv 2407.07726,
    figure 2); a cache has to be given that prompt in one piece: a piece with its end, where the first had none, gives NaN.
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    hidden: int
    prefix: bool = False
    causal: bool = True
    num_causal: int = 0  # of a decoder that is not causal
    max_length: int | None = None  # learned positions up to there; None: sinusoidal
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    num_kv_heads: int | None = None
    activation: Callable = nn.gelu
    pre_norm: bool = True
    tied: bool = True
    norm: Norm = LayerNorm()
    form: Form = Form()
    layers: tuple[Layer, ...] = (Layer(),)  # of the first blocks, and again from the beginning
    relative: int | None = None  # so many buckets of distances (layers.positions.RelativePositions)
    image_token: int | None = None
    prefix_end: int | None = None
    project_prefix: bool = True  # False: the memory has the decoder's width already
    digits: tuple[int, ...] = ()  # of what tokens are the codes of (language.embeddings.Embedding)
    unscored: tuple[int, ...] = ()  # tokens that are never written: their logits are -1e9
    dtype: Any = jnp.float32

    def setup(self):
        if self.prefix and not self.causal:
            raise ValueError("TransformerDecoder(prefix=True, causal=False): leave one of them out")
        if self.prefix and (self.image_token is not None or self.relative is not None):
            raise ValueError(
                "TransformerDecoder(prefix=True) with image_token or relative: expected one place for the memory. "
                "Leave prefix out, or the other"
            )
        if self.num_causal and self.causal:
            raise ValueError(
                f"TransformerDecoder(num_causal={self.num_causal}): all tokens are causal already; try causal=False"
            )
        self.embedding = PlacedEmbedding(**_shared(self, PlacedEmbedding))
        self.blocks = [
            Block(**_shared(self, Block), layer=self.layers[i % len(self.layers)])
            for i in range(self.num_layers)
        ]
        self.vocabulary = Vocabulary(
            vocab_size=self.vocab_size, use_bias=self.form.output_bias, dtype=self.dtype
        )
        if self.prefix and self.project_prefix:
            self.projection = nn.Dense(self.width, dtype=self.dtype)
        if self.relative is not None:
            self.relative_positions = RelativePositions(
                num_heads=self.num_heads, num_buckets=self.relative, causal=self.causal
            )

    def __call__(
        self,
        tokens: Int[Array, "b l"],
        memory: Features | None,
        *,
        segment: Int[Array, "b l"] | None = None,
        train: bool,
    ) -> Float[Array, "b l v"]:
        """Logits of the token after each of `tokens`. Where a row holds several texts, `segment` numbers them; each is
        read as if it stood alone, beside the same memory."""
        alone = self.image_token, self.prefix_end, self.form.num_segments or None
        if segment is not None and alone != (None, None, None):
            raise ValueError(
                "TransformerDecoder with image_token, prefix_end or num_segments was given segments: expected one text in a row. "
                "Leave Packed or PackTexts out"
            )
        kept, length = tokens != PAD, tokens.shape[1]
        place = positions(kept, segment)
        x = self._embedded(tokens, place, memory, 0, train=train)
        if self.image_token is not None and memory is not None:
            x = jnp.where(self.keeps_places(tokens, memory)[:, None, None], x, jnp.nan)
        mask = causal_mask(length)
        if not self.causal:
            mask = mask | sees_all(jnp.arange(length), self.num_causal)[None, :, None]
        always = None
        if self.prefix_end is not None:
            prompt = in_prompt(tokens, self.prefix_end) & kept
            always = prompt[:, :, None] & prompt[:, None, :]
            mask = mask | always
        num_before = 0
        if self.prefix and memory is not None:
            num_before = memory.mask.shape[1]
            x = jnp.concatenate([self._projected(memory).astype(x.dtype), x], axis=1)
            kept = jnp.concatenate([memory.mask, kept], axis=1)
            mask = prefix_mask(num_before, length)
            place = place + memory.mask.sum(axis=1, keepdims=True, dtype=jnp.int32)
            place = jnp.concatenate([positions(memory.mask), place], axis=1)
        mask = mask & padding_mask(kept)
        if segment is not None:
            mask = mask & segment_mask(segment, num_before)
        places = {"positions": place, "key_positions": place, "always": always}
        if self.relative is not None:
            places["bias"] = self.relative_positions(jnp.arange(length)[None], jnp.arange(length))
        for block in self.blocks:
            beside = (block.memory_keys(memory), memory.mask) if self._beside(memory) else None
            x, _ = block(x, mask, beside, num_before=num_before, **places, train=train)
        return self.logits(x[:, num_before:], self.source(memory), train=train)

    @nn.nowrap
    def keeps_places(self, tokens: Int[Array, "b l"], memory: Features) -> Bool[Array, "b"]:
        """Whether a whole text, or prompt, has a place for each vector of its memory, or none at all."""
        number = (tokens == self.image_token).sum(axis=1)
        return (number == memory.mask.sum(axis=1)) | (number == 0)

    def source(self, memory: Features | None) -> dict[str, Any]:
        """What `scores` wants to know of the memory, computed once for all steps."""
        return {}

    def _beside(self, memory: Features | None) -> bool:
        """Whether the memory is read by cross-attention."""
        return memory is not None and not self.prefix and self.image_token is None

    def _projected(self, memory: Features) -> Float[Array, "b n d"]:
        return self.projection(memory.values) if self.project_prefix else memory.values

    def _embedded(
        self, tokens: Int[Array, "b l"], places, memory: Features | None, num_images, *, train: bool
    ) -> Float[Array, "b l d"]:
        """Word vectors, with the memory's in the places kept for them; `num_images` of these have stood before."""
        x = self.embedding(tokens, places, train=train)
        if self.image_token is None or memory is None:
            return x
        images = tokens == self.image_token
        index = positions(images) + num_images
        rows = jnp.arange(tokens.shape[0])[:, None]
        values = jnp.where(memory.mask[..., None], memory.values, jnp.nan).astype(x.dtype)
        values = values.at[rows, index].get(mode="fill", fill_value=jnp.nan)
        return jnp.where(images[..., None], values, x)

    def initial_cache(self, memory: Features | None, batch_size: int, max_length: int) -> Cache:
        """Keys and values of the memory, and room for max_length tokens.

        {"blocks": self-attention's, "memory": cross-attention's, "kept": which places of the former may be
        seen [b n+l], "position": of the next token [b], "source": what `source` gave; with an `image_token` "images":
        how many have been read [b]; with a `prefix_end` "prompted": whether the first piece had it [b]}
        """
        if not self.causal and not self.num_causal:
            raise ValueError(
                "TransformerDecoder(causal=False) has no steps: it reads all tokens at once; try MaskedDecoding"
            )
        if self.form.num_segments:
            raise ValueError(
                "TransformerDecoder with segments has no steps: which one a token is in depends on those before it; "
                "try Form(num_segments=0)"
            )
        num_before = memory.mask.shape[1] if self.prefix and memory is not None else 0
        capacity = num_before + max_length
        caches = [block.self_attention.initial_cache(batch_size, capacity) for block in self.blocks]
        kept = jnp.zeros((batch_size, capacity), bool)
        beside = ()
        if num_before:
            kept = kept.at[:, :num_before].set(memory.mask)
            x, seen = self._projected(memory), padding_mask(kept)
            places = {"positions": positions(memory.mask), "key_positions": positions(kept)}
            for i, block in enumerate(self.blocks):
                x, caches[i] = block(x, seen, cache=caches[i], **places, train=False)
        elif self._beside(memory):
            beside = tuple(block.memory_keys(memory) for block in self.blocks)
        zeros = jnp.zeros(batch_size, jnp.int32)
        cache = {"blocks": tuple(caches), "memory": beside, "kept": kept, "position": zeros}
        cache["source"] = self.source(memory)
        if self.prefix_end is not None:
            cache["prompted"] = zeros > 0
        return cache if self.image_token is None else {**cache, "images": zeros}

    def step(
        self, token: Int[Array, "b"], cache: Cache, memory: Features | None
    ) -> tuple[Float[Array, "b v"], Cache]:
        logits, cache = self.extend(token[:, None], cache, memory)
        return logits[:, 0], cache

    def extend(
        self, tokens: Int[Array, "b l"], cache: Cache, memory: Features | None
    ) -> tuple[Float[Array, "b l v"], Cache]:
        """`step` for several tokens at once, such as a prompt, or a piece of one."""
        b, l = tokens.shape
        real = tokens != PAD
        position, num_images = cache["position"][:, None] + positions(real), cache.get("images", 0)
        x = self._embedded(tokens, position, memory, jnp.reshape(num_images, (-1, 1)), train=False)
        places = cache["blocks"][0].position[:, None] + jnp.arange(l)[None]  # [b l]
        rows, number = jnp.arange(b)[:, None], jnp.arange(cache["kept"].shape[1])
        kept = cache["kept"].at[rows, places].set(real, mode="drop")
        before, always = number[None, None] <= places[:, :, None], None  # [b l n+l]
        if not self.causal:
            before = before | sees_all(places, self.num_causal)[:, :, None]
        if self.prefix_end is not None:
            first = cache["blocks"][0].position == 0
            ended = (tokens == self.prefix_end).any(axis=1)
            prompted = jnp.where(first, ended, cache["prompted"])
            x = jnp.where((ended & ~prompted)[:, None, None], jnp.nan, x)
            prompt = in_prompt(tokens, self.prefix_end) & real & first[:, None]
            seen = jnp.zeros_like(kept).at[rows, places].set(prompt, mode="drop")
            always = prompt[:, :, None] & seen[:, None, :]
            before = before | always
        # Turned by how many real places stand before, those of a prefix among them.
        turned = {
            "positions": cache["kept"].sum(axis=1, dtype=jnp.int32)[:, None] + positions(real),
            "key_positions": positions(kept),
            "always": always,
        }
        if self.relative is not None:
            turned["bias"] = self.relative_positions(places, number)
        caches = []
        for i, block in enumerate(self.blocks):
            beside = (cache["memory"][i], memory.mask) if cache["memory"] else None
            seen = before & padding_mask(kept)
            x, block_cache = block(x, seen, beside, cache=cache["blocks"][i], **turned, train=False)
            caches.append(block_cache)
        new = {
            "blocks": tuple(caches),
            "memory": cache["memory"],
            "source": cache["source"],
            "kept": kept,
            "position": cache["position"] + real.sum(axis=1, dtype=jnp.int32),
        }
        if self.prefix_end is not None:
            new["prompted"] = prompted
        if self.image_token is not None:
            new["images"] = num_images + (tokens == self.image_token).sum(axis=1, dtype=jnp.int32)
        return self.logits(x, cache["source"], train=False), new

    @nn.compact
    def logits(
        self, x: Float[Array, "b l d"], source: dict[str, Any], *, train: bool
    ) -> Float[Array, "b l v"]:
        if self.pre_norm:
            x = self.norm(x, train=train, dtype=self.dtype, name="norm")
        if self.form.head_layer:
            x = self.activation(nn.Dense(self.width, dtype=self.dtype, name="head_layer")(x))
            x = self.norm(x, train=train, dtype=self.dtype, name="head_norm")
        if self.form.output_scale != 1.0:
            x = x * jnp.asarray(self.form.output_scale, x.dtype)
        return self.scores(x, source, train=train)

    def scores(
        self, x: Float[Array, "b l d"], source: dict[str, Any], *, train: bool
    ) -> Float[Array, "b l v"]:
        """Of all words, for what the last block gave, normed."""
        logits = self.vocabulary(x, self.embedding.words if self.tied else None)
        if self.form.final_soft_cap is not None:
            logits = soft_capped(logits, self.form.final_soft_cap)
        if self.unscored:
            logits = logits.at[..., jnp.array(self.unscored)].set(-1e9)
        return logits


def filled(tokens: Int[Array, "b l"], token: int, length: int) -> Int[Array, "b m"]:
    """`token` in the place of padding, and after it up to `length`.

    token 2, length 4: [[5, 2, 0], [5, 6, 2]] -> [[5, 2, 2, 2], [5, 6, 2, 2]]
    """
    missing = length - tokens.shape[1]
    if missing < 0:
        raise ValueError(
            f"{tokens.shape[1]} tokens are more than the {length} of this encoder; cut the texts in the pipeline"
        )
    tokens = jnp.pad(tokens, ((0, 0), (0, missing)), constant_values=PAD)
    return jnp.where(tokens == PAD, token, tokens)


def sees_all(places: Int[Array, "*l"], num_causal: int) -> Bool[Array, "*l"]:
    """Which places see those behind them, too: 3, 4 ... where the first 3 are causal."""
    return places >= num_causal


def in_prompt(tokens: Int[Array, "b l"], end: int) -> Bool[Array, "b l"]:
    """The tokens up to the first `end`, and it; none where there is no such token.

    end 9: [[5, 9, 6], [5, 6, 7]] -> [[1, 1, 0], [0, 0, 0]]
    """
    ends = tokens == end
    return (positions(ends) == 0) & ends.any(axis=1, keepdims=True)


class PlacedEmbedding(nn.Module, kw_only=True):
    """sqrt(width) times the word vector, plus the position's, then dropout (Vaswani et al. 2017, 3.4-3.5), or as the
    `form` says."""

    vocab_size: int
    width: int
    max_length: int | None = None
    dropout_rate: float = 0.0
    norm: Norm = LayerNorm()
    form: Form = Form()
    digits: tuple[int, ...] = ()
    dtype: Any = jnp.float32

    def setup(self):
        self.words = Embedding(
            vocab_size=self.vocab_size,
            width=self.width,
            stddev=self.width**-0.5,
            digits=self.digits,
            dtype=self.dtype,
        )
        if self.max_length is not None and self.form.add_places:
            # Half the word vectors' deviation, as in GPT-2.
            self.places = LearnedPositions(max_length=self.max_length, width=self.width, stddev=0.5)
        if self.form.num_segments:
            self.segments = Embedding(
                vocab_size=self.form.num_segments, width=self.width, stddev=0.02, dtype=self.dtype
            )
        self.dropout = nn.Dropout(self.dropout_rate)

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b l"], positions: Int[Array, "b l"], *, train: bool
    ) -> Float[Array, "b l d"]:
        like = self.form.bos_like
        x = self.words(tokens if like is None else jnp.where(tokens == BOS, like, tokens))
        if self.form.scale_words:
            x = x * jnp.asarray(self.width**0.5, self.dtype)
        if self.form.add_places:
            x = x + self._places(positions).astype(self.dtype)
        if self.form.num_segments:
            ends = tokens == EOS
            segment = jnp.cumsum(ends, axis=1) - ends
            x = x + self.segments(jnp.minimum(segment, self.form.num_segments - 1))
        if self.form.norm_words:
            x = self.norm(x, train=train, dtype=self.dtype, name="norm")
        return self.dropout(x, deterministic=not train)

    def _places(self, positions: Int[Array, "b l"]) -> Float[Array, "b l d"]:
        if self.max_length is None:
            return sinusoidal(positions, width=self.width)
        return self.places(positions)


class Block(nn.Module, kw_only=True):
    """x + f(norm(x)) for f = self-attention, attention over the memory, MLP; or norm(x + f(x)), or as the `form` says."""

    width: int
    num_heads: int
    hidden: int
    dropout_rate: float
    attention_dropout_rate: float
    num_kv_heads: int | None
    activation: Callable
    pre_norm: bool
    norm: Norm
    form: Form
    layer: Layer
    dtype: Any

    def setup(self):
        fields = {
            "num_heads": self.num_heads,
            "width": self.width,
            "dropout_rate": self.attention_dropout_rate,
            "num_kv_heads": self.num_kv_heads,
            "dtype": self.dtype,
            **_shared(self.form, MultiHeadAttention),
        }
        self.self_attention = MultiHeadAttention(**fields, rotary=self.layer.rotary)
        self.cross_attention = MultiHeadAttention(**fields)
        mlp = GatedMlp if self.form.gated else Mlp
        self.mlp = mlp(
            hidden=self.hidden,
            activation=self.activation,
            dropout_rate=self.dropout_rate,
            use_bias=self.form.use_bias,
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
        positions: Int[Array, "b l"] | None = None,
        key_positions: Int[Array, "b n"] | None = None,
        bias: Float[Array, "#b i l n"] | None = None,
        always: Bool[Array, "b l n"] | None = None,
        train: bool,
    ) -> tuple[Float[Array, "b l d"], KeyValueCache | None]:
        """`beside`: keys and values of the memory, and its mask. The first `num_before` of x are a prefix. `positions`
        of x and `key_positions` of all that self-attention sees, how many real places stand before each, turn it and
        bound its window, beyond which it sees what it `always` does; `bias` is added to its scores."""
        if self.layer.window is not None:
            near = window_mask(positions, key_positions, self.layer.window)
            mask = mask & (near if always is None else near | always)
        turned = {"positions": positions, "bias": bias}

        def attention(y):
            nonlocal cache
            if cache is not None:
                y, cache = self.self_attention.extend(y, cache, mask, **turned)
                return y
            keys_values = self.self_attention.keys_values(y, positions)
            y, weights = self.self_attention.attend(y, *keys_values, mask, **turned, train=train)
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

        if not self.pre_norm:
            return norm(x + f(x))
        y = f(norm(x))
        if self.form.sandwich:
            y = self.norm(y, train=train, dtype=self.dtype, name=f"{name}_after")
        return x + y


def _shared(module: Any, part: type[nn.Module]) -> dict[str, Any]:
    """The fields that a module, or its form, hands on to its part: those of the same name."""
    names = {f.name for f in dataclasses.fields(part)} - {"parent", "name"}
    return {name: getattr(module, name) for name in names if hasattr(module, name)}
