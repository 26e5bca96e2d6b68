"""Classifier-free guidance: further away from what the model would write without a condition.

Ho and Salimans 2022 (arXiv 2207.12598), eq. 6, on logits; `scale` here is 1 + w there.
"""

from typing import Any

import flax.struct

from vlm_jax.decoding.base import Step
from vlm_jax.types import Array, Cache


@flax.struct.dataclass
class Both:
    """Two memories, or two caches: of the condition, and of the empty one. Every leaf has the batch as its first axis,
    so that rows are repeated and reordered together."""

    given: Any
    empty: Any


def guide(given: Array, empty: Array, scale: float) -> Array:
    """empty + scale (given - empty): 0 is without the condition, 1 with it, more than 1 leaves the other behind."""
    return empty + scale * (given - empty)


def guided(step: Step, scale: float) -> Step:
    """A step over `Both` caches and memories, for any strategy."""

    def step_both(token: Array, cache: Both, memory: Both) -> tuple[Array, Cache]:
        given, cache_given = step(token, cache.given, memory.given)
        empty, cache_empty = step(token, cache.empty, memory.empty)
        return guide(given, empty, scale), Both(given=cache_given, empty=cache_empty)

    return step_both


def check(scale: float, prompt_dropout: float) -> None:
    """Raises ValueError for a scale that is none, or asks for what was never learned: pictures of the empty prompt."""
    if not scale >= 0:
        raise ValueError(
            f"guidance: given {scale}, expected 0 (without the prompt), 1 (no guidance) or more; try 3"
        )
    if scale != 1.0 and not prompt_dropout:
        raise ValueError(
            f"guidance {scale} leaves pictures without a prompt behind, which a model learns from prompt_dropout only; given "
            "0, try 0.1"
        )
