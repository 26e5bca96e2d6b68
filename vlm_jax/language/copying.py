"""Writing words of the text that was read, also those that are in no vocabulary.

See, Liu and Manning 2017, "Get To The Point: Summarization with Pointer-Generator Networks" (arXiv 1704.04368);
equations are theirs. The rows of an extended vocabulary, each example its own:

    row   0 ... vocab_size - 1            vocab_size ... vocab_size + num_slots - 1
          PAD BOS EOS UNK, known words    the first, second ... unknown word of this text
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vlm_jax.language.attention_decoder import AttentionDecoder
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

    Reads UNK where it has copied a word that it does not know. Sows g_t [b l] as "generating" in "intermediates".
    """

    num_slots: int = 0

    def setup(self):
        super().setup()
        self.gate_from_memory = nn.Dense(1, dtype=self.dtype)
        self.gate_from_state = nn.Dense(1, use_bias=False, dtype=self.dtype)
        self.gate_from_word = nn.Dense(1, use_bias=False, dtype=self.dtype)

    def initial_cache(self, memory: Features | None, batch_size: int, max_length: int) -> Cache:
        """As AttentionDecoder's, with "row" [b n] and "alike" [b n n] of `places_of`, "readable" [b]."""
        cache = super().initial_cache(memory, batch_size, max_length)
        if memory.tokens is None:
            raise ValueError(
                "PointerGenerator was given a memory without tokens to copy; give the Generator "
                "text_encoder=CopyableText(encoder=..., vocab_size=...)"
            )
        row, alike = places_of(memory, self.vocab_size + self.num_slots)
        return {**cache, "row": row, "alike": alike, "readable": memory.mask.any(axis=1)}

    def read(self, tokens, cache, memory, *, train):
        slot = (tokens >= self.vocab_size) & (tokens < self.vocab_size + self.num_slots)
        known = jnp.where(slot, UNK, tokens)
        return super().read(known, cache, memory, train=train)

    def logits(
        self, words: Float[Array, "b l e"], looks: dict[str, Array], cache: Cache, *, train: bool
    ) -> Float[Array, "b l v"]:
        scores = super().logits(words, looks, cache, train=train)
        gate = self.gate_from_memory(looks["seen"]) + self.gate_from_state(looks["output"])
        gate = (gate + self.gate_from_word(words)).astype(jnp.float32)  # [b l 1]
        readable = cache["readable"][:, None, None]
        log_generating = jnp.where(readable, nn.log_sigmoid(gate), 0)
        self.sow("intermediates", "generating", jnp.exp(log_generating)[..., 0])
        generated = nn.log_softmax(scores) + log_generating
        slots = jnp.full((*generated.shape[:2], self.num_slots), NEVER)
        generated = jnp.concatenate([generated, slots], axis=-1)
        copied = jnp.einsum("bln,bnm->blm", looks["weights"], cache["alike"].astype(jnp.float32))
        log_copied = nn.log_sigmoid(-gate) + jnp.log(jnp.maximum(copied, 1e-37))
        # Only the rows of the text's words change: [b n l], one column for each different word.
        rows = jnp.arange(words.shape[0])[:, None]
        before = generated.at[rows, :, cache["row"]].get(mode="fill", fill_value=NEVER)
        after = jnp.logaddexp(before, jnp.swapaxes(log_copied, 1, 2))
        return generated.at[rows, :, cache["row"]].set(after, mode="drop", unique_indices=True)


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
