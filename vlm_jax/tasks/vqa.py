"""Answering questions about pictures from a list of answers, with a map of where the model looked."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.tasks.attention import leaves_named
from vlm_jax.tasks.classification import Chosen, Classification
from vlm_jax.types import Array, Batch, Variables


@flax.struct.dataclass
class Answered(Chosen):
    """p(answer), and where the model looked."""

    attention: (
        Array | None
    )  # Float[b m n], m looks at n places; None where it has no places to look at


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionAnswering(Classification):
    """`Classification` whose `predict` also gives the attention over the image's places.

    It is what the model sows as "attention" over as many places as the image has, heads and words averaged, a look
    each. A model without attention whose fusion keeps the places (FiLM) has one map: how large the features are that
    the answer is read from.
    """

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Answered:
        logits, sown = model.apply(variables, batch, train=False, mutable=["intermediates"])
        return Answered(
            probabilities=jax.nn.softmax(self._answered(logits).astype(jnp.float32)),
            attention=_attention(sown.get("intermediates", {})),
        )

    def examples(self, predictions: Answered, batch: Batch) -> list[dict[str, Any]]:
        """Adds `words`, a name for each look, and their maps `attention` [len(words) n], where there are any."""
        found = super().examples(predictions, batch)
        if predictions.attention is None:
            return found
        rows = np.flatnonzero(np.asarray(batch["valid"]))
        for row, example in zip(rows, found):
            example["attention"] = np.asarray(predictions.attention)[row]
            looks = len(example["attention"])
            example["words"] = [f"look {k + 1}" for k in range(looks)] if looks > 1 else ["look"]
        return found


def _attention(intermediates: Any) -> Array | None:
    """[b m n] of what was sown, or None."""
    places = leaves_named(intermediates, "places")
    if not places or places[0].shape[1] < 2:
        return None
    b, n = places[0].shape
    maps = [
        leaf.reshape(b, -1, n).mean(axis=1)
        for leaf in leaves_named(intermediates, "attention")
        if leaf.shape[0] == b and leaf.shape[-1] == n
    ]
    if not maps:
        maps = [leaf for leaf in leaves_named(intermediates, "sizes") if leaf.shape == (b, n)]
    return jnp.stack(maps, axis=1) if maps else None
