"""Answering questions about pictures from a list of answers, with a map of where the model looked."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.tasks.attention import leaves_named
from vlm_jax.tasks.classification import Chosen, Classification
from vlm_jax.types import PAD, Array, Batch, Variables


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
    each; what the encoders look at within themselves is not shown. Where one row holds the image's places and the words
    (Prefix), it is what the words look at among the places, of which each map then sums to 1; where a few vectors that
    have looked at the places stand before the words (Resampler), what the words look at through these. A model without
    attention whose fusion keeps the places (FiLM) has one map: how large the features are that the answer is read from.
    """

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Answered:
        logits, sown = model.apply(variables, batch, train=False, mutable=["intermediates"])
        return Answered(
            probabilities=jax.nn.softmax(self._answered(logits).astype(jnp.float32)),
            attention=_attention(sown.get("intermediates", {}), batch.get("text")),
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


def _attention(intermediates: Any, text: Array | None) -> Array | None:
    """[b m n] of what was sown outside the encoders, or None."""
    encoders = ("image_encoder", "text_encoder")
    sown = {name: value for name, value in intermediates.items() if name not in encoders}
    places = leaves_named(sown, "places")
    if not places or places[0].shape[1] < 2:
        return None
    b, n = places[0].shape
    weights = [leaf for leaf in leaves_named(sown, "attention") if leaf.shape[0] == b]
    maps = [] if text is None else _looked_from_one_row(weights, n, text)
    maps = maps or [_looked(leaf, text) for leaf in weights if leaf.shape[-1] == n]
    if not maps:
        maps = [leaf for leaf in leaves_named(sown, "sizes") if leaf.shape == (b, n)]
    return jnp.stack(maps, axis=1) if maps else None


def _looked_from_one_row(weights: list[Array], n: int, text: Array) -> list[Array]:
    """[b n] of each layer that reads one row with the words [b l] at its end. The n places are the others, or r vectors
    of their own that have looked at the places and themselves, [b i r n+r] (fusion.resampler), of these the last layer's."""
    length = text.shape[1]
    resampled = [each for each in weights if each.ndim == 4 and each.shape[3] - each.shape[2] == n]
    before = resampled[-1].shape[2] if resampled else n
    row = (before + length,) * 2
    maps = [
        _looked(each[:, :, before:, :before], text) for each in weights if each.shape[2:] == row
    ]
    if resampled:
        through = resampled[-1][..., :n].mean(axis=1)  # [b r n]
        maps = [jnp.einsum("br,brn->bn", each, through) for each in maps]
    return [each / jnp.maximum(each.sum(-1, keepdims=True), 1e-9) for each in maps]


def _looked(weights: Array, text: Array | None) -> Array:
    """[b n], the mean of weights [b n] or [b i q n] over heads and queries; where these are words, without padding."""
    b, n = weights.shape[0], weights.shape[-1]
    queries = weights.shape[-2] if weights.ndim > 2 else 1
    each = weights.reshape(b, -1, queries, n).mean(axis=1)  # [b q n]
    if text is None or queries != text.shape[1]:
        return each.mean(axis=1)
    words = text != PAD
    return jnp.where(words[..., None], each, 0).sum(1) / jnp.maximum(words.sum(1), 1)[:, None]
