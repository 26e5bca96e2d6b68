"""Recurrent decoders that write captions, and the four places where a picture can enter one.

    init_inject   the picture is the first state          h_0 = W image
    pre_inject    the picture is the first word           image, w_1, w_2, ...
    par_inject    the picture stands beside every word    (w_1, image), (w_2, image), ...
    merge         the picture joins what the RNN says     (h_1, image), (h_2, image), ...

Tanti, Gatt and Camilleri 2018, arXiv 1703.09137, figures 2 and 3.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vlm_jax.layers.pooling import pool
from vlm_jax.layers.recurrent import GRU, Cell
from vlm_jax.types import Array, Cache, Features


class Injection(nn.Module, kw_only=True):
    """Where the picture, one vector a row, meets the decoder. The base class puts it nowhere."""

    def image(self, memory: Features, *, train: bool) -> Array:
        """The vector [b width] that is injected."""
        raise NotImplementedError

    def first_hidden(self, image: Array) -> Array | None:
        """The hidden state [b width] that the first layer starts from; None: zeros."""
        return None

    def first_word(self, image: Array) -> Array | None:
        """A vector [b embedding_width] read before BOS; None: nothing is."""
        return None

    def beside_words(self, image: Array, words: Array, *, train: bool) -> Array:
        """[b l e] -> [b l e']"""
        return words

    def after_rnn(self, image: Array, hidden: Array, *, train: bool) -> Array:
        """[b l width] -> [b l d]"""
        return hidden


class _Projected(Injection, kw_only=True):
    width: int
    activation: Callable | None = None
    dropout_rate: float = 0.0  # of the pooled picture, before its projection
    dtype: Any = jnp.float32

    def setup(self):
        self.projection = nn.Dense(
            self.width, kernel_init=nn.initializers.glorot_uniform(), dtype=self.dtype
        )
        self.drop = nn.Dropout(self.dropout_rate)

    def image(self, memory: Features, *, train: bool) -> Array:
        vector = self.projection(self.drop(pool(memory), deterministic=not train))
        return vector if self.activation is None else self.activation(vector)


class InitInject(_Projected, kw_only=True):
    """The projected picture is the first layer's initial hidden state; `width` is the decoder's."""

    def first_hidden(self, image: Array) -> Array:
        return image


class PreInject(_Projected, kw_only=True):
    """The projected picture is read as if it were a word before BOS; `width` is the embedding's."""

    def first_word(self, image: Array) -> Array:
        return image


class ParInject(_Projected, kw_only=True):
    """The projected picture is fused with each word's embedding."""

    fusion: nn.Module

    def beside_words(self, image: Array, words: Array, *, train: bool) -> Array:
        return _fused(self.fusion, image, words, train)


class Merge(_Projected, kw_only=True):
    """The projected picture is fused with what the RNN says; the RNN itself never sees it."""

    fusion: nn.Module

    def after_rnn(self, image: Array, hidden: Array, *, train: bool) -> Array:
        return _fused(self.fusion, image, hidden, train)


class RecurrentDecoder(nn.Module, kw_only=True):
    """Words -> logits of the next word, by `num_layers` of `cell`, with a picture entering through `inject`.

    Without `inject` it is a language model and takes memory None. `sampling_rate` is scheduled sampling
    (Bengio et al. 2015, arXiv 1506.03099): in training each word read is, with this probability, replaced by one
    drawn from the decoder's own distribution (rng "sampling"); 0 is teacher forcing.
    """

    vocab_size: int
    width: int
    embedding_width: int
    cell: Callable[..., Cell] = GRU
    num_layers: int = 1
    inject: nn.Module | None = None
    embedding_dropout_rate: float = 0.0
    dropout_rate: float = 0.0  # of each layer's output
    output_dropout_rate: float = 0.0  # of what the output layer reads
    sampling_rate: float = 0.0
    dtype: Any = jnp.float32

    def setup(self):
        self.embedding = nn.Embed(
            self.vocab_size,
            self.embedding_width,
            embedding_init=nn.initializers.uniform(scale=0.1),
            dtype=self.dtype,
        )
        self.cells = [self.cell(width=self.width, dtype=self.dtype) for _ in range(self.num_layers)]
        self.output = nn.Dense(
            self.vocab_size, kernel_init=nn.initializers.glorot_uniform(), dtype=self.dtype
        )
        self.embedding_dropout = nn.Dropout(self.embedding_dropout_rate)
        self.dropout = nn.Dropout(self.dropout_rate)
        self.output_dropout = nn.Dropout(self.output_dropout_rate)

    def __call__(self, tokens: Array, memory: Features | None, *, train: bool) -> Array:
        """Logits Float[b l v] in float32; row t reads tokens[: t + 1]."""
        image = self._image(memory, train=train)
        if train and self.sampling_rate and not self.is_initializing():
            return self._scheduled(tokens, image)
        carries = self._start(image, tokens.shape[0], train=train)
        return self._read(tokens, carries, image, train=train)[0]

    def initial_cache(self, memory: Features | None, batch_size: int, max_length: int) -> Cache:
        image = self._image(memory, train=False)
        return {"carries": self._start(image, batch_size, train=False), "image": image}

    def step(self, token: Array, cache: Cache, memory: Features | None) -> tuple[Array, Cache]:
        logits, carries = self._read(token[:, None], cache["carries"], cache["image"], train=False)
        return logits[:, 0], {**cache, "carries": carries}

    # ---- parts

    def _image(self, memory: Features | None, *, train: bool) -> Array | None:
        if (memory is None) != (self.inject is None):
            raise ValueError(
                f"RecurrentDecoder has inject={type(self.inject).__name__} and memory is "
                f"{'None' if memory is None else 'given'}; give both or neither"
            )
        return None if memory is None else self.inject.image(memory, train=train)

    def _start(self, image: Array | None, batch_size: int, *, train: bool) -> tuple:
        carries = [cell.initial_carry(batch_size) for cell in self.cells]
        if image is None:
            return tuple(carries)
        hidden = self.inject.first_hidden(image)
        if hidden is not None:
            if hidden.shape[-1] != self.width:
                raise ValueError(
                    f"InitInject(width={hidden.shape[-1]}) gives the first state of a decoder of width "
                    f"{self.width}; give both the same"
                )
            carries[0] = self.cells[0].carry_from(hidden)
        word = self.inject.first_word(image)
        if word is not None:
            if word.shape[-1] != self.embedding_width:
                raise ValueError(
                    f"PreInject(width={word.shape[-1]}) stands for a word of embedding_width "
                    f"{self.embedding_width}; give both the same"
                )
            carries = self._layers(word[:, None], tuple(carries), train=train)[1]
        return tuple(carries)

    def _read(self, tokens, carries, image, *, train):
        words = self.embedding_dropout(self.embedding(tokens), deterministic=not train)
        if image is not None:
            words = self.inject.beside_words(image, words, train=train)
        hidden, carries = self._layers(words, carries, train=train)
        if image is not None:
            hidden = self.inject.after_rnn(image, hidden, train=train)
        hidden = self.output_dropout(hidden, deterministic=not train)
        return self.output(hidden).astype(jnp.float32), carries

    def _layers(self, inputs, carries, *, train):
        new = []
        for cell, carry in zip(self.cells, carries):
            inputs, carry = cell(inputs, carry)
            inputs = self.dropout(inputs, deterministic=not train)
            new.append(carry)
        return inputs, tuple(new)

    def _scheduled(self, tokens, image):
        """Word by word, since what is read depends on what was said."""
        batch_size = tokens.shape[0]

        def body(decoder, carry, gold):
            carries, logits, first = carry
            replace_key, word_key = jax.random.split(decoder.make_rng("sampling"))
            own = jax.random.categorical(word_key, jax.lax.stop_gradient(logits))
            use_own = jax.random.bernoulli(replace_key, decoder.sampling_rate, (batch_size,))
            read = jnp.where(use_own & ~first, own, gold)
            logits, carries = decoder._read(read[:, None], carries, image, train=True)
            return (carries, logits[:, 0], jnp.zeros((), bool)), logits[:, 0]

        scan = nn.scan(
            body,
            variable_broadcast="params",
            split_rngs={"params": False, "sampling": True, "dropout": True},
        )
        start = (
            self._start(image, batch_size, train=True),
            jnp.zeros((batch_size, self.vocab_size), jnp.float32),
            jnp.ones((), bool),
        )
        _, logits = scan(self, start, jnp.swapaxes(tokens, 0, 1))
        return jnp.swapaxes(logits, 0, 1)


def _fused(fusion: nn.Module, image: Array, text: Array, train: bool) -> Array:
    """The fusion of one vector a row [b d] with a sequence [b l e]; all positions are taken as real."""
    one = Features(values=image[:, None], mask=jnp.ones((image.shape[0], 1), bool))
    many = Features(values=text, mask=jnp.ones(text.shape[:2], bool))
    return fusion(one, many, train=train).values
