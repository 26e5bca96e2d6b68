"""What word vectors are asked: which words are nearest to a word or a sum of words, and how alike two words are."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.metrics.base import Metric
from vlm_jax.tasks.base import Measured
from vlm_jax.types import NUM_SPECIAL, PAD, UNK, Array, Batch, References, Variables


@flax.struct.dataclass
class Nearest:
    rows: Array  # Int[b k], the nearest words of the table, nearest first
    cosines: Array  # Float[b k]
    known: Array  # Bool[b], whether every word of the query has a row of its own


@flax.struct.dataclass
class Alike:
    cosines: Array  # Float[b]
    known: Array  # Bool[b]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Queries(Measured):
    """Scores of a model with `vectors()` [v d] that is not trained by this task."""

    tokenizer: Any
    metrics: tuple[Metric, ...] = ()

    def _score(self, predictions: list[Any], gold: list[Any]) -> dict[str, Any]:
        pairs = zip(predictions, gold, strict=True)
        return self.added(lambda m, p=p, g=g: m.stats(p, (g,)) for p, g in pairs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Neighbours(_Queries):
    """The words nearest, by the cosine, to the sum of batch["sign"] times the unit vectors of batch["text"], both [b l].

    The words of the query are no answer (Mikolov et al. 2013, arXiv 1301.3781, section 4). batch["label"], where there
    is one, is the row of the right word; a query or answer that is not known is not covered.
    """

    count: int = 10

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Nearest:
        vectors = _unit(model.apply(variables, method="vectors"))
        text = batch["text"]
        asked = text >= NUM_SPECIAL
        query = (jnp.where(asked, batch["sign"], 0.0)[..., None] * vectors[text]).sum(1)
        cosines = _unit(query) @ vectors.T  # [b v]
        rows = jnp.arange(vectors.shape[0])
        word = (rows >= NUM_SPECIAL) & (rows < self.tokenizer.num_tokens)
        of_query = (text[:, :, None] == rows).any(1)
        best, found = jax.lax.top_k(jnp.where(word & ~of_query, cosines, -jnp.inf), self.count)
        known = asked.any(1) & (asked | (text == PAD)).all(1)
        return Nearest(rows=found, cosines=best, known=known)

    def examples(self, predictions: Nearest, batch: Batch) -> list[dict[str, Any]]:
        """`prediction`, the words nearest first, and `neighbours`, their cosines by word. None are near the unknown."""
        found = []
        for row in np.flatnonzero(np.asarray(batch["valid"])):
            near = zip(np.asarray(predictions.rows[row]), np.asarray(predictions.cosines[row]))
            near = [(word, float(cosine)) for word, cosine in near if np.isfinite(cosine)]
            named = {self.tokenizer.decode([word]): cosine for word, cosine in near}
            named = named if predictions.known[row] else {}
            id, text = int(batch["id"][row]), " ".join(named)
            found.append({"id": id, "prediction": text, "neighbours": named})
        return found

    def score(self, predictions: Nearest, batch: Batch, references: References) -> dict[str, Any]:
        if not self.metrics:
            return {}
        valid = np.asarray(batch["valid"])
        labels = np.asarray(batch["label"])[valid].tolist()
        first = np.asarray(predictions.rows)[valid, 0].tolist()
        known = np.asarray(predictions.known)[valid] & (np.array(labels, int) >= NUM_SPECIAL)
        return self._score([row if k else None for row, k in zip(first, known)], labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Similarity(_Queries):
    """The cosine of the two words of batch["text"] [b 2], beside batch["score"], what people said."""

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Alike:
        vectors = _unit(model.apply(variables, method="vectors"))
        first, second = vectors[batch["text"][:, 0]], vectors[batch["text"][:, 1]]
        known = (batch["text"] != UNK) & (batch["text"] != PAD)
        return Alike(cosines=(first * second).sum(-1), known=known.all(1))

    def examples(self, predictions: Alike, batch: Batch) -> list[dict[str, Any]]:
        valid = np.flatnonzero(np.asarray(batch["valid"]))
        cosines, known = np.asarray(predictions.cosines), np.asarray(predictions.known)
        return [
            {"id": int(batch["id"][row]), "prediction": float(cosines[row]) if known[row] else None}
            for row in valid
        ]

    def score(self, predictions: Alike, batch: Batch, references: References) -> dict[str, Any]:
        found = [example["prediction"] for example in self.examples(predictions, batch)]
        gold = np.asarray(batch["score"])[np.asarray(batch["valid"])].tolist()
        return self._score(found, gold)


def _unit(vectors: Array) -> Array:
    """Each divided by its length; zeros stay zeros."""
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
