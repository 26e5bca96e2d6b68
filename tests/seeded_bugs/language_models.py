"""Language models."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from tests.invariants import (
    language_model_checks,
)
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.data import (
    streams,
)
from vlm_jax.language import recurrent
from vlm_jax.language.recurrent import RecurrentDecoder
from vlm_jax.metrics.base import Mean
from vlm_jax.tasks import generation
from vlm_jax.tasks.language_modelling import LanguageModelling
from vlm_jax.train import evaluation
from vlm_jax.types import EOS, PAD

WINDOW = (streams.Streams, "_batch")
TEXT = (streams, "_tokens")
WRITTEN = (LanguageModelling, "predict")


def _with_window(change):
    """Batches where `change(stream, batch)` gives what is different."""

    def make(real):
        def window(self, number, rows):
            batch = real(self, number, rows)
            return {**batch, **change(self, batch)}

        return window

    return make


def _also_predicted(stream, batch):
    """The last token of the context."""
    if not stream.context:
        return {}
    predicted = batch["predicted"].copy()
    predicted[:, stream.context - 1] = True
    return {"predicted": predicted}


def _without_context(stream, batch):
    if not stream.context:
        return {}
    target = batch["target"].copy()
    target[:, : stream.context] = PAD
    return {"target": target}


bug("a window predicts a token twice", "language models", WINDOW)(_with_window(_also_predicted))
bug("the context is not read", "language models", WINDOW)(_with_window(_without_context))


@bug("what does not fill a window is left out", "language models", (streams.Streams, "num_batches"))
def _(real):
    return property(lambda self: self.row_length // self.length)


@bug("the carried state is dropped", "language models", (RecurrentDecoder, "_carried"))
def _(real):
    def carried(self, tokens, start):
        real(self, tokens, start)
        return start

    return carried


@bug("evaluation carries nothing", "language models", (generation, "CARRY"))
def _(real):
    return "nothing"


@bug("the state leaks into the next epoch", "language models", (recurrent, "hold"))
def _(real):
    return lambda after, before, keep: after


@bug("the state begins anew in every window", "language models", (recurrent, "hold"))
def _(real):
    return lambda after, before, keep: before


@bug("perplexity over the windows, not the tokens", "language models", (evaluation, "_means"))
def _(real):
    def means(sums, perplexity):
        loss = sums["loss"]
        return real({**sums, "loss": Mean(total=loss.total, count=loss.count / 7)}, perplexity)

    return means


@bug("bits per token are called bits per byte", "language models", WINDOW)
def _(real):
    def window(self, number, rows):
        batch = real(self, number, rows)
        return {**batch, "bytes": (batch["target"][:, 1:] != PAD).sum(1).astype(np.int32)}

    return window


@bug("characters are counted, not bytes", "language models", TEXT)
def _(real):
    def tokens(source, tokenizer, key):
        found, sizes = real(source, tokenizer, key), [len(source[i][key]) + 1 for i in range(5)]
        counts = np.zeros_like(found.bytes)
        counts[found.ids == EOS] = sizes
        return dataclasses.replace(found, bytes=counts)

    return tokens


@bug("the ends of lines are not counted", "language models", TEXT)
def _(real):
    def tokens(source, tokenizer, key):
        found = real(source, tokenizer, key)
        return dataclasses.replace(found, bytes=np.maximum(found.bytes - 1, 0))

    return tokens


@bug("the last word of a prompt is not read", "language models", WRITTEN)
def _(real):
    def predict(self, model, variables, batch, key):
        words = batch["prompt"] > EOS
        last = words & ~jnp.roll(words, -1, axis=1)
        prompt = jnp.where(last, PAD, batch["prompt"])
        return real(self, model, variables, {**batch, "prompt": prompt}, key)

    return predict


ROOMS = {"language models": Room(language_model_checks.CHECKS, forget=language_model_checks.forget)}
