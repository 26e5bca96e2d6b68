"""Recurrent networks over text: an encoder, and a decoder that a picture enters in one of four ways.

    init-inject   picture -> first state
    pre-inject    picture -> first word
    par-inject    picture beside every word
    merge         picture beside every output

After Tanti, Gatt and Camilleri 2018, "Where to put the Image in an Image Caption Generator" (arXiv 1703.09137).
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vlm_jax.language.embeddings import Embedding, Vocabulary
from vlm_jax.language.feedback import Reading, read_with_own_tokens
from vlm_jax.layers.pooling import pool
from vlm_jax.layers.recurrent import LSTM, Bidirectional, Cell, CellState, RecurrentStack, hold
from vlm_jax.types import BOS, CARRY, PAD, Cache, Features


class RecurrentEncoder(nn.Module, kw_only=True):
    """Reads text: Int[b l] -> Features [b l width], or [b l 2*width] where it reads in both directions.

    An `embedding` that is given takes the place of its own.
    """

    cell: Cell = LSTM()
    vocab_size: int
    width: int
    embedding_width: int
    num_layers: int = 1
    bidirectional: bool = True
    embedding_dropout_rate: float = 0.0
    rnn_dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b l"], *, embedding: Embedding | None = None, train: bool
    ) -> Features:
        mask = tokens != PAD
        if embedding is None:
            embedding = Embedding(
                vocab_size=self.vocab_size,
                width=self.embedding_width,
                dtype=self.dtype,
                name="embedding",
            )
        x = embedding(tokens)
        x = nn.Dropout(self.embedding_dropout_rate)(x, deterministic=not train)
        fields = dict(
            cell=self.cell,
            width=self.width,
            num_layers=self.num_layers,
            dropout_rate=self.rnn_dropout_rate,
            dtype=self.dtype,
            name="rnn",
        )
        if self.bidirectional:
            return Features(values=Bidirectional(**fields)(x, mask, train=train), mask=mask)
        values, _ = RecurrentStack(**fields)(x, mask, train=train)
        return Features(values=jnp.where(mask[..., None], values, 0), mask=mask)


class Inject(nn.Module, kw_only=True):
    """How a picture enters a RecurrentDecoder; a subclass says it in one of the methods.

    The picture is the mean over the memory, projected to `width` (by default what its place needs) and
    activated, with dropout before the projection and after.
    """

    width: int | None = None
    activation: Callable | None = None
    input_dropout_rate: float = 0.0
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def picture(self, memory: Features, *, default_width: int, train: bool) -> Float[Array, "b d"]:
        x = pool(memory).astype(self.dtype)
        x = nn.Dropout(self.input_dropout_rate)(x, deterministic=not train)
        x = nn.Dense(self.width or default_width, dtype=self.dtype, name="projection")(x)
        if self.activation is not None:
            x = self.activation(x)
        return nn.Dropout(self.dropout_rate)(x, deterministic=not train)

    def picture_width(self, decoder: "RecurrentDecoder") -> int:
        return decoder.width

    def initial_state(
        self, picture: Float[Array, "b d"], state: tuple[CellState, ...]
    ) -> tuple[CellState, ...]:
        return state

    def first_input(self, picture: Float[Array, "b d"]) -> Float[Array, "b d"] | None:
        return None

    def inputs(
        self, picture: Float[Array, "b d"], words: Float[Array, "b l d"], *, train: bool
    ) -> Float[Array, "b l e"]:
        return words

    def outputs(
        self, picture: Float[Array, "b d"], hidden: Float[Array, "b l d"], *, train: bool
    ) -> Float[Array, "b l e"]:
        return hidden


class InitInject(Inject):
    """The picture is the first state, of every layer: h, and of an LSTM also c."""

    def picture_width(self, decoder):
        return decoder.width * decoder.cell.num_states * decoder.num_layers

    def initial_state(self, picture, state):
        parts = jax.tree.leaves(state)
        expected = sum(part.shape[-1] for part in parts)
        if picture.shape[-1] != expected:
            raise ValueError(
                f"InitInject(width={self.width}) gives {picture.shape[-1]} numbers for a state of "
                f"{expected}; leave width out"
            )
        split = jnp.split(picture, len(parts), axis=-1)
        return jax.tree.unflatten(jax.tree.structure(state), split)


class PreInject(Inject):
    """The picture is read before the first word, as if it were one; its output is thrown away.

    Vinyals et al. 2015 (arXiv 1411.4555), eq. 10-12. So the output at BOS is the second of the network.
    """

    def picture_width(self, decoder):
        return decoder.embedding_width

    def first_input(self, picture):
        return picture


class ParInject(Inject):
    """The picture is fused with every word before the network reads it."""

    fusion: nn.Module

    def picture_width(self, decoder):
        return decoder.embedding_width

    def inputs(self, picture, words, *, train):
        return _fused(self.fusion, picture, words, train)


class Merge(Inject):
    """The picture is fused with every output; the network never sees it."""

    fusion: nn.Module

    def outputs(self, picture, hidden, *, train):
        return _fused(self.fusion, picture, hidden, train)


def _fused(fusion, picture, x, train):
    image = Features(values=picture[:, None], mask=jnp.ones((x.shape[0], 1), bool))
    text = Features(values=x, mask=jnp.ones(x.shape[:2], bool))
    return fusion(image, text, train=train).values


class RecurrentDecoder(nn.Module, kw_only=True):
    """Writes text: p(token | tokens before it, picture). Without `inject` it is a language model.

    Dropout: on the word vectors, on the outputs of every layer (`rnn_dropout_rate`), and on what the
    vocabulary layer reads (`output_dropout_rate`). Where a token is PAD the state stays as it was.

    Where picture and words enter side by side they should be of one size: `embedding_stddev` is that of the word
    vectors at the beginning, and a picture of standardised features is projected to values of about 1.

    With `sampling_rate` p, in training, every input but the first is with probability p drawn from the
    model's own prediction instead of the text (Bengio et al. 2015, arXiv 1506.03099); 0 is teacher forcing.

    With `carry` the state after the last token is kept in the collection "carry", where that is mutable, and the next
    call goes on from it, without a gradient through it (truncated backpropagation; Zaremba et al. 2014, section 4.1).
    A row whose first token is BOS starts anew. Cached steps are not concerned.

    `same_dropout` gives a row one mask for all times, on word vectors and outputs alike. `matrix_init` is what all
    matrices are drawn from, in place of what each has by itself.
    """

    cell: Cell = LSTM()
    vocab_size: int
    width: int
    embedding_width: int
    num_layers: int = 1
    inject: nn.Module | None = None
    embedding_dropout_rate: float = 0.0
    rnn_dropout_rate: float = 0.0
    output_dropout_rate: float = 0.0
    sampling_rate: float = 0.0
    tied: bool = False
    carry: bool = False
    same_dropout: bool = False
    embedding_stddev: float = 0.1
    matrix_init: Callable | None = None
    dtype: Any = jnp.float32

    def setup(self):
        self.embedding = Embedding(
            vocab_size=self.vocab_size,
            width=self.embedding_width,
            stddev=self.embedding_stddev,
            table_init=self.matrix_init,
            dtype=self.dtype,
        )
        init = self.matrix_init
        inits = {} if init is None else {"kernel_init": init, "recurrent_init": init}
        self.rnn = RecurrentStack(
            cell=self.cell,
            width=self.width,
            num_layers=self.num_layers,
            dropout_rate=self.rnn_dropout_rate,
            same_dropout=self.same_dropout,
            dtype=self.dtype,
            **inits,
        )
        self.vocabulary = Vocabulary(vocab_size=self.vocab_size, kernel_init=init, dtype=self.dtype)
        times = (1,) if self.same_dropout else ()
        self.embedding_dropout = nn.Dropout(self.embedding_dropout_rate, broadcast_dims=times)
        self.output_dropout = nn.Dropout(self.output_dropout_rate, broadcast_dims=times)

    def __call__(
        self, tokens: Int[Array, "b l"], memory: Features | None, *, train: bool
    ) -> Float[Array, "b l v"]:
        """Logits of the token after each of `tokens`."""
        cache = self.start(memory, tokens.shape[0], train=train)
        carried = self.carry and self.is_mutable_collection(CARRY)
        if carried:
            cache = {**cache, "state": self._carried(tokens, cache["state"])}
        if train and self.sampling_rate and not self.is_initializing():
            reading = read_with_own_tokens(self, tokens, cache, memory, self.sampling_rate)
        else:
            reading = self.read(tokens, cache, memory, train=train)
        if carried and not self.is_initializing():
            self.put_variable(CARRY, "state", reading.cache["state"])
        return reading.logits

    @nn.compact
    def _carried(self, tokens: Int[Array, "b l"], start: Any) -> Any:
        """The state that the call before left, in rows that go on; `start` in those that begin."""
        state = self.variable(CARRY, "state", lambda: jax.tree.map(jnp.zeros_like, start)).value
        rows = jax.tree.leaves(state)[0].shape[0]
        if rows != tokens.shape[0]:
            raise ValueError(
                f"the carried state has {rows} rows, the batch {tokens.shape[0]}: with carry=True all batches have the "
                "same rows; use Partition(strategy='mesh') in place of pmap, and Optimizer(accumulate=1)"
            )
        return hold(state, start, tokens[:, 0] != BOS)

    def initial_cache(self, memory: Features | None, batch_size: int, max_length: int) -> Cache:
        """{"state": the network's, "picture": the projected picture}; there is no limit to the length."""
        return self.start(memory, batch_size, train=False)

    def step(
        self, token: Int[Array, "b"], cache: Cache, memory: Features | None
    ) -> tuple[Float[Array, "b v"], Cache]:
        reading = self.read(token[:, None], cache, memory, train=False)
        return reading.logits[:, 0], reading.cache

    def start(self, memory: Features | None, batch_size: int, *, train: bool) -> Cache:
        """The cache before the first token."""
        state = self.rnn.initial_state(batch_size)
        if self.inject is None:
            if memory is not None:
                raise ValueError(
                    "RecurrentDecoder was given a memory and has no `inject` to read it by; try "
                    "inject=InitInject(), PreInject(), ParInject(fusion=Concat()) or Merge(fusion=Concat())"
                )
            return {"state": state}
        if memory is None:
            raise ValueError(
                f"RecurrentDecoder with inject={type(self.inject).__name__} was given no memory; give the "
                "Generator an encoder, or leave inject out for a language model"
            )
        width = self.inject.picture_width(self)
        picture = self.inject.picture(memory, default_width=width, train=train)
        state = self.inject.initial_state(picture, state)
        first = self.inject.first_input(picture)
        if first is not None:
            _, state = self.rnn.step(first, state, train=train)
        return {"state": state, "picture": picture}

    def read(
        self, tokens: Int[Array, "b l"], cache: Cache, memory: Features | None, *, train: bool
    ) -> Reading:
        """Reads l tokens on from the cache. `__call__` and `step` are both this."""
        x = self.embedding_dropout(self.embedding(tokens), deterministic=not train)
        if self.inject is not None:
            x = self.inject.inputs(cache["picture"], x, train=train)
        x, state = self.rnn(x, tokens != PAD, cache["state"], train=train)
        if self.inject is not None:
            x = self.inject.outputs(cache["picture"], x, train=train)
        x = self.output_dropout(x, deterministic=not train)
        logits = self.vocabulary(x, self.embedding if self.tied else None)
        return Reading(logits=logits, cache={**cache, "state": state})
