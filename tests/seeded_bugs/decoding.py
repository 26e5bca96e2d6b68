"""Decoding."""

import dataclasses

import jax
import jax.numpy as jnp

from tests.invariants import (
    decoding_checks,
)
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.decoding import base as decoding
from vlm_jax.decoding import beam_search, sampling

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


@bug("rows draw by their place", "sampling", (sampling, "keys_of_samples"))
def _(real):
    return lambda key, rows, samples: real(key if key.ndim == 0 else key[0], rows, samples)


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


ROOMS = {
    "beam search": Room(decoding_checks.BEAM_CHECKS, forget=decoding_checks.forget),
    "sampling": Room(decoding_checks.SAMPLING_CHECKS, forget=decoding_checks.forget),
}
