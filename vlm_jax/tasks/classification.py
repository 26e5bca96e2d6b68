"""Choosing one of several classes for each row: sentiment, image classification, answers from a list."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.metrics.accuracy import Accuracy
from vlm_jax.metrics.base import Mean, Metric, stats_of
from vlm_jax.tasks.base import Aux, Measured, softmax_cross_entropy
from vlm_jax.tasks.imbalance import LogitAdjustment, Objective
from vlm_jax.tasks.mixing import Mixing
from vlm_jax.types import Array, Batch, References, Variables

SHOWN = 20  # classes whose probability an example has, of a longer list
NOT_A_CLASS = "⟨not a class⟩"  # what metrics read of a label of -1


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

    `objective`, of imbalance.py, is minimised in place of -log p(label), which is reported all the same. `post_hoc` takes
    the classes' shares out of the logits of an evaluation or a prediction.

    A label of -1, which only an evaluation may have, is a class that the model cannot choose: its prediction is wrong,
    and there is no loss of it. A metric whose `reference` is not "label" reads `references[id]`.
    """

    classes: Sequence[str]  # a tuple, or a description of one
    metrics: tuple[Metric, ...] = (Accuracy(),)
    label_smoothing: float = 0.0
    mixing: Mixing = Mixing()
    objective: Objective | None = None
    post_hoc: LogitAdjustment | None = None

    def __post_init__(self):
        if self.objective is not None and self.label_smoothing:
            raise ValueError(
                f"Classification: given label_smoothing {self.label_smoothing} and an objective, "
                f"{type(self.objective).__name__}, which has labels without smoothing; leave one of them out"
            )

    def at(self, step: Array) -> "Classification":
        """The task at a step of training: an objective may change in its course."""
        if not hasattr(self.objective, "at"):
            return self
        return dataclasses.replace(self, objective=self.objective.at(step))

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
        logits = logits if train else self._answered(logits)
        valid = batch["valid"]
        known = valid & (batch["label"] >= 0)
        nll = of_labels(lambda y: softmax_cross_entropy(logits, jnp.maximum(y, 0)))
        minimised = nll
        if train and self.objective is not None:
            minimised = of_labels(lambda labels: self.objective(logits, labels))
        elif train and self.label_smoothing:
            smoothing = self.label_smoothing
            minimised = of_labels(lambda y: softmax_cross_entropy(logits, y, smoothing))
        for sown in jax.tree.leaves(updated.pop("losses", {})):
            minimised += sown
        count = jnp.maximum(known.sum(), 1).astype(jnp.float32)
        correct = of_labels(lambda labels: 100.0 * (logits.argmax(-1) == labels))
        metrics = {"loss": Mean.of(nll, known), "accuracy": Mean.of(correct, valid)}
        return jnp.where(known, minimised, 0.0).sum() / count, Aux(metrics, updated)

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Chosen:
        logits = model.apply(variables, batch, train=False)
        return Chosen(probabilities=jax.nn.softmax(self._answered(logits).astype(jnp.float32)))

    def _answered(self, logits: Array) -> Array:
        """The logits that an answer is read from."""
        return logits if self.post_hoc is None else self.post_hoc.removed(logits)

    def examples(self, predictions: Chosen, batch: Batch) -> list[dict[str, Any]]:
        """`prediction`, the likeliest class by name, `probabilities` by name, of all or of the SHOWN likeliest, and
        `label` where it is known."""
        probabilities = np.asarray(predictions.probabilities)
        names, examples = tuple(self.classes), []
        for row in np.flatnonzero(np.asarray(batch["valid"])):
            each = probabilities[row]
            shown = range(len(names))
            if len(names) > SHOWN:
                shown = np.argsort(-each, kind="stable")[:SHOWN]
            examples.append(
                {
                    "id": int(batch["id"][row]),
                    "prediction": names[int(each.argmax())],
                    **self._known_label(batch, row),
                    "probabilities": {names[k]: float(each[k]) for k in shown},
                }
            )
        return examples

    def _known_label(self, batch: Batch, row: int) -> dict[str, str]:
        label = int(batch["label"][row]) if "label" in batch else -1
        return {"label": self.classes[label]} if label >= 0 else {}

    def score(self, predictions: Chosen, batch: Batch, references: References) -> dict[str, Any]:
        if not self.metrics:  # there may be no labels
            return {}

        names = tuple(self.classes)

        def against_gold(example, label):
            label = names[label] if label >= 0 else NOT_A_CLASS
            gold = {**references.get(example["id"], {}), "label": (label,)}
            return lambda metric: stats_of(metric, example["prediction"], gold)

        labels = np.asarray(batch["label"])[np.asarray(batch["valid"])]
        pairs = zip(self.examples(predictions, batch), labels, strict=True)
        return self.added(against_gold(example, label) for example, label in pairs)

    def check(self, model: Any, batch: Batch) -> None:
        if len(self.classes) != model.num_classes:
            raise ValueError(
                f"the task names {len(self.classes)} classes, the model has num_classes {model.num_classes}; "
                "give both the same number"
            )
        for part in (self.objective, self.post_hoc):
            if hasattr(part, "check"):
                part.check(model)
        labels, ids = np.asarray(batch["label"]), np.asarray(batch["id"])
        wrong = (labels < 0) | (labels >= len(self.classes))
        if wrong.any():
            raise ValueError(
                f"example id {ids[wrong][0]}: label is {labels[wrong][0]}, expected 0 <= label < "
                f"{len(self.classes)} (the number of classes)"
            )
