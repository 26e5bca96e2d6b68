"""Scheduled sampling: a decoder that reads its own words while it trains."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from vlm_jax.types import PAD, Cache, Features


@flax.struct.dataclass
class Reading:
    """What a decoder gives for l tokens read on from a cache."""

    logits: Array  # Float[b l v]
    cache: Cache
    looks: Any = ()  # what else is worth keeping of each position, every leaf [b l ...]


def read_with_own_tokens(
    decoder: nn.Module,
    tokens: Int[Array, "b l"],
    cache: Cache,
    memory: Features | None,
    rate: float,
) -> Reading:
    """`decoder.read` where each input but the first is, with probability `rate`, the decoder's own sample.

    Bengio et al. 2015 (arXiv 1506.03099), section 2.4, with a coin for each token. Needs the rng "sampling".
    Padding stays padding; the sample has no gradient. One token at a time, so slower than teacher forcing.
    """

    def body(decoder, carry, token):
        cache, own = carry
        key, coin = jax.random.split(decoder.make_rng("sampling"))
        use_own = jax.random.bernoulli(coin, rate, token.shape) & (token != PAD)
        reading = decoder.read(jnp.where(use_own, own, token)[:, None], cache, memory, train=True)
        logits = reading.logits[:, 0]
        own = jax.random.categorical(key, logits).astype(token.dtype)
        looks = jax.tree.map(lambda leaf: leaf[:, 0], reading.looks)
        return (reading.cache, own), (logits, looks)

    masks_of_each_step = not getattr(decoder, "same_dropout", False)
    scan = nn.scan(
        body,
        variable_broadcast="params",
        split_rngs={"params": False, "dropout": masks_of_each_step, "sampling": True},
        in_axes=1,
        out_axes=1,
    )
    # Of the first input its own sample is the input itself.
    (cache, _), (logits, looks) = scan(decoder, (cache, tokens[:, 0]), tokens)
    return Reading(logits=logits, cache=cache, looks=looks)
