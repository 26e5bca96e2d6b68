"""Pairs of a picture and a text that should find each other among all pairs of the batch."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.metrics.base import Mean, Metric
from vlm_jax.metrics.retrieval import Retrieval
from vlm_jax.tasks.base import Aux, Measured, softmax_cross_entropy
from vlm_jax.tasks.zero_shot import ZeroShot
from vlm_jax.types import Array, Batch, References, Variables

AXIS = "data"  # of pmap, where the batch is split over devices


class Scores(NamedTuple):
    """Of b pairs against all B of the batch, those of other devices too."""

    image_to_text: Array  # Float[b B]
    text_to_image: Array  # Float[b B]
    own: Array  # Bool[b B], the pair itself
    kept: Array  # Bool[b B], the pair itself and those of other pictures


def softmax_pairs(scores: Scores) -> Array:
    """[b], Radford et al. 2021 (arXiv 2103.00020), figure 3: the mean of -log p(text | picture) and
    -log p(picture | text), each over the batch."""
    own = scores.own.argmax(1)
    both = jnp.stack([scores.image_to_text, scores.text_to_image])
    return softmax_cross_entropy(
        jnp.where(scores.kept, both, -jnp.inf), jnp.stack([own, own])
    ).mean(0)


def sigmoid_pairs(scores: Scores) -> Array:
    """[b], Zhai et al. 2023 (arXiv 2303.15343), equation 1: each pair of a picture and a text is a question by itself,
    whether they belong together; the sum of -log p(right answer) over the texts."""
    sign = jnp.where(scores.own, 1.0, -1.0)
    each = -jax.nn.log_sigmoid(sign * scores.image_to_text)
    return jnp.where(scores.kept, each, 0.0).sum(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrastive(Measured):
    """Minimises `objective`, in nats per pair, of a model that gives image and text [b d], scale and bias.

    The others of the batch are what is wrong, over all devices: jit over a mesh sees the whole batch, and under pmap
    the vectors of the other devices are gathered, through which the gradient flows back to them. So the loss depends
    on the batch size, and a batch cannot be split into micro-batches.

    Two captions of one picture (the same batch["id"]) are neither right nor wrong for each other: they are left out.
    Rows that are not valid are nobody's wrong answer.
    """

    needs_whole_batch: ClassVar[bool] = True  # Optimizer.accumulate would leave negatives out

    objective: Callable[[Scores], Array] = softmax_pairs
    metrics: tuple[Metric, ...] = (Retrieval(),)

    def loss(
        self, model: Any, variables: Variables, batch: Batch, *, rngs: dict, train: bool
    ) -> tuple[Array, Aux]:
        state = [name for name in variables if name != "params"] if train else []
        found, updated = model.apply(variables, batch, train=train, rngs=rngs, mutable=state)
        scores, valid = scores_of(found, batch), batch["valid"]
        nll = self.objective(scores)
        right = jnp.where(scores.kept, scores.image_to_text, -jnp.inf).argmax(1)
        metrics = {
            "loss": Mean.of(nll, valid),
            "in_batch_r1": Mean.of(100.0 * (right == scores.own.argmax(1)), valid),
            "scale": Mean.of(found.scale),
        }
        if found.bias is not None:
            metrics["bias"] = Mean.of(found.bias)
        count = jnp.maximum(valid.sum(), 1).astype(jnp.float32)
        return jnp.where(valid, nll, 0.0).sum() / count, Aux(metrics, updated)

    def zero_shot(self, classes: tuple[str, ...], tokenize: Any) -> ZeroShot:
        """The task that chooses among these classes for a picture; they are read as they are."""
        return ZeroShot(classes=classes, tokenize=tokenize, metrics=())

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Any:
        """The model's vectors of what is in the batch: pictures, texts, or pairs."""
        return model.apply(variables, batch, train=False)

    def examples(self, predictions: Any, batch: Batch) -> list[dict[str, Any]]:
        """`image` and `text`, the vectors, and `prediction`, the cosine of the two, or the only vector there is."""
        examples = []
        for row in np.flatnonzero(np.asarray(batch["valid"])):
            given = {"image": predictions.image, "text": predictions.text}
            vectors = {name: np.asarray(x[row]) for name, x in given.items() if x is not None}
            first, *second = vectors.values()
            prediction = float(first @ second[0]) if second else first.tolist()
            examples.append({"id": int(batch["id"][row]), "prediction": prediction, **vectors})
        return examples

    def score(self, predictions: Any, batch: Batch, references: References) -> dict[str, Any]:
        if not self.metrics:
            return {}
        return self.added(
            lambda m, pair=pair: m.stats((pair["image"], pair["text"]), (pair["id"],))
            for pair in self.examples(predictions, batch)
        )


def scores_of(found: Any, batch: Batch) -> Scores:
    """scale * cosine + bias of these pairs against those of all devices."""
    bias = 0.0 if found.bias is None else found.bias
    ids, valid = batch["id"], batch["valid"]
    every_image, every_text, every_id, every_valid = everywhere(
        (found.image, found.text, ids, valid)
    )
    first = jax.lax.axis_index(AXIS) * len(ids) if _is_mapped() else 0
    own = (first + jnp.arange(len(ids)))[:, None] == jnp.arange(len(every_id))
    return Scores(
        image_to_text=found.scale * found.image @ every_text.T + bias,
        text_to_image=found.scale * found.text @ every_image.T + bias,
        own=own,
        kept=own | (every_valid & (ids[:, None] != every_id)),
    )


def everywhere(rows: Any) -> Any:
    """Rows [b ...] of this device -> those of all devices [B ...], where the batch is split by pmap."""
    return jax.lax.all_gather(rows, AXIS, tiled=True) if _is_mapped() else rows


def _is_mapped() -> bool:
    try:
        jax.lax.axis_index(AXIS)
    except NameError:
        return False
    return True
