"""What must hold of a classification, from the words of a sentence to its accuracy."""

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.layers import pooling
from vlm_jax.metrics.base import total
from vlm_jax.tasks.classification import Chosen, Classification
from vlm_jax.types import Features

LOGITS = np.array([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3], [3.0, 2.0, 1.0]], np.float32)
BATCH = {
    "label": np.array([0, 1, 2]),
    "valid": np.array([True, True, False]),
    "id": np.array([5, 6, -1]),
}
CLASSES = ("no", "yes", "maybe")


class Table:
    """A model whose only variable is what it answers."""

    @staticmethod
    def apply(variables, batch, **options):
        logits = variables["params"]
        return (logits, {}) if "mutable" in options else logits


def _loss(logits, batch):
    objective, aux = Classification(classes=CLASSES).loss(
        Table, {"params": jnp.asarray(logits)}, batch, rngs={}, train=True
    )
    return objective, aux.metrics


def check_closed_form():
    """The mean of -log p(label) over the valid rows, and their number as the divisor."""
    log_p = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    objective, metrics = _loss(LOGITS, BATCH)
    np.testing.assert_allclose(objective, -(log_p[0, 0] + log_p[1, 1]) / 2, rtol=1e-5)
    assert float(metrics["loss"].count) == 2
    assert float(metrics["accuracy"].value()) == 50.0


def check_rows_that_are_not_valid_have_no_gradient():
    gradient = jax.grad(lambda logits: _loss(logits, BATCH)[0])(jnp.asarray(LOGITS))
    assert (gradient[2] == 0).all() and (gradient[:2] != 0).all()


def _chosen():
    return Chosen(probabilities=np.asarray(jax.nn.softmax(LOGITS)))


def check_the_class_is_the_likeliest_by_its_name():
    examples = Classification(classes=CLASSES).examples(_chosen(), BATCH)
    assert [example["id"] for example in examples] == [5, 6]
    assert [example["prediction"] for example in examples] == ["no", "maybe"]
    for row, example in enumerate(examples):
        given = [example["probabilities"][name] for name in CLASSES]
        np.testing.assert_allclose(given, np.asarray(jax.nn.softmax(LOGITS[row])), rtol=1e-6)


def check_accuracy_is_of_the_valid_rows():
    task = Classification(classes=CLASSES)
    stats = task.score(_chosen(), BATCH, {})
    assert task.report(stats)["accuracy"] == 50.0
    flipped = {**BATCH, "label": np.array([2, 2, 0])}
    stats = {
        name: total([s, task.score(_chosen(), flipped, {})[name]]) for name, s in stats.items()
    }
    assert task.report(stats)["accuracy"] == 50.0  # 1 of 2 and 1 of 2


def check_padding_is_not_the_largest():
    values = jnp.array([[[1.0, -5.0], [3.0, -2.0], [9.0, 9.0]]])
    mask = jnp.array([[True, True, False]])
    found = pooling.max_pool(Features(values=values, mask=mask))
    np.testing.assert_array_equal(found, [[3, -2]])


CHECKS = (
    check_closed_form,
    check_rows_that_are_not_valid_have_no_gradient,
    check_the_class_is_the_likeliest_by_its_name,
    check_accuracy_is_of_the_valid_rows,
    check_padding_is_not_the_largest,
)
