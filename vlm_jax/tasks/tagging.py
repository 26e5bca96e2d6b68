"""A label for every word: parts of speech, named entities."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.metrics.attachment import TagAccuracy
from vlm_jax.metrics.base import Mean
from vlm_jax.tasks.base import Aux, Measured, softmax_cross_entropy
from vlm_jax.types import PAD, Array, Batch, References, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagging(Measured):
    """Minimises the cross-entropy of batch["label"] [b l], in nats per word.

    The divisor is the number of words with a label: -1 (padding, a label without a number) has no part in the loss. In
    the score such a word counts, and is wrong. `names` are those of the labels 0, 1, ...
    """

    names: tuple[str, ...]
    metrics: tuple[Any, ...] = (TagAccuracy(),)

    def loss(
        self, model: Any, variables: Variables, batch: Batch, *, rngs: dict, train: bool
    ) -> tuple[Array, Aux]:
        state = [name for name in variables if name != "params"] if train else []
        logits, updated = model.apply(variables, batch, train=train, rngs=rngs, mutable=state)
        labels, mask = batch["label"], labelled(batch)
        nll = softmax_cross_entropy(logits, jnp.maximum(labels, 0))
        correct = 100.0 * (logits.argmax(-1) == labels)
        metrics = {"loss": Mean.of(nll, mask), "accuracy": Mean.of(correct, mask)}
        count = jnp.maximum(mask.sum(), 1).astype(jnp.float32)
        return jnp.where(mask, nll, 0.0).sum() / count, Aux(metrics, updated)

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Array:
        """Int[b l], the likeliest label of each place."""
        return model.apply(variables, batch, train=False).argmax(-1)

    def examples(self, predictions: Array, batch: Batch) -> list[dict[str, Any]]:
        """`tags`, one a word, and the same as one text."""
        predictions, lengths = np.asarray(predictions), word_counts(batch)
        found = []
        for row in np.flatnonzero(np.asarray(batch["valid"])):
            tags = [self.names[label] for label in predictions[row, : lengths[row]]]
            found.append({"id": int(batch["id"][row]), "prediction": " ".join(tags), "tags": tags})
        return found

    def with_text(self, example: dict[str, Any], text: str) -> dict[str, Any]:
        """The example with the words that a text is cut into at white space, and as `shown`: "The/DET dog/NOUN"."""
        words = text.split()
        tagged = [f"{word}/{tag}" for word, tag in zip(words, example["tags"])]
        return {"words": words, **example, "shown": " ".join(tagged)}

    def score(self, predictions: Array, batch: Batch, references: References) -> dict[str, Any]:
        def against_gold(example):
            gold = references[example["id"]]
            return lambda m: m.stats(example["tags"], gold[m.reference])

        return self.added(against_gold(example) for example in self.examples(predictions, batch))

    def check(self, model: Any, batch: Batch) -> None:
        check_number("labels", len(self.names), model.num_labels)
        check_labels(batch, "label", len(self.names))


def labelled(batch: Batch, key: str = "label") -> Array:
    """Bool[b l]: the words of valid rows that have a label."""
    return (batch[key] >= 0) & (batch["text"] != PAD) & batch["valid"][:, None]


def word_counts(batch: Batch) -> np.ndarray:
    """Int[b]: the words of each row."""
    return (np.asarray(batch["text"]) != PAD).sum(1)


def check_number(what: str, named: int, of_model: int) -> None:
    if named != of_model:
        raise ValueError(
            f"the task names {named} {what}, the model has {of_model}; give both the same number"
        )


def check_labels(batch: Batch, key: str, number: int) -> None:
    """Raises ValueError, naming the example, for a label outside [-1, number)."""
    labels = np.asarray(batch[key])
    outside = np.argwhere((labels < -1) | (labels >= number))
    if len(outside):
        row, column = outside[0]
        raise ValueError(
            f"example id {batch['id'][row]}: {key}[{column}] is {labels[row, column]}, expected 0 <= label < "
            f"{number}, or -1 for none"
        )
