"""The best of many sentences, kept side by side while they grow."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from vlm_jax.decoding.base import Decoded, Step, check, constrain, tile, top_k
from vlm_jax.types import BOS, EOS, PAD, Array, Cache


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """The num_results best sentences among those explored, by

        score = sum of log p / length ** length_penalty        length counts EOS, excludes BOS

    At each position the live hypotheses are extended by every token. Of the 2 * width - 1 best
    extensions, those that end and are among the first `width` join the ended ones; the best
    `width` that go on stay live, so that an ended sentence never takes the place of a live one.
    (2 * width - 1, not 2 * width: a beam of one whose best extension ends has nothing left to
    follow, and is greedy decoding whatever the length_penalty.)

    A row is done when no live hypothesis can beat its worst ended one any more. A live one with
    log probability p can score p / max_length ** length_penalty at most, since p only falls: the
    stop is exact, and never changes the result. A sentence that reaches max_length without EOS is
    no sentence: such are given, best first, only where fewer than num_results ended. A hypothesis
    whose logits are NaN goes no further; a row that has no other has empty results, with score -inf.
    """

    max_length: int = 20
    width: int = 5
    length_penalty: float = 0.0  # 0: log probability; 1: the mean over tokens
    min_length: int = 0  # EOS counted
    block_ngram: int = 0  # 3: no trigram twice (Paulus et al. 2018)
    num_results: int = 1
    banned: tuple[int, ...] = (PAD, BOS)

    def __post_init__(self):
        check(self)
        if self.width < 1:
            raise ValueError(f"BeamSearch(width={self.width}): expected at least 1; try 5")
        if self.num_results > self.width:
            raise ValueError(
                f"BeamSearch(num_results={self.num_results}, width={self.width}): a beam gives at "
                "most width results; raise width"
            )
        if not self.length_penalty >= 0:
            raise ValueError(
                f"BeamSearch(length_penalty={self.length_penalty}): expected 0 or larger, the "
                "exponent of the length; larger favours longer results; try 0.7"
            )

    def __call__(
        self, step: Step, cache: Cache, memory: Any, *, batch_size: int, key: Array | None = None
    ) -> Decoded:
        b, k, r, limit = batch_size, self.width, self.num_results, self.max_length
        cache, memory = tile((cache, memory), k, b)
        start = _State(
            length=jnp.int32(0),
            tokens=jnp.full((b, k, limit), PAD, jnp.int32),
            # One hypothesis at first, or all beams would be copies of it.
            log_probs=jnp.full((b, k), -jnp.inf).at[:, 0].set(0.0),
            cache=cache,
            ended=Decoded(
                tokens=jnp.full((b, r, limit), PAD, jnp.int32),
                scores=jnp.full((b, r), -jnp.inf),
                log_probs=jnp.full((b, r), -jnp.inf),
                lengths=jnp.zeros((b, r), jnp.int32),
            ),
        )

        def unfinished(state):
            best_possible = self.score(state.log_probs[:, 0], limit)
            return (state.length < limit) & (best_possible > state.ended.scores[:, -1]).any()

        state = lax.while_loop(unfinished, lambda state: self._advance(state, step, memory), start)
        return self._with_unended(state)

    def score(self, log_probs: Array, lengths: Array | int) -> Array:
        return log_probs / jnp.maximum(lengths, 1) ** jnp.float32(self.length_penalty)

    def _advance(self, state: "_State", step: Step, memory: Any) -> "_State":
        b, k, limit = state.tokens.shape
        length, tokens = state.length, state.tokens.reshape(b * k, limit)
        last = jnp.where(length == 0, BOS, tokens[:, jnp.maximum(length - 1, 0)])
        logits, cache = step(last, state.cache, memory)
        log_probs, ids = self._extensions(logits.astype(jnp.float32), tokens, length)
        vocab_size, n = logits.shape[-1], log_probs.shape[-1]
        if k > vocab_size**limit:
            raise ValueError(
                f"BeamSearch(width={k}): there are only {vocab_size} ** {limit} sequences of "
                f"max_length {limit} over {vocab_size} tokens; try width=5"
            )

        # [b k n] -> the candidates [b c], best first
        log_probs = (state.log_probs[:, :, None] + log_probs.reshape(b, k, n)).reshape(b, k * n)
        log_probs, places = lax.top_k(log_probs, min(2 * k - 1, k * n))
        parents = places // n
        ids = jnp.take_along_axis(ids.reshape(b, k * n), places, axis=1)

        ended = _merged(
            state.ended,
            Decoded(
                tokens=_rows(state.tokens, parents[:, :k]).at[:, :, length].set(EOS),
                scores=self.score(jnp.where(ids == EOS, log_probs, -jnp.inf)[:, :k], length + 1),
                log_probs=log_probs[:, :k],
                lengths=jnp.full(parents[:, :k].shape, length + 1),
            ),
        )

        # A beam short of extensions (a vocabulary smaller than the width) is filled up with dead ones.
        going_on = jnp.where(ids == EOS, -jnp.inf, log_probs)
        short = max(0, k - going_on.shape[1])
        log_probs, kept = lax.top_k(
            jnp.pad(going_on, ((0, 0), (0, short)), constant_values=-jnp.inf), k
        )
        kept = jnp.minimum(kept, going_on.shape[1] - 1)
        parents, ids = _rows(parents, kept), _rows(ids, kept)
        flat = (jnp.arange(b)[:, None] * k + parents).reshape(b * k)
        return _State(
            length=length + 1,
            tokens=_rows(state.tokens, parents).at[:, :, length].set(ids),
            log_probs=log_probs,
            cache=_reordered(state.cache, cache, flat),
            ended=ended,
        )

    def _extensions(self, logits: Array, tokens: Array, length: Array) -> tuple[Array, Array]:
        """The log probabilities and ids [b*k n] of the tokens that may be needed of each beam.

        No more than 2 * width - 1, since no more are needed of all. Softmax keeps the order, so it
        is taken of these alone.
        """
        allowed = constrain(
            logits,
            tokens,
            length,
            banned=self.banned,
            min_length=self.min_length,
            block_ngram=self.block_ngram,
        )
        values, ids = top_k(allowed, min(2 * self.width - 1, logits.shape[-1]))
        log_probs = values - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        # Sorted as it is, NaN would come before all sentences, those that have ended among them.
        log_probs = jnp.where(jnp.isnan(log_probs), -jnp.inf, log_probs)
        # Rounding may not lift a log probability above 0, or the early stop would not be exact.
        return jnp.minimum(log_probs, 0.0), ids

    def _with_unended(self, state: "_State") -> Decoded:
        """The ended hypotheses, and live ones in the places that are left."""
        exists = jnp.isfinite(state.log_probs)
        live = Decoded(
            tokens=jnp.where(exists[:, :, None], state.tokens, PAD),
            scores=self.score(state.log_probs, state.length),
            log_probs=state.log_probs,
            lengths=jnp.where(exists, state.length, 0),
        )
        r = self.num_results
        rank = jnp.arange(r)
        num_ended = jnp.isfinite(state.ended.scores).sum(-1, keepdims=True)  # [b 1]
        order = jnp.where(rank < num_ended, rank, r + rank - num_ended)
        return jax.tree.map(
            lambda a, b: _rows(jnp.concatenate([a, b], axis=1), order), state.ended, live
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class _State:
    length: Array  # Int[], of the live hypotheses
    tokens: Array  # Int[b k l], the live ones, best first
    log_probs: Array  # Float[b k], -inf: no hypothesis there
    cache: Cache  # leaves [b*k ...]
    ended: Decoded  # [b r], best first, score -inf: none there


def _merged(old: Decoded, new: Decoded) -> Decoded:
    """The best of both, as many as there are old ones; of equals the old ones."""
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), old, new)
    _, order = lax.top_k(both.scores, old.scores.shape[1])
    return jax.tree.map(lambda leaf: _rows(leaf, order), both)


def _reordered(old: Cache, new: Cache, parents: Array) -> Cache:
    """Each beam's cache becomes that of the beam it extends, Int[b*k].

    What step hands back untouched (the keys of the memory) is alike for the beams of a row, and stays.
    """
    return jax.tree.map(lambda o, n: o if n is o else n[parents], old, new)


def _rows(x: Array, indices: Array) -> Array:
    """x[b k ...] at indices[b r] -> [b r ...]."""
    return jax.vmap(lambda row, index: row[index])(x, indices)
