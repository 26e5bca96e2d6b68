"""A recurrent captioner with attention, batch norm and dropout."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.invariants import (
    model_checks,
)
from tests.invariants.subject import B, Subject
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.language import attention_decoder
from vlm_jax.language.attention_decoder import AttentionDecoder
from vlm_jax.layers import norm
from vlm_jax.models.generator import Generator
from vlm_jax.vision.small_cnn import SmallCnn

ENCODE = (Generator, "encode")
DROPOUT = (nn.Dropout, "__call__")
LOOK = (attention_decoder, "masked_softmax")


def of_memory(change):
    def make(real):
        def encode(self, batch, *, train):
            memory = real(self, batch, train=train)
            return memory.replace(values=change(memory.values))

        return encode

    return make


bug("the picture is ignored", "attention", ENCODE)(of_memory(lambda values: 0 * values))
bug("pictures of other rows", "attention", ENCODE)(of_memory(lambda v: jnp.roll(v, 1, axis=0)))
bug("no gradient reaches the encoder", "attention", ENCODE)(of_memory(jax.lax.stop_gradient))
bug("one picture for the whole batch", "attention", ENCODE)(
    of_memory(lambda values: jnp.broadcast_to(values.mean(0, keepdims=True), values.shape))
)


@bug("dropout in evaluation", "attention", DROPOUT)
def _(real):
    def call(self, inputs, deterministic=None, rng=None):
        if self.rate == 0 or self.is_initializing():
            return inputs
        rng = self.make_rng("dropout") if self.has_rng("dropout") else jax.random.key(0)
        return jnp.where(jax.random.bernoulli(rng, 0.5, inputs.shape), inputs, 0)

    return call


@bug("no dropout in training", "attention", DROPOUT)
def _(real):
    return lambda self, inputs, deterministic=None, rng=None: inputs


@bug("rows share their dropout", "attention", DROPOUT)
def _(real):
    def call(self, inputs, deterministic=None, rng=None):
        if deterministic or self.rate == 0:
            return inputs
        mask = jax.random.bernoulli(self.make_rng("dropout"), 0.5, inputs.shape[1:])
        return jnp.where(mask[None], inputs, 0)

    return call


@bug("the same dropout at every call", "attention", DROPOUT)
def _(real):
    return lambda self, inputs, deterministic=None, rng=None: real(
        self, inputs, deterministic, jax.random.key(0)
    )


@bug("batch statistics in evaluation", "attention", (norm.BatchNorm, "__call__"))
def _(real):
    def call(self, x, *, train, **options):
        axes = tuple(range(x.ndim - 1))
        moved = x if train else (x - x.mean(axes)) / jnp.sqrt(x.var(axes) + self.epsilon)
        return real(self, moved, train=train, **options)

    return call


@bug("a step forgets the state", "attention", (AttentionDecoder, "step"))
def _(real):
    return lambda self, token, cache, memory: (real(self, token, cache, memory)[0], cache)


@bug("steps start from zeros", "attention", (Generator, "initial_cache"))
def _(real):
    def initial_cache(self, memory, batch_size, max_length):
        cache = real(self, memory, batch_size, max_length)
        return {**cache, "state": jax.tree.map(jnp.zeros_like, cache["state"])}

    return initial_cache


@bug("a row without memory is NaN", "attention", LOOK)
def _(real):
    return lambda scores, mask: jax.nn.softmax(jnp.where(mask, scores, -jnp.inf))


@bug("a row without memory sees the mean", "attention", LOOK)
def _(real):
    return lambda scores, mask: jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min))


@bug("each word sees the one it must write", "attention", (AttentionDecoder, "__call__"))
def _(real):
    return lambda self, tokens, memory, *, train: real(
        self, jnp.roll(tokens, -1, axis=1), memory, train=train
    )


@bug("words are read from last to first", "attention", (AttentionDecoder, "__call__"))
def _(real):
    return lambda self, tokens, memory, *, train: real(self, tokens[:, ::-1], memory, train=train)[
        :, ::-1
    ]


def _subject() -> Subject:
    decoder = AttentionDecoder(
        vocab_size=21,
        width=8,
        embedding_width=6,
        attention_width=5,
        doubly_stochastic_weight=0.5,
        rnn_dropout_rate=0.3,
    )
    image = np.random.default_rng(0).random((B, 8, 8, 3), np.float32)
    return Subject(
        Generator(decoder=decoder, image_encoder=SmallCnn(features=(4, 6))), {"image": image}
    )


ROOMS = {"attention": Room(model_checks.CHECKS, _subject)}
