"""Bugs, a few lines each, that the checks of tests/invariants must catch: `python -m tests.seeded_bugs`.

A check that never failed proves nothing. Each bug here is one that was met in the wild, switched on by patching
the project for as long as the checks of its room run. The table that is printed has a row for each bug, a column for
each check, and an X where the check failed. The project without a bug must pass all; a bug that no check notices
makes the command fail.

    python -m tests.seeded_bugs                     everything
    python -m tests.seeded_bugs sampling data       some rooms
"""

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests import model_zoo
from tests.invariants import (
    classification_checks,
    copying_checks,
    data_checks,
    decoding_checks,
    language_model_checks,
    loss_checks,
    model_checks,
    syntax_checks,
    training_checks,
    translation_checks,
    word_checks,
)
from tests.invariants.subject import B, Subject
from vlm_jax.data import (
    buckets,
    pipeline,
    streams,
    text_transforms,
    word_transforms,
    word_windows,
)
from vlm_jax.data import copying as data_copying
from vlm_jax.decoding import base as decoding
from vlm_jax.decoding import beam_search, sampling, spanning_tree
from vlm_jax.language import attention_decoder, copying, glove, recurrent, transformer, word2vec
from vlm_jax.language.attention_decoder import AttentionDecoder
from vlm_jax.language.copying import PointerGenerator
from vlm_jax.language.recurrent import RecurrentDecoder
from vlm_jax.language.transformer import TransformerDecoder
from vlm_jax.language.word_characters import CharacterCnn
from vlm_jax.layers import attention, norm, pooling
from vlm_jax.layers.biaffine import DeepBiaffine
from vlm_jax.metrics import accuracy, attachment, sacrebleu, spearman
from vlm_jax.metrics import base as metrics
from vlm_jax.metrics.base import Mean
from vlm_jax.models import tagger
from vlm_jax.models.generator import Generator
from vlm_jax.tasks import classification, generation, parsing, tagging, word_vectors
from vlm_jax.tasks.language_modelling import LanguageModelling
from vlm_jax.text import lexicon
from vlm_jax.text import word_vectors as word_files
from vlm_jax.train import checkpoints, evaluation, optimizers, state, steps
from vlm_jax.types import EOS, PAD
from vlm_jax.vision.small_cnn import SmallCnn


@dataclasses.dataclass(frozen=True)
class Room:
    """Checks that share what they compile: each is called with the subject, where there is one."""

    checks: tuple[Callable, ...]
    subject: Callable[[], Any] | None = None
    # Lets go of what was compiled without the bug, or with another.
    forget: Callable[[], None] = lambda: None


@dataclasses.dataclass(frozen=True)
class Bug:
    name: str
    room: str
    patches: tuple[tuple[Any, str, Any], ...]  # (object, attribute, what stands there instead)

    @contextlib.contextmanager
    def switched_on(self):
        with contextlib.ExitStack() as stack:
            for owner, name, replacement in self.patches:
                stack.enter_context(mock.patch.object(owner, name, replacement))
            yield


BUGS: list[Bug] = []


def bug(name: str, room: str, *targets: tuple[Any, str]):
    """Registers the decorated `make(real, ...)`, which returns what replaces each target, or all of them."""

    def register(make):
        reals = [getattr(owner, attribute) for owner, attribute in targets]
        made = make(*reals)
        made = made if isinstance(made, tuple) else (made,)
        patches = tuple((*target, new) for target, new in zip(targets, made, strict=True))
        BUGS.append(Bug(name, room, patches))
        return make

    return register


# ---- loss: shift, masks, divisor

SHIFT = (generation, "shift")
LOSS = (generation.Generation, "loss")


def _with_mask(change):
    """A shift whose mask is `change(inputs, labels, mask, batch)`."""

    def make(real):
        def shift(batch):
            inputs, labels, mask = real(batch)
            return inputs, labels, change(inputs, labels, mask, batch)

        return shift

    return make


@bug("labels are not shifted", "loss", SHIFT)
def _(real):
    return lambda batch: (batch["target"][:, :-1], batch["target"][:, :-1], real(batch)[2])


@bug("labels are shifted twice", "loss", SHIFT)
def _(real):
    def shift(batch):
        inputs, labels, _ = real(batch)
        labels = jnp.concatenate([labels[:, 1:], jnp.full_like(labels[:, :1], PAD)], axis=1)
        return inputs, labels, (labels != PAD) & batch["valid"][:, None]

    return shift


bug("the mask is not shifted", "loss", SHIFT)(
    _with_mask(lambda inputs, labels, mask, batch: (inputs != PAD) & batch["valid"][:, None])
)
bug("EOS is masked (pad = eos)", "loss", SHIFT)(
    _with_mask(lambda inputs, labels, mask, batch: mask & (labels != EOS))
)
bug("the first word is dropped", "loss", SHIFT)(
    _with_mask(lambda inputs, labels, mask, batch: mask.at[:, 0].set(False))
)
bug("PAD is taught", "loss", SHIFT)(
    _with_mask(lambda inputs, labels, mask, batch: mask | batch["valid"][:, None])
)
bug("rows that are not valid count", "loss", SHIFT)(
    _with_mask(lambda inputs, labels, mask, batch: labels != PAD)
)


@bug("divided by the rows, not the tokens", "loss", LOSS)
def _(real):
    def loss(self, model, variables, batch, **options):
        objective, aux = real(self, model, variables, batch, **options)
        return objective * aux.metrics["loss"].count / batch["valid"].shape[0], aux

    return loss


@bug("mean of the rows' means", "loss", LOSS)
def _(real):
    def loss(self, model, variables, batch, **options):
        aux = real(self, model, variables, batch, **options)[1]
        rows = [
            real(
                self,
                model,
                variables,
                {**batch, "valid": jnp.arange(loss_checks.B) == i},
                **options,
            )[0]
            for i in range(loss_checks.B)
        ]
        return jnp.stack(rows).mean(), aux

    return loss


@bug("smoothing takes e and gives nothing back", "loss", (generation, "softmax_cross_entropy"))
def _(real):
    return lambda logits, labels, e=0.0: (1 - e) * real(logits, labels)


@bug("smoothing in evaluation", "loss", LOSS)
def _(real):
    def loss(self, model, variables, batch, *, rngs, train):
        return real(self, model, variables, batch, rngs=rngs, train=True)

    return loss


@bug("the reported loss is the smoothed one", "loss", LOSS)
def _(real):
    def loss(self, model, variables, batch, **options):
        objective, aux = real(self, model, variables, batch, **options)
        count = aux.metrics["loss"].count
        reported = Mean(total=jax.lax.stop_gradient(objective) * count, count=count)
        return objective, aux._replace(metrics={**aux.metrics, "loss": reported})

    return loss


# ---- a recurrent captioner with attention, batch norm and dropout

ENCODE = (Generator, "encode")
DROPOUT = (nn.Dropout, "__call__")
LOOK = (attention_decoder, "masked_softmax")


def _of_memory(change):
    def make(real):
        def encode(self, batch, *, train):
            memory = real(self, batch, train=train)
            return memory.replace(values=change(memory.values))

        return encode

    return make


bug("the picture is ignored", "attention", ENCODE)(_of_memory(lambda values: 0 * values))
bug("pictures of other rows", "attention", ENCODE)(_of_memory(lambda v: jnp.roll(v, 1, axis=0)))
bug("no gradient reaches the encoder", "attention", ENCODE)(_of_memory(jax.lax.stop_gradient))
bug("one picture for the whole batch", "attention", ENCODE)(
    _of_memory(lambda values: jnp.broadcast_to(values.mean(0, keepdims=True), values.shape))
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


# ---- Transformers: masks, positions, caches

CAUSAL = (transformer, "causal_mask")
PREFIX = (transformer, "prefix_mask")
KEPT = (transformer, "padding_mask")
POSITIONS = (transformer, "positions")
SOFTMAX = (attention, "masked_softmax")


@bug("no causal mask", "transformer", CAUSAL)
def _(real):
    return lambda length: jnp.ones_like(real(length))


@bug("the causal mask is one off", "transformer", CAUSAL)
def _(real):
    return lambda length: jnp.tril(jnp.ones((1, length, length), bool), 1)


@bug("a word does not see itself", "transformer", CAUSAL)
def _(real):
    return lambda length: jnp.tril(jnp.ones((1, length, length), bool), -1)


@bug("only the word itself is seen", "transformer", CAUSAL)
def _(real):
    return lambda length: jnp.eye(length, dtype=bool)[None]


@bug("the prefix sees the text", "prefix", PREFIX)
def _(real):
    return lambda prefix, length: real(prefix, length).at[:, :prefix].set(True)


@bug("the prefix is causal", "prefix", PREFIX)
def _(real):
    return lambda prefix, length: jnp.tril(real(prefix, length))


@bug("no causal mask after the prefix", "prefix", PREFIX)
def _(real):
    return lambda prefix, length: real(prefix, length).at[:, prefix:].set(True)


@bug("the text does not see the last of the prefix", "prefix", PREFIX)
def _(real):
    return lambda prefix, length: real(prefix, length).at[:, prefix:, prefix - 1].set(False)


@bug("padding of the memory is seen", "transformer", KEPT)
def _(real):
    return lambda kept: jnp.ones_like(real(kept))


@bug("padding has a little weight", "transformer", SOFTMAX)
def _(real):
    return lambda scores, mask: jax.nn.softmax(jnp.where(mask, scores, -9.0))


def _after_step(change):
    """A decoder whose `extend` hands on a cache that `change(old, new)` spoiled."""

    def make(real):
        def extend(self, tokens, cache, memory):
            logits, new = real(self, tokens, cache, memory)
            return logits, change(cache, new)

        return extend

    return make


EXTEND = (TransformerDecoder, "extend")
bug("the position stays 0 in steps", "transformer", EXTEND)(
    _after_step(lambda old, new: {**new, "position": old["position"]})
)
bug("the position in steps is one ahead", "transformer", (TransformerDecoder, "initial_cache"))(
    lambda real: (
        lambda *arguments: {**real(*arguments), "position": real(*arguments)["position"] + 1}
    )
)
bug("every step writes over the first", "transformer", EXTEND)(
    _after_step(
        lambda old, new: {
            **new,
            "blocks": tuple(
                b.replace(position=a.position) for a, b in zip(old["blocks"], new["blocks"])
            ),
        }
    )
)
bug("the cache keeps keys and forgets values", "transformer", EXTEND)(
    _after_step(
        lambda old, new: {
            **new,
            "blocks": tuple(
                b.replace(values=a.values) for a, b in zip(old["blocks"], new["blocks"])
            ),
        }
    )
)
bug("steps see the empty places of the cache", "transformer", EXTEND)(
    lambda real: (
        lambda self, tokens, cache, memory: real(
            self, tokens, {**cache, "kept": jnp.ones_like(cache["kept"])}, memory
        )
    )
)


@bug("positions count padding in steps only", "transformer", POSITIONS)
def _(real):
    return lambda kept: real(kept) if kept.shape[1] > 1 else real(kept) + 1


@bug("all words stand at position 0", "transformer", POSITIONS)
def _(real):
    return lambda kept: 0 * real(kept)


# ---- decoding

SCORE = (beam_search.BeamSearch, "score")
SAMPLE = (sampling, "filtered_sample")


@bug("the cache is not reordered", "beam search", (beam_search, "_reordered"))
def _(real):
    return lambda old, new, parents: new


@bug("the words are not reordered", "beam search", (beam_search, "_rows"))
def _(real):
    return lambda x, indices: x[:, : indices.shape[1]] if x.ndim == 3 else real(x, indices)


@bug("beams are tiled a b a b", "beam search", (beam_search, "tile"))
def _(real):
    return lambda tree, times, batch_size: jax.tree.map(
        lambda leaf: jnp.tile(leaf, (times, *[1] * (leaf.ndim - 1))), tree
    )


@bug("no length penalty", "beam search", SCORE)
def _(real):
    return lambda self, log_probs, lengths: log_probs


@bug("the length counts BOS", "beam search", SCORE)
def _(real):
    return lambda self, log_probs, lengths: real(self, log_probs, lengths + 1)


@bug("the length multiplies", "beam search", SCORE)
def _(real):
    return lambda self, log_probs, lengths: log_probs**3 / real(self, log_probs, lengths) ** 2


@bug("stops before a longer one can win", "beam search", SCORE)
def _(real):
    return lambda self, log_probs, lengths: (
        log_probs * 9 if isinstance(lengths, int) else real(self, log_probs, lengths)
    )


@bug("ended beams are forgotten", "beam search", (beam_search, "_merged"))
def _(real):
    return lambda old, new: old


@bug("the first to end wins", "beam search", (beam_search, "_merged"))
def _(real):
    return lambda old, new: jax.tree.map(
        lambda a, b: (
            jnp.where(jnp.isfinite(old.scores.min()), a, b[:, : a.shape[1]])
            if b.shape[1] >= a.shape[1]
            else a
        ),
        old,
        new,
    )


@bug("beams go on after EOS", "beam search", (beam_search, "EOS"))
def _(real):
    return 10_000


@bug("banned tokens are not banned", "beam search", (beam_search, "constrain"))
def _(real):
    return lambda *args, banned, **options: real(*args, banned=(), **options)


@bug("min_length leaves EOS out", "beam search", (beam_search, "constrain"))
def _(real):
    return lambda *args, min_length, **options: real(*args, min_length=min_length - 1, **options)


@bug("4-grams are blocked, not trigrams", "beam search", (decoding, "_block_repeated_ngrams"))
def _(real):
    return lambda logits, tokens, length, n: real(logits, tokens, length, n + 1)


@bug("scores are logits", "beam search", (jax.nn, "logsumexp"))
def _(real):
    return lambda a, axis=None, keepdims=False, **options: (
        0 * real(a, axis=axis, keepdims=keepdims, **options)
    )


@bug("ended rows go on", "sampling", (sampling, "PAD"))
def _(real):
    return 5


@bug("top_p before top_k", "sampling", SAMPLE)
def _(real):
    def sample(keys, logits, *, top_k, top_p):
        order = jnp.argsort(-logits, axis=-1)
        probs = jax.nn.softmax(jnp.take_along_axis(logits, order, -1))
        kept = jnp.cumsum(probs, -1) - probs < top_p
        kept = jnp.take_along_axis(kept, jnp.argsort(order, axis=-1), -1)
        return real(keys, jnp.where(kept, logits, -1e9), top_k=top_k, top_p=1.0)

    return sample


@bug("top_p leaves out the token that reaches it", "sampling", SAMPLE)
def _(real):
    return lambda keys, logits, *, top_k, top_p: real(
        keys, logits, top_k=top_k, top_p=top_p if top_p == 1 else 0.9 * top_p
    )


@bug("top_k keeps one more", "sampling", SAMPLE)
def _(real):
    return lambda keys, logits, *, top_k, top_p: real(
        keys, logits, top_k=top_k and top_k + 1, top_p=top_p
    )


@bug("rows share their noise", "sampling", SAMPLE)
def _(real):
    return lambda keys, logits, **filters: real(
        jnp.broadcast_to(keys[:1], keys.shape), logits, **filters
    )


@bug("positions share their noise", "sampling", (jax.random, "fold_in"))
def _(real):
    return lambda key, data: (
        key if jnp.ndim(data) == 0 and not isinstance(data, int) else real(key, data)
    )


@bug("temperature multiplies", "sampling", (sampling.Sampling, "__call__"))
def _(real):
    def call(self, *args, **options):
        if self.temperature > 0:
            self = dataclasses.replace(self, temperature=1 / self.temperature)
        return real(self, *args, **options)

    return call


# ---- training

RESTORE = (checkpoints, "restore")


@bug("the average is not evaluated", "training", (state.State, "eval_variables"))
def _(real):
    return state.State.variables


@bug("the average's decay is turned round", "training", (steps, "moving_average"))
def _(real):
    return lambda average, params, decay: real(average, params, 1 - decay)


@bug("everything decays", "training", (optimizers.Optimizer, "decayed"))
def _(real):
    return lambda self, params: jax.tree.map(lambda _: True, params)


@bug("nothing decays", "training", (optimizers.Optimizer, "decayed"))
def _(real):
    return lambda self, params: jax.tree.map(lambda _: False, params)


@bug("frozen parameters move", "training", (optimizers.Optimizer, "trainable"))
def _(real):
    return lambda self, params: jax.tree.map(lambda _: True, params)


@bug("mean of the micro-batches' means", "training", (training_checks.toys.Task, "loss"))
def _(real):
    def loss(self, *args, **options):
        objective, aux = real(self, *args, **options)
        mean = aux.metrics["loss"]
        counted = Mean(total=mean.total / mean.count, count=jnp.ones(()))
        return objective, aux._replace(metrics={**aux.metrics, "loss": counted})

    return loss


@bug("one micro-batch again and again", "training", (steps, "split"))
def _(real):
    return lambda x, parts: jnp.broadcast_to(real(x, parts)[:1], real(x, parts).shape)


@bug("the schedule is one step ahead", "training", (optimizers.Optimizer, "schedule"))
def _(real):
    return lambda self, step: real(self, step + 1)


@bug("each leaf is clipped by itself", "training", (optax, "clip_by_global_norm"))
def _(real):
    def clip(bound):
        def update(leaf):
            return leaf * jnp.minimum(1, bound / jnp.linalg.norm(leaf.ravel()))

        return optax.stateless(lambda updates, _: jax.tree.map(update, updates))

    return clip


@bug("every step drops the same", "training", (steps, "step_key"))
def _(real):
    return lambda key, step: key


@bug("torch's momentum in batch norm", "training", (norm.BatchNorm, "__call__"))
def _(real):
    return lambda self, *args, **options: real(
        dataclasses.replace(self, momentum=1 - self.momentum), *args, **options
    )


@bug("moments are lost on restore", "training", RESTORE)
def _(real):
    def restore(workdir, like):
        found, position = real(workdir, like)
        return found.replace(opt_state=jax.tree.map(jnp.zeros_like, found.opt_state)), position

    return restore


@bug("the average is lost on restore", "training", RESTORE)
def _(real):
    def restore(workdir, like):
        found, position = real(workdir, like)
        return found.replace(ema=found.params), position

    return restore


@bug("the position is one off on restore", "training", RESTORE)
def _(real):
    return lambda workdir, like: (real(workdir, like)[0], real(workdir, like)[1] + 1)


@bug("mean of the batches' means", "training", (Mean, "__add__"))
def _(real):
    def add(self, other):
        halves = [m.total / jnp.where(m.count == 0, 1, m.count) for m in (self, other)]
        return Mean(total=(halves[0] + halves[1]) / 2, count=jnp.ones_like(self.count))

    return add


@bug("sums in bfloat16", "training", (Mean, "__add__"))
def _(real):
    def add(self, other):
        small = [m.total.astype(jnp.bfloat16) for m in (self, other)]
        return Mean(total=(small[0] + small[1]).astype(jnp.float32), count=self.count + other.count)

    return add


@bug("only the last batch is scored", "training", (evaluation, "total"))
def _(real):
    return lambda stats: list(stats)[-1]


@bug("copies in the last batch are scored", "training", (training_checks.toys.Task, "score"))
def _(real):
    return lambda self, predictions, batch, references: real(
        self, predictions, {**batch, "valid": np.ones_like(batch["valid"])}, references
    )


# ---- data and corpus scores

IN_ORDER = (pipeline._MakeBatch, "_in_order")
ORDER = (pipeline, "_order")
BATCHES = (pipeline.Pipeline, "batches")
GENERATOR = (pipeline, "_generator")


@bug("the last batch is dropped", "data", (pipeline.Pipeline, "num_batches"))
def _(real):
    return property(lambda self: len(self.source) // self.batch_size)


@bug("copies in the last batch are valid", "data", IN_ORDER)
def _(real):
    def in_order(self, slots):
        made = real(self, slots)
        made.batch["id"] = np.abs(made.batch["id"])
        made.batch["valid"][:] = True
        return made

    return in_order


@bug("every epoch has the same order", "data", ORDER)
def _(real):
    return lambda seed, epoch, size: real(seed, 0, size)


@bug("the seed is ignored", "data", ORDER)
def _(real):
    return lambda seed, epoch, size: real(0, epoch, size)


@bug("training is not shuffled", "data", ORDER)
def _(real):
    return lambda seed, epoch, size: np.arange(size)


@bug("drawn with replacement", "data", ORDER)
def _(real):
    return lambda seed, epoch, size: np.random.default_rng((seed, epoch)).integers(0, size, size)


@bug("resumes one batch too late", "data", BATCHES)
def _(real):
    return lambda self, position=0, **options: real(self, position + (position > 0), **options)


@bug("resumes at the batch before", "data", BATCHES)
def _(real):
    return lambda self, position=0, **options: real(self, max(position - 1, 0), **options)


@bug("all examples share their draws", "data", GENERATOR)
def _(real):
    return lambda seed, stream: real(seed, 0)


@bug("every epoch has the same draws", "data", GENERATOR)
def _(real):
    return lambda seed, stream: real(seed, stream & ((1 << 40) - 1))


@bug("all hosts read the same rows", "data", BATCHES)
def _(real):
    return lambda self, position=0, shard=(0, 1): real(self, position, shard=(0, shard[1]))


@bug("the corpus score is that of the last batch", "data", (metrics, "total"))
def _(real):
    return lambda stats: list(stats)[-1]


# ---- tagging and parsing

TREE = (spanning_tree, "spanning_tree")


@bug("each word takes its best head: cycles", "trees", (spanning_tree, "_is_tree"))
def _(real):
    return lambda heads: True


@bug("as many roots as pay", "trees", (spanning_tree, "_finite"))
def _(real):
    def finite(scores):
        made = real(scores)
        made[1:, 0] = np.where(np.isfinite(scores[:, 0]), scores[:, 0], -1e6)
        made[1:, 1:] = np.where(np.isfinite(scores[:, 1:]), scores[:, 1:], -1e6)
        return made

    return finite


@bug("two roots pass for a tree", "trees", (spanning_tree, "_is_tree"))
def _(real):
    return lambda heads: spanning_tree._cycle(np.concatenate([[0], heads])) is None


@bug("entering a cycle costs nothing", "trees", (spanning_tree, "_ways_in"))
def _(real):
    return lambda scores, cycle, rest, heads: scores[np.ix_(cycle, rest)]


@bug("the root is the best first word's", "trees", TREE)
def _(real):
    def tree(scores):
        scores = np.array(scores, float)
        if len(scores) > 1:
            scores[np.arange(len(scores)) != scores[:, 0].argmax(), 0] = -np.inf
        return real(scores)

    return tree


@bug("heads are shifted by one", "words", (tagger.Parser, "_arcs"))
def _(real):
    return lambda self, features, train: jnp.roll(real(self, features, train), 1, axis=-1)


@bug("padding is a head", "words", (tagger, "NEVER"))
def _(real):
    return 0.0


@bug("the root stands last among the heads", "words", (DeepBiaffine, "_sides"))
def _(real):
    def sides(self, x, train):
        dependents, heads = real(self, x, train)
        return dependents, jnp.roll(heads, -1, axis=1)

    return sides


@bug("dependent and head change places", "words", (DeepBiaffine, "_sides"))
def _(real):
    def sides(self, x, train):
        dependents, heads = real(self, x, train)
        return heads[:, 1:], jnp.concatenate([heads[:, :1], dependents], axis=1)

    return sides


@bug("the relation is that to the root", "words", (DeepBiaffine, "at"))
def _(real):
    return lambda self, x, heads, *, train: real(self, x, 0 * heads, train=train)


@bug("the relation is read at the wrong head", "words", (parsing.Parsing, "examples"))
def _(real):
    return lambda self, predictions, batch: real(
        self, predictions.replace(relations=np.roll(predictions.relations, 1, axis=-1)), batch
    )


@bug("padding is taught", "words", (tagging, "labelled"), (parsing, "labelled"))
def _(*reals):
    def all_of(batch, key="label"):
        return jnp.ones_like(batch["text"], bool) & batch["valid"][:, None]

    return all_of, all_of


@bug("rows that are not valid are taught", "words", (tagging, "labelled"), (parsing, "labelled"))
def _(*reals):
    def all_rows(batch, key="label"):
        return (batch[key] >= 0) & (batch["text"] != PAD)

    return all_rows, all_rows


@bug("padding is scored", "words", (tagging.Tagging, "score"))
def _(real):
    def score(self, predictions, batch, references):
        longest = batch["text"].shape[1]
        more = {
            i: {**gold, "upos": gold["upos"] + (self.names[0],) * (longest - len(gold["upos"]))}
            for i, gold in references.items()
        }
        return real(self, predictions, {**batch, "text": np.ones_like(batch["text"])}, more)

    return score


@bug("words left out are not counted", "words", (attachment.Attachment, "stats"))
def _(real):
    return lambda self, prediction, references: real(
        self, prediction, references[: len(prediction)]
    )


@bug("subtypes count", "words", (attachment, "universal"))
def _(real):
    return lambda relation: relation


@bug("LAS leaves the heads out", "words", (attachment.Attachment, "stats"))
def _(real):
    def stats(self, prediction, references):
        found = real(self, prediction, references)
        named = [
            real(self, [(0, p)], [(0, g)]).labelled
            for (_, p), (_, g) in zip(prediction, references)
        ]
        return dataclasses.replace(found, labelled=sum(named))

    return stats


@bug("any relation may be the root's", "words", (jnp, "where"))
def _(real):
    def where(condition, x=None, y=None, **options):
        infinite = isinstance(y, float) and y == -np.inf and jnp.ndim(x) == 4
        if infinite and condition.ndim == 2:
            return x
        return real(condition, x, y, **options)

    return where


@bug("rare words have rows", "words", (lexicon, "_count"))
def _(real):
    return lambda given: real(dataclasses.replace(given, min_count=1))


@bug("a word of the test takes a row", "words", (lexicon.Lexicon, "row"))
def _(real):
    def row(self, word):
        found = real(self, word)
        return found if found != 3 else 4 + len(word) % (self.num_tokens - 4)

    return row


@bug("the letters are those of the word before", "words", (word_transforms, "letters"))
def _(real):
    before = ["x"]

    def letters(word, max_letters):
        before.append(word)
        return real(before[-2], max_letters)

    return letters


@bug("the letters are not read", "words", (CharacterCnn, "__call__"))
def _(real):
    return lambda self, characters: real(self, jnp.ones_like(characters))


# ---- word vectors and sentiment


@bug("the classes are in the other order", "classes", (classification.Classification, "examples"))
def _(real):
    def examples(self, predictions, batch):
        flipped = dataclasses.replace(self, classes=self.classes[::-1])
        return real(flipped, predictions, batch)

    return examples


@bug("padding in the maximum over time", "classes", (pooling, "max_pool"))
def _(real):
    return lambda features: features.values.max(axis=1)


@bug("zeros in the maximum over time", "classes", (pooling, "max_pool"))
def _(real):
    return lambda f: jnp.where(f.mask[..., None], f.values, 0).max(axis=1)


@bug("accuracy over padded rows", "classes", (classification.Classification, "score"))
def _(real):
    def score(self, predictions, batch, references):
        return real(self, predictions, {**batch, "valid": np.ones_like(batch["valid"])}, references)

    return score


@bug("the loss of padded rows", "classes", (classification.Classification, "loss"))
def _(real):
    def loss(self, model, variables, batch, **options):
        batch = {**batch, "valid": jnp.ones_like(batch["valid"])}
        return real(self, model, variables, batch, **options)

    return loss


@bug("accuracies of batches are averaged", "classes", (accuracy.Confusion, "__add__"))
def _(real):
    return lambda self, other: self


WINDOWS = (word_windows, "_epoch")
KEPT = (word_windows.WordWindows, "_kept")


def _of_stream(change):
    """An epoch's stream after `change(stream)`."""

    def make(real):
        return lambda windows, epoch: change(real.__wrapped__(windows, epoch))

    return make


bug("the window is never drawn smaller", "word vectors", WINDOWS)(
    _of_stream(
        lambda s: s._replace(left=np.where(s.left > 0, 3, 0), right=np.where(s.right > 0, 3, 0))
    )
)
bug("contexts on the left only", "word vectors", WINDOWS)(
    _of_stream(lambda s: s._replace(right=np.zeros_like(s.right)))
)
bug("the text is one word late", "word vectors", WINDOWS)(
    _of_stream(lambda s: s._replace(ids=np.roll(s.ids, 1)))
)


@bug("subsampling upside down", "word vectors", KEPT)
def _(real):
    return property(lambda self: 1.0 - 0.9 * real.func(self))


@bug("subsampling by the square root alone", "word vectors", KEPT)
def _(real):
    def kept(self):
        ratio = self.subsample * self._text.counts.sum() / np.maximum(self._text.counts, 1)
        return np.minimum(np.sqrt(ratio), 1.0)

    return property(kept)


@bug("negatives by the count itself", "word vectors", (word_windows, "Noise"))
def _(real):
    return lambda weights: real(np.asarray(weights) ** (4 / 3))


@bug("negatives that the text does not have", "word vectors", (word_windows, "Noise"))
def _(real):
    return lambda weights: real(np.ones(len(weights)))


def _of_pairs(model, change):
    """The model's Pairs after `change(pairs, batch)`."""

    def make(real):
        return lambda self, batch, *, train: change(real(self, batch, train=train), batch)

    return (model, "__call__"), make


for name, model, change in (
    ("contexts are negatives too", word2vec.SkipGram, lambda p, b: p._replace(
        negative=p.negative.at[..., b["text"].shape[1]:].set(
            p.positive.sum(-1, keepdims=True) / b["negatives"].shape[1]))),
    ("a negative counts once a word, not once a pair", word2vec.SkipGram, lambda p, b: p._replace(
        negative=jnp.where(p.negative > 0, 1 / b["negatives"].shape[1], 0.0))),
    ("the word itself is a negative", word2vec.Cbow, lambda p, b: p._replace(
        negative=p.negative.at[..., b["left"].shape[1]:].set(1 / b["negatives"].shape[1]))),
    ("negatives of a row count whole", word2vec.Cbow, lambda p, b: p._replace(
        negative=p.negative * b["negatives"].shape[1])),
):  # fmt: skip
    bug(name, "word vectors", (model, "__call__"))(_of_pairs(model, change)[1])


@bug("a word is its own context", "word vectors", (word2vec, "contexts"))
def _(real):
    def contexts(batch):
        around, reach = real(batch)
        return around.at[:, jnp.arange(around.shape[1]), reach + jnp.arange(around.shape[1])].set(
            1
        ), reach

    return contexts


@bug("rows that are not valid are contexts", "word vectors", (word2vec, "contexts"))
def _(real):
    return lambda batch: real({**batch, "valid": jnp.ones_like(batch["valid"])})


@bug("the sum of the contexts, not their mean", "word vectors", (word2vec.Cbow, "__call__"))
def _(real):
    def call(self, batch, *, train):
        pairs = real(self, batch, train=train)
        around, _ = word2vec.contexts(batch)
        return pairs._replace(scores=pairs.scores * around.sum(-1, keepdims=True))

    return call


@bug("a context gets its share of the gradient only", "word vectors", (jax.lax, "stop_gradient"))
def _(real):
    return lambda x: x


@bug("GloVe's weight without its power", "word vectors", (word_vectors.LogCounts, "loss"))
def _(real):
    return lambda self, *args, **options: real(
        dataclasses.replace(self, power=1.0), *args, **options
    )


@bug("GloVe's vectors without their contexts", "word vectors", (glove.GloVe, "vectors"))
def _(real):
    return lambda self: self.embedding.table[:, :-1]


@bug("a .bin of the other byte order", "word vectors", (word_files, "FLOAT"))
def _(real):
    return real.newbyteorder(">")


@bug("equal values have ranks of their own", "word vectors", (spearman, "ranks"))
def _(real):
    return lambda values: [float(r) for r in np.argsort(np.argsort(values, kind="stable")) + 1]


# ---- language models

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


# ---- translation: batches by tokens, what is read, BLEU, averages

PACK = (buckets.Buckets, "pack")
MEASURE = (buckets, "_lengths")
BLEU = (sacrebleu.SacreBleu, "stats")


@bug("token batches drop the remainder", "translation data", PACK)
def _(real):
    def pack(self, order, buckets, multiple, random):
        batches = real(self, order, buckets, multiple, random)
        return [(b, rows) for b, rows in batches if len(rows) == self.rows(b, multiple)]

    return pack


@bug("copies in the last token batch count", "translation data", (pipeline._MakeBatch, "_train"))
def _(real):
    return lambda self, picks, *fits: real(self, [p._replace(counts=True) for p in picks], *fits)


@bug("every epoch has the same token batches", "translation data", (pipeline, "_packed"))
def _(real):
    return lambda seed, epoch, *others: real(seed, 0, *others)


@bug("hosts pack batches of their own", "translation data", BATCHES)
def _(real):
    return lambda self, position=0, shard=(0, 1): real(
        dataclasses.replace(self, seed=self.seed + shard[0]), position, shard
    )


@bug("as many rows whatever the length", "translation data", (buckets.Buckets, "rows"))
def _(real):
    return lambda self, bucket, multiple: real(self, 0, multiple)


@bug("a long source is cut silently", "translation data", MEASURE)
def _(real):
    return lambda example, buckets: [0, real(example, buckets)[1]]


@bug("a long target is cut silently", "translation data", MEASURE)
def _(real):
    return lambda example, buckets: [real(example, buckets)[0], 0]


@bug("the length leaves EOS out", "translation data", MEASURE)
def _(real):
    return lambda example, buckets: [length - 1 for length in real(example, buckets)]


@bug(
    "the target's language is read as the source",
    "translation data",
    (text_transforms.Tokenize, "__call__"),
)
def _(real):
    return lambda self, example, rng=None: real(dataclasses.replace(self, key="de"), example, rng)


@dataclasses.dataclass(frozen=True)
class _Scores(metrics.Stats):
    scores: tuple


@bug(
    "BLEU is the mean over the sentences",
    "translation data",
    BLEU,
    (sacrebleu.SacreBleu, "result"),
)
def _(stats, result):
    return (
        lambda self, text, gold: _Scores((result(self, stats(self, text, gold))["bleu"],)),
        lambda self, found: {"bleu": float(np.mean(found.scores))},
    )


@bug("BLEU without the case", "translation data", BLEU)
def _(real):
    return lambda self, text, gold: real(self, text.lower(), [g.lower() for g in gold])


@bug("BLEU of the reference by the prediction", "translation data", BLEU)
def _(real):
    return lambda self, text, gold: real(self, gold[0], [text])


AVERAGE = (checkpoints, "average_variables")
LOAD = (checkpoints, "load_variables")


@bug("the average forgets one checkpoint", "translation data", AVERAGE)
def _(real):
    return lambda workdir, chosen: real(workdir, sorted(chosen)[1:])


@bug("the newest checkpoint is called the average", "translation data", AVERAGE)
def _(real):
    return lambda workdir, chosen: real(workdir, [max(chosen)])


@bug("the average is that of the optimizer's moments", "translation data", LOAD)
def _(real):
    def load(workdir, step=None):
        leaves = checkpoints._read(workdir / "checkpoints" / str(step), None)[0]
        return {"params": checkpoints._nested(leaves)["opt_state"]["mu"]}

    return load


def _of_mask(change):
    """An encoder whose memory has the mask `change(mask)`."""

    def make(real):
        def encode(self, batch, *, train):
            memory = real(self, batch, train=train)
            return memory.replace(mask=change(memory.mask))

        return encode

    return make


bug("padding of the source is looked at", "translation", ENCODE)(_of_mask(jnp.ones_like))
bug("only the first half of the source is looked at", "translation", ENCODE)(
    _of_mask(lambda mask: mask & (jnp.arange(mask.shape[1]) < mask.shape[1] // 2)[None])
)
bug("the source of another row", "translation", ENCODE)(
    _of_memory(lambda values: jnp.roll(values, 1, axis=0))
)
bug("the source is ignored", "translation", ENCODE)(_of_memory(lambda values: 0 * values))


@bug("padding is a word of the source", "translation", (transformer, "PAD"))
def _(real):
    return -1


# ---- summarisation


def _with(**functions):
    """`flax.linen` as the copying decoder sees it, some of its functions replaced."""
    return lambda real: types.SimpleNamespace(**{**vars(real), **functions})


COPYING_NN = (copying, "nn")
PLACES = (copying, "places_of")
COPY_LOOK = (attention_decoder._Step, "look")
TURNS = itertools.cycle((1, 0))  # the gate is asked for first, then 1 minus the gate
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


# ---- running them


def attention_subject() -> Subject:
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


def zoo_subject(name: str) -> Subject:
    image = np.random.default_rng(4).normal(size=(B, model_zoo.NUM_PLACES, model_zoo.FEATURES))
    return Subject(model_zoo.generators()[name], {"image": image.astype(np.float32)})


def translation_subject() -> Subject:
    model = model_zoo.text_generators()["translation_transformer"]
    return Subject(model, {"text": model_zoo.text_of(model)})


# Of a Transformer, what its masks, positions and caches can break.
OF_MASKS = (
    model_checks.check_chain_rule,
    model_checks.check_causality_by_change,
    model_checks.check_a_word_is_not_the_same_everywhere,
    model_checks.check_rows_add_by_their_tokens,
    model_checks.check_rows_do_not_mix,
    model_checks.check_gradients_reach_every_parameter,
    model_checks.check_the_image_matters,
    model_checks.check_steps_equal_the_full_forward,
    model_checks.check_padding_in_the_memory_is_not_seen,
    model_checks.check_scoring_equals_the_loss,
)

ROOMS = {
    "training": Room(training_checks.CHECKS, training_checks.Training),
    "attention": Room(model_checks.CHECKS, attention_subject),
    "transformer": Room(OF_MASKS, lambda: zoo_subject("transformer")),
    "beam search": Room(decoding_checks.BEAM_CHECKS, forget=decoding_checks.forget),
    "sampling": Room(decoding_checks.SAMPLING_CHECKS, forget=decoding_checks.forget),
    "prefix": Room(
        (*OF_MASKS, model_checks.check_the_prefix_sees_itself),
        lambda: zoo_subject("transformer_prefix"),
    ),
    "loss": Room(loss_checks.CHECKS, loss_checks.Loss),
    "data": Room(data_checks.CHECKS),
    "language models": Room(language_model_checks.CHECKS, forget=language_model_checks.forget),
    "trees": Room(syntax_checks.TREE_CHECKS),
    "words": Room(syntax_checks.CHECKS, syntax_checks.Words),
    "classes": Room(classification_checks.CHECKS),
    "word vectors": Room(word_checks.CHECKS, forget=word_checks.forget),
    "translation data": Room(translation_checks.DATA_CHECKS, forget=translation_checks.forget),
    "translation": Room(translation_checks.READER_CHECKS, translation_subject),
    "copying": Room(copying_checks.CHECKS, copying_checks.Pointer),
}


def failures(room: Room) -> set[str]:
    """The names of the checks that fail, now."""
    room.forget()
    arguments = [room.subject()] if room.subject else []
    failed = set()
    for check in room.checks:
        try:
            check(*arguments)
        except Exception:  # an error is as good a sign as a failed assertion
            failed.add(check.__name__)
    return failed


def caught(bug: Bug) -> set[str]:
    with bug.switched_on():
        return failures(ROOMS[bug.room])


def table(name: str) -> tuple[list[str], int, int]:
    """The room's table in Markdown, the number of bugs, and of those that were caught."""
    room, bugs = ROOMS[name], [bug for bug in BUGS if bug.room == name]
    clean = failures(room)
    rows = {"(none)": clean, **{bug.name: caught(bug) for bug in bugs}}
    used = [check.__name__ for check in room.checks]
    lines = [f"### {name}", ""]
    lines += [
        f"{i}. {check.removeprefix('check_').replace('_', ' ')}" for i, check in enumerate(used, 1)
    ]
    lines += ["", "| bug | " + " | ".join(str(i) for i in range(1, len(used) + 1)) + " |"]
    lines += ["|---|" + "---|" * len(used)]
    for bug_name, failed in rows.items():
        marks = " | ".join("X" if check in failed else " " for check in used)
        lines.append(f"| {bug_name} | {marks} |")
    found = sum(bool(rows[bug.name]) for bug in bugs)
    if clean:
        lines.append(f"\nWithout a bug these fail: {sorted(clean)}")
    return lines, len(bugs), found if not clean else 0


def main(names: list[str]) -> int:
    unknown = set(names) - set(ROOMS)
    if unknown:
        raise SystemExit(f"no such room: {sorted(unknown)}; there are {', '.join(ROOMS)}")
    start, total, found = time.perf_counter(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        # A bug leaves most functions as they are: they need not be compiled again.
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", folder)
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(2, os.cpu_count() or 1), mp_context=context) as pool:
            for lines, bugs, hits in pool.map(table, names or ROOMS):
                total, found = total + bugs, found + hits
                print("\n".join(lines), end="\n\n", flush=True)
    print(f"{found} of {total} bugs caught, {time.perf_counter() - start:.0f} seconds")
    return 0 if found == total else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
