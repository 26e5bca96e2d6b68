"""What a task is: what to minimise, what to predict, what to report. Pure functions of their arguments."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax

from vlm_jax.metrics.base import Mean
from vlm_jax.types import Array, Batch, References, Variables


class Aux(NamedTuple):
    """What comes beside a loss. `metrics["loss"].count` is the number that the loss was divided by, so that
    gradients of micro-batches and shards can be weighted by it and added exactly."""

    metrics: dict[str, Mean]  # on device
    collections: Variables  # updated batch statistics and the like, without 'params'


class Task(Protocol):
    def loss(
        self, model: Any, variables: Variables, batch: Batch, *, rngs: dict, train: bool
    ) -> tuple[Array, Aux]:
        """The scalar to minimise, and its parts. Traced."""

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Any:
        """Arrays with leading axis b. Traced."""

    def score(self, predictions: Any, batch: Batch, references: References) -> dict[str, Any]:
        """Statistics that add, of the valid rows. On the host."""

    def report(self, stats: Mapping[str, Any]) -> dict[str, float]:
        """The numbers of the summed statistics. On the host."""

    def check(self, model: Any, batch: Batch) -> None:
        """Raises ValueError, naming the example, for a batch that the model cannot take. On the host, once."""

    def examples(self, predictions: Any, batch: Batch) -> list[dict[str, Any]]:
        """The valid rows as a person reads them: {'id', 'prediction', ...}. On the host."""


def softmax_cross_entropy(logits: Array, labels: Array, label_smoothing: float = 0.0) -> Array:
    """-log p(label) per element [...], in nats, from logits [... v] and labels [...], in float32.

    With `label_smoothing` e the target is (1 - e) on the label and e / v everywhere (Szegedy et al. 2016, sec. 7).
    Labels outside [0, v) are not detected here: `check` refuses them on the host.
    """
    logits = logits.astype("float32")
    shifted = logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    normaliser = jax.numpy.log(jax.numpy.exp(shifted).sum(-1))
    chosen = jax.numpy.take_along_axis(shifted, labels[..., None], axis=-1)[..., 0]
    nll = normaliser - chosen
    if label_smoothing == 0.0:
        return nll
    uniform = normaliser - shifted.mean(-1)
    return (1.0 - label_smoothing) * nll + label_smoothing * uniform
