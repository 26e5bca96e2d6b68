"""Transformers: masks, positions, caches."""

import jax
import jax.numpy as jnp
import numpy as np

from tests import model_zoo
from tests.invariants import (
    model_checks,
)
from tests.invariants.subject import B, Subject
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.language import transformer
from vlm_jax.language.transformer import TransformerDecoder
from vlm_jax.layers import attention

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


def _subject(name: str) -> Subject:
    image = np.random.default_rng(4).normal(size=(B, model_zoo.NUM_PLACES, model_zoo.FEATURES))
    return Subject(model_zoo.generators()[name], {"image": image.astype(np.float32)})


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
    "transformer": Room(OF_MASKS, lambda: _subject("transformer")),
    "prefix": Room(
        (*OF_MASKS, model_checks.check_the_prefix_sees_itself),
        lambda: _subject("transformer_prefix"),
    ),
}
