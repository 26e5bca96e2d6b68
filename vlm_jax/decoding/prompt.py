"""Writing on from a prompt that has been read already."""

from typing import Any

import jax.numpy as jnp
from jax import lax

from vlm_jax.decoding.base import Step
from vlm_jax.types import Array, Cache


def after_prompt(step: Step, logits: Array, cache: Cache) -> tuple[Step, Cache]:
    """A step whose first logits are those after the prompt [b v], whatever token it is given (BOS), and the cache that it
    begins with; `cache` is that of the model, with the whole prompt in it."""

    def prompted(token: Array, state: Cache, memory: Any) -> tuple[Array, Cache]:
        logits, cache = lax.cond(
            state["begins"].all(),
            lambda: (state["logits"], state["model"]),
            lambda: step(token, state["model"], memory),
        )
        return logits, {**state, "model": cache, "begins": jnp.zeros_like(state["begins"])}

    begins = jnp.ones(logits.shape[0], bool)
    return prompted, {"model": cache, "logits": logits, "begins": begins}
