"""Choosing one of several classes for each row: sentiment, image classification, answers from a list."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.metrics.accuracy import Accuracy
from vlm_jax.metrics.base import Mean, Metric
from vlm_jax.tasks.base import Aux, Measured, softmax_cross_entropy
from vlm_jax.tasks.mixing import Mixing
from vlm_jax.types import Array, Batch, References, Variables


@flax.struct.dataclass
class Chosen:
    """p(class), a row each."""

    probabilities: Array  # Float[b k]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Measured):
    """Minimises -log p(batch["label"]) in nats per valid row, of a model that gives logits [b k].

    `classes` are the names of labels 0, 1, ...: what predictions and metrics read. As in `Generation`, a model may
    add a value a row [b] in the collection "losses".

    With `mixing`, pictures and labels of training are mixed, and loss and accuracy of training are of the mixed ones,
    each label with its share. Smoothing is never part of a loss that is reported; an evaluation neither mixes nor smooths.
    """

    classes: tuple[str, ...]
    metrics: tuple[Metric, ...] = (Accuracy(),)
    label_smoothing: float = 0.0
    mixing: Mixing = Mixing()

    def loss(
        self, model: Any, variables: Variables, batch: Batch, *, rngs: dict, train: bool
    ) -> tuple[Array, Aux]:
        state = [name for name in variables if name != "params"] if train else []
        other, share = None, None
        if train and self.mixing.on:
            batch, other, share = self.mixing(rngs["noise"], batch)

        def of_labels(value):
            """value(labels) [b], of both labels of a mixed picture by their shares."""
            own = value(batch["label"])
            return own if other is None else share * own + (1.0 - share) * value(other)

        logits, updated = model.apply(
            variables, batch, train=train, rngs=rngs, mutable=[*state, "losses"]
        )
        valid = batch["valid"]
        nll = of_labels(lambda labels: softmax_cross_entropy(logits, labels))
        minimised = nll
        if train and self.label_smoothing:
            smoothing = self.label_smoothing
            minimised = of_labels(lambda y: softmax_cross_entropy(logits, y, smoothing))
        for sown in jax.tree.leaves(updated.pop("losses", {})):
            minimised += sown
        count = jnp.maximum(valid.sum(), 1).astype(jnp.float32)
        correct = of_labels(lambda labels: 100.0 * (logits.argmax(-1) == labels))
        metrics = {"loss": Mean.of(nll, valid), "accuracy": Mean.of(correct, valid)}
        return jnp.where(valid, minimised, 0.0).sum() / count, Aux(metrics, updated)

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Chosen:
        logits = model.apply(variables, batch, train=False)
        return Chosen(probabilities=jax.nn.softmax(logits.astype(jnp.float32)))

    def examples(self, predictions: Chosen, batch: Batch) -> list[dict[str, Any]]:
        """`prediction`, the likeliest class by name, `probabilities` of all by name, and `label` where it is known."""
        probabilities = np.asarray(predictions.probabilities)
        return [
            {
                "id": int(batch["id"][row]),
                "prediction": self.classes[int(probabilities[row].argmax())],
                **({"label": self.classes[int(batch["label"][row])]} if "label" in batch else {}),
                "probabilities": dict(zip(self.classes, probabilities[row].tolist(), strict=True)),
            }
            for row in np.flatnonzero(np.asarray(batch["valid"]))
        ]

    def score(self, predictions: Chosen, batch: Batch, references: References) -> dict[str, Any]:
        if not self.metrics:  # there may be no labels
            return {}

        def against_gold(example, label):
            return lambda m: m.stats(example["prediction"], (self.classes[label],))

        labels = np.asarray(batch["label"])[np.asarray(batch["valid"])]
        pairs = zip(self.examples(predictions, batch), labels, strict=True)
        return self.added(against_gold(example, label) for example, label in pairs)

    def check(self, model: Any, batch: Batch) -> None:
        if len(self.classes) != model.num_classes:
            raise ValueError(
                f"the task names {len(self.classes)} classes, the model has num_classes {model.num_classes}; "
                "give both the same number"
            )
        labels, ids = np.asarray(batch["label"]), np.asarray(batch["id"])
        wrong = (labels < 0) | (labels >= len(self.classes))
        if wrong.any():
            raise ValueError(
                f"example id {ids[wrong][0]}: label is {labels[wrong][0]}, expected 0 <= label < "
                f"{len(self.classes)} (the number of classes)"
            )
