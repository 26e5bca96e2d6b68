"""Perplexity, from the mean loss that the device summed."""

import math

from vlm_jax.metrics.base import Mean


def perplexity(loss: Mean) -> float:
    """exp of the mean loss in nats per token; inf where that overflows, nan of no token."""
    nats = float(loss.value())
    return math.exp(nats) if math.isnan(nats) or nats < 700 else math.inf
