"""Writing words of the text that was read, also those that are in no vocabulary.

See, Liu and Manning 2017, "Get To The Point: Summarization with Pointer-Generator Networks" (arXiv 1704.04368);
equations are theirs. The rows of an extended vocabulary, each example its own:

    row   0 ... vocab_size - 1            vocab_size ... vocab_size + num_slots - 1
          PAD BOS EOS UNK, known words    the first, second ... unknown word of this text
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vlm_jax.language.attention_decoder import AttentionDecoder
from vlm_jax.language.transformer import TransformerDecoder
from vlm_jax.layers.attention import MultiHeadAttention, padding_mask
from vlm_jax.types import PAD, UNK, Cache, Features

NEVER = -100.0  # log p of a row that nothing can write: e^-100 is 0 in float32


class CopyableText(nn.Module, kw_only=True):
    """Lets `encoder` read UNK where the text has a row beyond the vocabulary, and hands on what a copy would write."""

    encoder: nn.Module
    vocab_size: int

    def __call__(self, tokens: Int[Array, "b n"], *, train: bool, **shared) -> Features:
        known = jnp.where(tokens < self.vocab_size, tokens, UNK)
        return self.encoder(known, train=train, **shared).replace(tokens=tokens)


class PointerGenerator(AttentionDecoder, kw_only=True):
    """AttentionDecoder that writes a word of its vocabulary, or copies one that it looks at.

        g_t = sigmoid(w_z . z_t + w_h . h_t + w_y . E y_{t-1} + b)                       eq. 8
        p(y) = g_t softmax(scores)(y) + (1 - g_t) sum over places i with word y of a_ti  eq. 9

    Gives log p [b l vocab_size + num_slots], which are logits like any others: their softmax is p. The memory's
    `tokens` say which row each place is a copy of (see CopyableText). The paper's decoder has `look_last`, no gate
    beta, and attention as in SoftAttention. A memory without any place cannot be copied from, and g_t is 1 there.

    Reads UNK where it has copied a word that it does not know. Sows g_t [b l] as "generating", and (1 - g_t) a_ti
    [b l n] as "copying", in "intermediates".
    """

    num_slots: int = 0

    def setup(self):
        super().setup()
        self.gate_from_memory = nn.Dense(1, dtype=self.dtype)
        self.gate_from_state = nn.Dense(1, use_bias=False, dtype=self.dtype)
        self.gate_from_word = nn.Dense(1, use_bias=False, dtype=self.dtype)

    def initial_cache(self, memory: Features | None, batch_size: int, max_length: int) -> Cache:
        """As AttentionDecoder's, with what is `copyable`."""
        cache = super().initial_cache(memory, batch_size, max_length)
        return {**cache, **copyable(self, memory)}

    def read(self, tokens, cache, memory, *, train):
        return super().read(known(self, tokens), cache, memory, train=train)

    def logits(
        self, words: Float[Array, "b l e"], looks: dict[str, Array], cache: Cache, *, train: bool
    ) -> Float[Array, "b l v"]:
        scores = super().logits(words, looks, cache, train=train)
        gate = self.gate_from_memory(looks["seen"]) + self.gate_from_state(looks["output"])
        gate = gate + self.gate_from_word(words)
        return written_or_copied(self, scores, gate, looks["weights"], cache)


class CopyingTransformer(TransformerDecoder, kw_only=True):
    """TransformerDecoder that writes a word of its vocabulary, or copies one of the text beside it.

    What the words are scored by, x_t, looks at the memory once more, in one head, whose weights a_t are the copies';
    z_t is what it sees (in the manner of Gehrmann, Deng and Rush 2018, arXiv 1808.10792, section 5, who take one of the
    last block's heads):

        g_t = sigmoid(w_z . z_t + w_x . x_t + b)

    and the rest as in PointerGenerator. The memory is read by cross-attention.
    """

    num_slots: int = 0

    def setup(self):
        if self.prefix or self.image_token is not None or not self.causal:
            raise ValueError(
                "CopyingTransformer was given prefix, image_token or causal=False; expected a memory that every block "
                "looks at. Leave them out, or try TransformerDecoder"
            )
        super().setup()
        self.copy_attention = MultiHeadAttention(num_heads=1, width=self.width, dtype=self.dtype)
        self.gate_from_memory = nn.Dense(1, dtype=self.dtype)
        self.gate_from_state = nn.Dense(1, use_bias=False, dtype=self.dtype)

    def __call__(self, tokens, memory, *, segment=None, train):
        return super().__call__(known(self, tokens), memory, segment=segment, train=train)

    def extend(self, tokens, cache, memory):
        return super().extend(known(self, tokens), cache, memory)

    def source(self, memory: Features | None) -> dict[str, Any]:
        """What is `copyable`, with the "keys" and "values" of its places, and which of them there are, "mask"."""
        found = copyable(self, memory)
        keys, values = self.copy_attention.keys_values(memory.values.astype(self.dtype))
        return {**found, "keys": keys, "values": values, "mask": memory.mask}

    def scores(
        self, x: Float[Array, "b l d"], source: dict[str, Any], *, train: bool
    ) -> Float[Array, "b l v"]:
        mask = padding_mask(source["mask"])
        seen, weights = self.copy_attention.attend(
            x, source["keys"], source["values"], mask, train=train
        )
        gate = self.gate_from_memory(seen) + self.gate_from_state(x)
        scores = super().scores(x, source, train=train)
        return written_or_copied(self, scores, gate, weights[:, 0], source)


def known(decoder: Any, tokens: Int[Array, "b l"]) -> Int[Array, "b l"]:
    """UNK in the place of words that were copied without being known."""
    slot = (tokens >= decoder.vocab_size) & (tokens < decoder.vocab_size + decoder.num_slots)
    return jnp.where(slot, UNK, tokens)


def copyable(decoder: Any, memory: Features | None) -> dict[str, Any]:
    """What `written_or_copied` needs of a memory: "row" [b n] and "alike" [b n n] of `places_of`, "readable" [b]."""
    if memory is None or memory.tokens is None:
        what = "no memory" if memory is None else "a memory without tokens to copy"
        raise ValueError(
            f"{type(decoder).__name__} was given {what}; give the Generator "
            "text_encoder=CopyableText(encoder=..., vocab_size=...)"
        )
    row, alike = places_of(memory, decoder.vocab_size + decoder.num_slots)
    return {"row": row, "alike": alike, "readable": memory.mask.any(axis=1)}


def written_or_copied(
    decoder: Any,
    scores: Float[Array, "b l v"],
    gate: Float[Array, "b l 1"],
    weights: Float[Array, "b l n"],
    source: dict[str, Any],
) -> Float[Array, "b l v"]:
    """log p of every row of the extended vocabulary (eq. 9), sowing what PointerGenerator says. `gate` is what the
    sigmoid is taken of, `source` has what is `copyable`."""
    gate = gate.astype(jnp.float32)
    readable = source["readable"][:, None, None]
    log_generating = jnp.where(readable, nn.log_sigmoid(gate), 0)
    log_copying = nn.log_sigmoid(-gate)
    decoder.sow("intermediates", "generating", jnp.exp(log_generating)[..., 0])
    decoder.sow("intermediates", "copying", jnp.exp(log_copying) * weights)
    generated = nn.log_softmax(scores.astype(jnp.float32)) + log_generating
    slots = jnp.full((*generated.shape[:2], decoder.num_slots), NEVER)
    generated = jnp.concatenate([generated, slots], axis=-1)
    copied = jnp.einsum("bln,bnm->blm", weights, source["alike"].astype(jnp.float32))
    log_copied = log_copying + jnp.log(jnp.maximum(copied, 1e-37))
    # Only the rows of the text's words change: [b n l], one column for each different word.
    rows = jnp.arange(scores.shape[0])[:, None]
    before = generated.at[rows, :, source["row"]].get(mode="fill", fill_value=NEVER)
    after = jnp.logaddexp(before, jnp.swapaxes(log_copied, 1, 2))
    return generated.at[rows, :, source["row"]].set(after, mode="drop", unique_indices=True)


def places_of(memory: Features, num_rows: int) -> tuple[Int[Array, "b n"], Array]:
    """The row that each place is a copy of, and which places are copies of the same: Int[b n], Bool[b n n].

    Of several such places the first has the row and stands for all; the others, and padding, have one beyond the
    vocabulary, each its own. "a b a", one padded: rows [a, b, num_rows + 2, num_rows + 3].
    """
    length = memory.tokens.shape[1]
    mask = memory.mask & (memory.tokens != PAD)
    alike = memory.tokens[:, :, None] == memory.tokens[:, None, :]
    alike &= mask[:, :, None] & mask[:, None, :]
    earlier = jnp.tril(jnp.ones((length, length), bool), -1)
    first = mask & ~(alike & earlier).any(axis=-1)
    return jnp.where(first, memory.tokens, num_rows + jnp.arange(length)), alike
