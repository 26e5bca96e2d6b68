"""An encoder that reads words and their letters, for tagging and parsing."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vlm_jax.language.embeddings import Embedding
from vlm_jax.layers.recurrent import LSTM, Bidirectional, Cell
from vlm_jax.types import PAD, UNK, Features


class CharacterCnn(nn.Module, kw_only=True):
    """A vector for each word from its letters: the largest answer of each filter over `window` letters (dos Santos and
    Zadrozny 2014; Ma and Hovy 2016). [b l c] -> [b l filters]"""

    num_letters: int
    width: int = 32
    filters: int = 96
    window: int = 3

    @nn.compact
    def __call__(self, characters: Int[Array, "b l c"]) -> Float[Array, "b l d"]:
        mask = characters != PAD
        x = Embedding(vocab_size=self.num_letters, width=self.width, name="letters")(characters)
        x = jnp.where(mask[..., None], x, 0)
        around = self.window // 2
        padded = jnp.pad(x, ((0, 0), (0, 0), (around, self.window - 1 - around), (0, 0)))
        length = x.shape[2]
        places = [padded[:, :, i : i + length] for i in range(self.window)]
        x = nn.Dense(self.filters, name="filters")(jnp.concatenate(places, axis=-1))
        x = jnp.where(mask[..., None], x, -jnp.inf).max(axis=2)
        return nn.relu(x)  # padding, a word without letters, has zeros


class WordCharacterEncoder(nn.Module, kw_only=True):
    """Word vectors beside what `characters` says of the letters, read by recurrent layers in both directions.

        word, letters -> [vector; characters] -> dropout -> BiLSTM -> dropout -> ... -> BiLSTM -> Features

    In training each word is UNK with probability `word_dropout_rate`, so that UNK is learnt and the letters are
    relied on (Kiperwasser and Goldberg 2016 drop rare words; here all alike, as Dozat and Manning do, who put zeros).
    Dropout has one mask for all words of a sentence (Gal and Ghahramani 2016); none is in the recurrence itself.
    """

    vocab_size: int
    word_width: int
    characters: nn.Module
    width: int  # of each direction
    num_layers: int = 1
    cell: Cell = LSTM()
    word_dropout_rate: float = 0.0
    input_dropout_rate: float = 0.0
    rnn_dropout_rate: float = 0.0

    @nn.compact
    def __call__(
        self, words: Int[Array, "b l"], characters: Int[Array, "b l c"], *, train: bool
    ) -> Features:
        mask = words != PAD
        table = Embedding(vocab_size=self.vocab_size, width=self.word_width, name="words")
        x = table(self._dropped(words) if train else words)
        x = jnp.concatenate([x, self.characters(characters)], axis=-1)
        x = self._dropout(x, self.input_dropout_rate, train)
        for i in range(self.num_layers):
            if i:
                x = self._dropout(x, self.rnn_dropout_rate, train)
            layer = Bidirectional(cell=self.cell, width=self.width, name=f"bidirectional_{i}")
            x = layer(x, mask, train=train)
        return Features(values=x, mask=mask)

    def _dropped(self, words):
        if not self.word_dropout_rate:
            return words
        drop: Bool[Array, "b l"] = jax.random.bernoulli(
            self.make_rng("dropout"), self.word_dropout_rate, words.shape
        )
        return jnp.where(drop & (words != PAD), UNK, words)

    def _dropout(self, x, rate, train):
        return nn.Dropout(rate, broadcast_dims=(1,))(x, deterministic=not train)
