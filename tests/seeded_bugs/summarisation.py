"""Summarisation."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np

from tests.invariants import (
    copying_checks,
)
from tests.seeded_bugs.harness import Room, bug
from tests.seeded_bugs.recurrent_captioner import LOOK
from vlm_jax.data import copying as data_copying
from vlm_jax.language import attention_decoder, copying
from vlm_jax.language.copying import CopyingTransformer, PointerGenerator
from vlm_jax.layers.attention import MultiHeadAttention
from vlm_jax.types import PAD


def _with(**functions):
    """`flax.linen` as the copying decoder sees it, some of its functions replaced."""
    return lambda real: types.SimpleNamespace(**{**vars(real), **functions})


COPYING_NN = (copying, "nn")
PLACES = (copying, "places_of")
COPY_LOOK = (attention_decoder._Step, "look")
TURNS = itertools.cycle((1, 0))  # the gate is asked for first, then 1 minus the gate
COPY_HEAD = (MultiHeadAttention, "attend")
EXTENDED_TEXT = (data_copying.ExtendedText, "__call__")

bug("p_gen is upside down", "copying", COPYING_NN)(
    _with(log_sigmoid=lambda x: jax.nn.log_sigmoid(-x))
)
bug("the copy distribution comes on top: no sum of one", "copying", COPYING_NN)(
    _with(log_sigmoid=lambda x: next(TURNS) * jax.nn.log_sigmoid(x))
)
bug("the vocabulary's scores are mixed before their softmax", "copying", COPYING_NN)(
    _with(log_softmax=lambda x: x)
)


@bug("padding is copied", "copying", PLACES)
def _(real):
    return lambda memory, rows: real(memory.replace(mask=jnp.ones_like(memory.mask)), rows)


@bug("padding of the text is looked at", "copying", LOOK)
def _(real):
    return lambda scores, mask: jax.nn.softmax(scores)


@bug("copies of the words of another text", "copying", PLACES)
def _(real):
    return lambda memory, rows: real(memory.replace(tokens=jnp.roll(memory.tokens, 1, 0)), rows)


@bug("only the first of like words is copied", "copying", PLACES)
def _(real):
    def places_of(memory, rows):
        row, alike = real(memory, rows)
        return row, alike & jnp.eye(alike.shape[-1], dtype=bool)

    return places_of


@bug("coverage counts the present step", "copying", COPY_LOOK)
def _(real):
    def look(self, *arguments):
        looks, after = real(self, *arguments)
        return {**looks, "again": looks["weights"].sum(-1)}, after

    return look


@bug("coverage remembers one step", "copying", COPY_LOOK)
def _(real):
    def look(self, *arguments):
        looks, after = real(self, *arguments)
        return looks, {**after, "coverage": looks["weights"]}

    return look


@bug("a copied word is read as padding", "copying", (PointerGenerator, "read"))
def _(real):
    return lambda self, tokens, *rest, **options: real(
        self, jnp.where(tokens < self.vocab_size, tokens, PAD), *rest, **options
    )


@bug("what was copied is read as padding", "copying_transformer", (copying, "known"))
def _(real):
    return lambda decoder, tokens: jnp.where(tokens < decoder.vocab_size, tokens, PAD)


@bug("the copying head sees padding", "copying_transformer", (copying, "padding_mask"))
def _(real):
    return lambda mask: real(jnp.ones_like(mask))


@bug("the copying head is one place off", "copying_transformer", (CopyingTransformer, "source"))
def _(real):
    def source(self, memory):
        found = real(self, memory)
        return {**found, "keys": jnp.roll(found["keys"], 1, axis=1)}

    return source


@bug("the gate does not see what would be copied", "copying_transformer", COPY_HEAD)
def _(real):
    def attend(self, *arguments, **options):
        x, weights = real(self, *arguments, **options)
        return (0 * x if self.name == "copy_attention" else x), weights

    return attend


@bug("unknown words are one row too high", "copying", EXTENDED_TEXT)
def _(real):
    def call(self, example, rng=None):
        found = real(self, example, rng)
        text = found[self.output]
        return {**found, self.output: text + (text >= self.tokenizer.vocab_size)}

    return call


@bug("every unknown word has a slot of its own", "copying", EXTENDED_TEXT)
def _(real):
    def call(self, example, rng=None):
        found = real(self, example, rng)
        unknown = found[self.output] >= self.tokenizer.vocab_size
        rows = self.tokenizer.vocab_size + np.cumsum(unknown) - 1
        return {**found, self.output: np.where(unknown, rows, found[self.output])}

    return call


@bug("what is to be copied is taught as unknown", "copying", (data_copying, "spelled"))
def _(real):
    return lambda spelling: {}


ROOMS = {
    "copying": Room(copying_checks.CHECKS, copying_checks.pointer),
    "copying_transformer": Room(copying_checks.TRANSFORMER_CHECKS, copying_checks.transformer),
}
