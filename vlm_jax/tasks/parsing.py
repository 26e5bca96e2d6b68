"""Dependency parsing: the head of every word, and the relation to it."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.decoding.spanning_tree import spanning_tree
from vlm_jax.metrics.attachment import Attachment
from vlm_jax.metrics.base import Mean
from vlm_jax.tasks.base import Aux, Measured, softmax_cross_entropy
from vlm_jax.tasks.tagging import check_labels, check_number, labelled, word_counts
from vlm_jax.text.conllu import write_conllu
from vlm_jax.types import Array, Batch, References, Variables


@flax.struct.dataclass
class Arcs:
    """What a tree is made of. Head 0 is the root, head i the i-th word."""

    log_probs: Array  # Float[b l l+1], of each head
    relations: Array  # Int[b l l+1], the likeliest relation to each head


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parsing(Measured):
    """Minimises -log p(head) - log p(relation | head), of batch["head"] and batch["relation"] [b l], in nats per word.

    The divisor is the number of words with a head; a relation without a number (-1) adds nothing. The prediction is the
    best tree with one word at the root; only that word's relation is "root". `names` are those of the relations.
    """

    names: tuple[str, ...]
    metrics: tuple[Any, ...] = (Attachment(),)

    def loss(
        self, model: Any, variables: Variables, batch: Batch, *, rngs: dict, train: bool
    ) -> tuple[Array, Aux]:
        state = [name for name in variables if name != "params"] if train else []
        (arcs, relations), updated = model.apply(
            variables, batch, train=train, rngs=rngs, mutable=state
        )
        mask = labelled(batch, "head")
        known = mask & labelled(batch, "relation")
        head_nll = softmax_cross_entropy(arcs, jnp.maximum(batch["head"], 0))
        relation_nll = softmax_cross_entropy(relations, jnp.maximum(batch["relation"], 0))
        nll = head_nll + jnp.where(known, relation_nll, 0.0)
        metrics = {
            "loss": Mean.of(nll, mask),
            "head_accuracy": Mean.of(100.0 * (arcs.argmax(-1) == batch["head"]), mask),
            "relation_accuracy": Mean.of(
                100.0 * (relations.argmax(-1) == batch["relation"]), known
            ),
        }
        count = jnp.maximum(mask.sum(), 1).astype(jnp.float32)
        return jnp.where(mask, nll, 0.0).sum() / count, Aux(metrics, updated)

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Arcs:
        arcs, relations = model.apply(variables, batch, method="every_pair")
        is_root = jnp.array([name == "root" for name in self.names])
        from_root = (jnp.arange(arcs.shape[-1]) == 0)[:, None]
        relations = jnp.where(is_root == from_root, relations, -jnp.inf)
        return Arcs(log_probs=jax.nn.log_softmax(arcs), relations=relations.argmax(-1))

    def examples(self, predictions: Arcs, batch: Batch) -> list[dict[str, Any]]:
        """`heads` and `relations`, one a word, and both as one text."""
        log_probs, relations = np.asarray(predictions.log_probs), np.asarray(predictions.relations)
        lengths, found = word_counts(batch), []
        for row in np.flatnonzero(np.asarray(batch["valid"])):
            n = lengths[row]
            heads = spanning_tree(log_probs[row, :n, : n + 1])
            chosen = relations[row, np.arange(n), heads]
            names = [self.names[relation] for relation in chosen]
            pairs = " ".join(f"{head}:{name}" for head, name in zip(heads, names))
            found.append(
                {
                    "id": int(batch["id"][row]),
                    "prediction": pairs,
                    "heads": heads.tolist(),
                    "relations": names,
                }
            )
        return found

    def with_text(self, example: dict[str, Any], text: str) -> dict[str, Any]:
        """The example with the words that a text is cut into at white space, and as `shown`: the lines of CoNLL-U."""
        words = text.split()
        heads, relations = example["heads"], example["relations"]
        lines = write_conllu(words[: len(heads)], heads, relations)
        return {"words": words, **example, "shown": f"# text = {' '.join(words)}\n{lines}\n"}

    def score(self, predictions: Arcs, batch: Batch, references: References) -> dict[str, Any]:
        def against_gold(row, example):
            predicted = list(zip(example["heads"], example["relations"], strict=True))

            def stats(metric):
                gold = references[example["id"]][metric.reference]
                # Beyond the batch's length no prediction can be right.
                heads = np.full(len(gold), -1)
                known = np.asarray(batch["head"])[row, : len(gold)]
                heads[: len(known)] = known
                return metric.stats(predicted, list(zip(heads.tolist(), gold)))

            return stats

        rows = np.flatnonzero(np.asarray(batch["valid"]))
        pairs = zip(rows, self.examples(predictions, batch), strict=True)
        return self.added(against_gold(row, example) for row, example in pairs)

    def check(self, model: Any, batch: Batch) -> None:
        check_number("relations", len(self.names), model.num_relations)
        check_labels(batch, "relation", len(self.names))
        check_labels(batch, "head", batch["head"].shape[1] + 1)
