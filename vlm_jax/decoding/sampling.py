"""One token after the other: the most probable one, or one drawn at random."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from vlm_jax.decoding.base import Decoded, Step, check, constrain, keys_of_samples, tile
from vlm_jax.types import BOS, EOS, PAD, Array, Cache


@dataclasses.dataclass(frozen=True, kw_only=True)
class Greedy:
    """The most probable token at every position. The score is the log probability."""

    max_length: int = 20
    min_length: int = 0  # EOS counted
    block_ngram: int = 0  # 3: no trigram twice
    banned: tuple[int, ...] = (PAD, BOS)
    num_results = 1  # not a field: draws differ, the most probable token does not

    def __post_init__(self):
        check(self)

    def __call__(
        self, step: Step, cache: Cache, memory: Any, *, batch_size: int, key: Array | None = None
    ) -> Decoded:
        def choose(logits, length):
            return jnp.argmax(logits, axis=-1)

        return _decode(self, choose, step, cache, memory, batch_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """Tokens drawn from softmax(logits / temperature), cut to the top_k and then to the top_p.

    temperature 0 is greedy. top_k None, top_p 1: the whole distribution. top_p keeps the fewest
    most probable tokens whose probability, after temperature and top_k, reaches it (Holtzman et
    al. 2020, eq. 2-3). The noise of a token depends on (key, row, sample, position), with a key a
    row on (key of the row, sample, position), and on nothing else.
    `stages` are kinds of tokens that follow each other: (count, first, last) of each, so many tokens that
    are none but those from first to last. After the last stage any token may come.
    The score is the log probability under the model, before temperature and filters.
    """

    max_length: int = 20
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_length: int = 0  # EOS counted
    block_ngram: int = 0  # 3: no trigram twice
    num_results: int = 1  # independent draws a row
    banned: tuple[int, ...] = (PAD, BOS)
    stages: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self):
        check(self)
        if any(not (0 < count and 0 <= first <= last) for count, first, last in self.stages):
            raise ValueError(
                f"Sampling(stages={self.stages}): expected (count, first, last) of each, a count of at least 1 and "
                "0 <= first <= last"
            )
        if sum(count for count, _, _ in self.stages) > self.max_length:
            raise ValueError(
                f"Sampling(stages={self.stages}): their counts are more than max_length, {self.max_length}"
            )
        if not self.temperature >= 0:
            raise ValueError(
                f"Sampling(temperature={self.temperature}): expected 0 (greedy) or larger; try 1.0"
            )
        check_filters(self)

    def __call__(
        self, step: Step, cache: Cache, memory: Any, *, batch_size: int, key: Array | None = None
    ) -> Decoded:
        if key is None:
            raise ValueError("Sampling needs a key; try key=jax.random.key(0)")
        row_keys = keys_of_samples(key, batch_size, self.num_results)

        def choose(logits, length):
            logits = in_stage(self.stages, logits, length)
            if self.temperature == 0:
                return jnp.argmax(logits, axis=-1)
            keys = jax.vmap(jax.random.fold_in, (0, None))(row_keys, length)
            return filtered_sample(
                keys, logits / self.temperature, top_k=self.top_k, top_p=self.top_p
            )

        cache, memory = tile((cache, memory), self.num_results, batch_size)
        return _decode(self, choose, step, cache, memory, batch_size)


def in_stage(stages: tuple[tuple[int, int, int], ...], logits: Array, length: Array) -> Array:
    """Float[rows v] with -inf for what is not of the stage that the token after `length` others is in."""
    ids, start = jnp.arange(logits.shape[-1]), 0
    if any(last >= logits.shape[-1] for _, _, last in stages):
        raise ValueError(f"stages = {stages} names a token beyond the {logits.shape[-1]} logits")
    for count, first, last in stages:
        here = (start <= length) & (length < start + count)
        logits = jnp.where(here & ((ids < first) | (ids > last)), -jnp.inf, logits)
        start += count
    return logits


def check_filters(strategy: Any) -> None:
    """Raises ValueError for a `top_k` or a `top_p` that keeps no token, or more than all."""
    name, top_k, top_p = type(strategy).__name__, strategy.top_k, strategy.top_p
    if top_k is not None and top_k < 1:
        raise ValueError(f"{name}(top_k={top_k}): expected at least 1, or None to keep all tokens")
    if not 0 < top_p <= 1:
        raise ValueError(f"{name}(top_p={top_p}): expected 0 < top_p <= 1; 1.0 keeps all tokens")


def filtered_sample(keys: Array, logits: Array, *, top_k: int | None, top_p: float) -> Array:
    """Int[rows] drawn from Float[rows v], one key a row."""
    ids = None
    if top_k is not None and top_k < logits.shape[-1]:
        logits, ids = lax.top_k(logits, top_k)
    if top_p < 1:
        logits = jnp.where(nucleus(jax.nn.softmax(logits), top_p), logits, -jnp.inf)
    drawn = categorical(keys, logits)
    return drawn if ids is None else jnp.take_along_axis(ids, drawn[:, None], axis=1)[:, 0]


def categorical(keys: Array, logits: Array, block: int = 64) -> Array:
    """Int[rows] drawn from softmax(logits) of Float[rows v]; where a logit is -inf, never.

    Where one uniform number falls in the cumulative probabilities: of blocks of tokens, then within the block.
    Gumbel noise takes a number a token (320 rows, v 2,560 on two CPU cores: 21 against 0.9 ms).
    """
    rows, size = logits.shape
    logits = jnp.pad(logits, ((0, 0), (0, -size % block)), constant_values=-jnp.inf)
    weights = jnp.exp(logits - logits.max(-1, keepdims=True)).reshape(rows, -1, block)
    ends = jnp.cumsum(weights.sum(-1), axis=-1)  # [rows blocks]
    at = jax.vmap(jax.random.uniform)(keys) * ends[:, -1]
    chosen = _first_beyond(ends, at)
    before = jnp.take_along_axis(ends - weights.sum(-1), chosen[:, None], 1)[:, 0]
    within = jnp.take_along_axis(weights, chosen[:, None, None], 1)[:, 0]
    return chosen * block + _first_beyond(jnp.cumsum(within, axis=-1), at - before)


def _first_beyond(ends: Array, at: Array) -> Array:
    """Int[rows]: the first place of the rising Float[rows n] that is above `at`, whatever was rounded on the way: so
    one where `ends` rises."""
    at = jnp.clip(at, 0, ends[:, -1] * (1 - 1e-6))
    return (ends <= at[:, None]).sum(-1)


def nucleus(probs: Array, top_p: float) -> Array:
    """Bool[rows v]: the fewest most probable tokens whose probability reaches top_p; equals stay together.

    [.5, .3, .2], top_p .6 -> [1, 1, 0]. The least probability that is kept is found bit by bit, since a
    sort of the vocabulary takes seven times as long as the rest of a step.
    """
    # Floats that are not negative have the order of their bits.
    bits = lax.bitcast_convert_type(probs.astype(jnp.float32), jnp.int32)

    def lower(i, least):
        higher = least | (1 << (30 - i))
        mass = jnp.where(bits >= higher[:, None], probs, 0).sum(-1)
        return jnp.where(mass >= top_p, higher, least)

    least = lax.fori_loop(0, 31, lower, jnp.zeros(probs.shape[0], jnp.int32))
    return bits >= least[:, None]


def _decode(strategy, choose, step, cache, memory, batch_size) -> Decoded:
    """Feeds back what `choose(logits, length)` gives until every row has ended, or has logits that are NaN."""
    rows = batch_size * strategy.num_results
    limit = strategy.max_length

    def unfinished(state):
        length, _, _, _, ended, _ = state
        return (length < limit) & ~ended.all()

    def advance(state):
        length, tokens, log_probs, lengths, ended, cache = state
        last = jnp.where(length == 0, BOS, tokens[:, jnp.maximum(length - 1, 0)])
        logits, cache = step(last, cache, memory)
        logits = logits.astype(jnp.float32)
        allowed = constrain(
            logits,
            tokens,
            length,
            banned=strategy.banned,
            min_length=strategy.min_length,
            block_ngram=strategy.block_ngram,
        )
        normaliser = jax.nn.logsumexp(logits, axis=-1)
        over = ended | jnp.isnan(normaliser)  # log_probs is NaN then, and stays so
        token = jnp.where(over, PAD, choose(allowed, length)).astype(jnp.int32)
        chosen = jnp.take_along_axis(logits, token[:, None], axis=1)[:, 0]
        gained = chosen - normaliser
        return (
            length + 1,
            tokens.at[:, length].set(token),
            log_probs + jnp.where(ended, 0.0, gained),
            lengths + ~over,
            over | (token == EOS),
            cache,
        )

    start = (
        jnp.int32(0),
        jnp.full((rows, limit), PAD, jnp.int32),
        jnp.zeros(rows, jnp.float32),
        jnp.zeros(rows, jnp.int32),
        jnp.zeros(rows, bool),
        cache,
    )
    _, tokens, log_probs, lengths, _, _ = lax.while_loop(unfinished, advance, start)

    shape = (batch_size, strategy.num_results)
    log_probs = log_probs.reshape(shape)
    return Decoded(
        tokens=tokens.reshape(*shape, limit),
        scores=log_probs,
        log_probs=log_probs,
        lengths=lengths.reshape(shape),
    )
