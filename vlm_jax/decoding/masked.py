"""All tokens at once, the surest first: masked parallel decoding."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from vlm_jax.decoding.base import Decoded, keys_of_samples, tile
from vlm_jax.decoding.sampling import check_filters, filtered_sample
from vlm_jax.types import BOS, EOS, PAD, UNK, Array

MASK = UNK  # what stands where a code is not known yet; a code is never that

Read = Callable[
    [Array, Any], Array
]  # tokens Int[b l], memory -> logits of each of them, Float[b l v]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedDecoding:
    """`max_length` tokens in `num_steps` readings. Chang et al. 2022 (MaskGIT, arXiv 2202.04200), section 3.2.

    From all masked: in each reading every masked token is drawn from its own distribution (temperature, top_k and top_p
    as in `Sampling`), and those with the least log probability are masked again, so that of l tokens
    floor(l cos(pi t / 2 T)) are masked after reading t of T, and at least one less than before. Gumbel noise times
    `choice_temperature` (1 - t / T) is added to what is ranked.

    The noise depends on (key, row, reading, position) and on nothing else. `log_probs` sums what each token had when it
    was kept. There is no EOS: every result is `max_length` long.
    """

    max_length: int
    num_steps: int = 8
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    choice_temperature: float = 4.5
    num_results: int = 1
    banned: tuple[int, ...] = (PAD, BOS, EOS, UNK)

    def __post_init__(self):
        if not 1 <= self.num_steps <= self.max_length:
            raise ValueError(
                f"MaskedDecoding(num_steps={self.num_steps}): expected 1 .. max_length = {self.max_length}; try 8"
            )
        if not (self.temperature > 0 and self.choice_temperature >= 0):
            raise ValueError(
                f"MaskedDecoding(temperature={self.temperature}, choice_temperature={self.choice_temperature}): "
                "expected above 0, and 0 or larger"
            )
        check_filters(self)

    def masked_after(self) -> tuple[int, ...]:
        """How many tokens are masked after each reading: l = 8, T = 4 -> 7, 5, 3, 0."""
        left, counts = self.max_length, []
        for t in range(1, self.num_steps + 1):
            wanted = math.floor(self.max_length * masked_share(t / self.num_steps))
            left = max(min(wanted, left - 1), 0) if t < self.num_steps else 0
            counts.append(left)
        return tuple(counts)

    def __call__(
        self, read: Read, memory: Any, *, batch_size: int, key: Array | None = None
    ) -> Decoded:
        if key is None:
            raise ValueError("MaskedDecoding needs a key; try key=jax.random.key(0)")
        rows, length = batch_size * self.num_results, self.max_length
        memory = tile(memory, self.num_results, batch_size)
        row_keys = keys_of_samples(key, batch_size, self.num_results)
        banned = jnp.array(self.banned, jnp.int32)

        def reading(state, inputs):
            tokens, log_probs = state
            t, num_masked = inputs
            masked = tokens == MASK
            logits = read(tokens, memory).astype(jnp.float32)
            choice_key, draw_key = _keys(row_keys, t)
            drawn = self._draw(draw_key, logits.at[..., banned].set(-jnp.inf))
            chosen = jnp.take_along_axis(logits, drawn[..., None], axis=-1)[..., 0]
            gained = chosen - jax.nn.logsumexp(logits, axis=-1)  # [rows l]
            noise = jax.vmap(lambda k: jax.random.gumbel(k, (length,)))(choice_key)
            sureness = gained + self.choice_temperature * (1 - (t + 1) / self.num_steps) * noise
            kept = masked & ~least(jnp.where(masked, sureness, jnp.inf), num_masked)
            tokens = jnp.where(kept, drawn, tokens)
            return (tokens, log_probs + jnp.where(kept, gained, 0.0).sum(-1)), None

        start = (jnp.full((rows, length), MASK, jnp.int32), jnp.zeros(rows, jnp.float32))
        steps = (jnp.arange(self.num_steps), jnp.array(self.masked_after(), jnp.int32))
        (tokens, log_probs), _ = lax.scan(reading, start, steps)
        shape = (batch_size, self.num_results)
        return Decoded(
            tokens=tokens.reshape(*shape, length),
            scores=log_probs.reshape(shape),
            log_probs=log_probs.reshape(shape),
            lengths=jnp.full(shape, length, jnp.int32),
        )

    def _draw(self, keys: Array, logits: Array) -> Array:
        """Int[rows l] from Float[rows l v], every place by itself."""
        rows, length, size = logits.shape
        keys = jax.vmap(lambda k: jax.random.split(k, length))(keys).reshape(-1)
        drawn = filtered_sample(
            keys,
            logits.reshape(-1, size) / self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
        )
        return drawn.reshape(rows, length).astype(jnp.int32)


def masked_share(done: Array | float) -> Array | float:
    """cos(pi done / 2): the share that is masked when `done` of the way is gone, and the share that training masks for a
    uniform `done` (Chang et al. 2022, section 3.3)."""
    return (jnp if isinstance(done, jax.Array) else math).cos(math.pi * done / 2)


def least(x: Array, number: Array) -> Array:
    """Bool[rows l]: the `number` least of each row of Float[rows l]; of equals those that stand first."""
    return jnp.argsort(jnp.argsort(x)) < number


def _keys(row_keys: Array, t: Array) -> tuple[Array, Array]:
    keys = jax.vmap(jax.random.fold_in, (0, None))(row_keys, t)
    pairs = jax.vmap(jax.random.split)(keys)
    return pairs[:, 0], pairs[:, 1]
