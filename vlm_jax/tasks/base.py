"""What a task is: what to minimise, what to predict, what to report. Pure functions of their arguments."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from vlm_jax.metrics.base import Mean, total
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
        """Arrays with leading axis b. Traced. `key` is one for all rows or, as evaluations give it, one a row, made of
        its id: what is drawn for an example is then the same in any batch."""

    def score(self, predictions: Any, batch: Batch, references: References) -> dict[str, Any]:
        """Statistics that add, of the valid rows. On the host."""

    def report(self, stats: Mapping[str, Any]) -> dict[str, float]:
        """The numbers of the summed statistics. On the host."""

    def check(self, model: Any, batch: Batch) -> None:
        """Raises ValueError, naming the example, for a batch that the model cannot take. On the host, once."""

    def examples(self, predictions: Any, batch: Batch) -> list[dict[str, Any]]:
        """The valid rows as a person reads them: {'id', 'prediction', ...}. On the host."""


class Measured:
    """What tasks with a field `metrics` share: statistics a metric, added up, and the numbers of their sums."""

    def named_metrics(self) -> list[tuple[str, Any]]:
        """Two metrics of one kind have names of their own."""
        return [(f"{type(m).__name__} {number}", m) for number, m in enumerate(self.metrics)]

    def added(self, each: Iterable[Callable[[Any], Any]]) -> dict[str, Any]:
        """The sum over `each` of its statistics, a function of the metric, by the metric's name."""
        each = list(each)
        return {
            name: total([stats_of(metric) for stats_of in each])
            for name, metric in self.named_metrics()
            if each
        }

    def report(self, stats: Mapping[str, Any]) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for name, metric in self.named_metrics():
            if name in stats:
                numbers.update(metric.result(stats[name]))
        return numbers


def softmax_cross_entropy(logits: Array, labels: Array, label_smoothing: float = 0.0) -> Array:
    """-log p(label) per element [...], in nats, from logits [... v] and labels [...], in float32.

    With `label_smoothing` e the target is (1 - e) on the label and e / v everywhere (Szegedy et al. 2016, sec. 7).
    Labels outside [0, v) are not detected here: `Task.check` refuses them on the host.
    """
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing is {label_smoothing}, expected 0 <= label_smoothing < 1")
    return _cross_entropy(logits.astype(jnp.float32), labels, label_smoothing)


# Its own backward pass: softmax minus target in one sweep over [... v], where the derivative of the code below
# would go over the vocabulary once for the maximum, the sum, the logarithm and the gather each.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _cross_entropy(logits, labels, smoothing):
    return _cross_entropy_forward(logits, labels, smoothing)[0]


def _cross_entropy_forward(logits, labels, smoothing):
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    nll = normaliser - chosen
    if smoothing:
        uniform = normaliser - logits.mean(-1)
        nll = (1.0 - smoothing) * nll + smoothing * uniform
    return nll, (logits, labels, normaliser)


def _cross_entropy_backward(smoothing, saved, gradient):
    logits, labels, normaliser = saved
    classes = jnp.arange(logits.shape[-1], dtype=labels.dtype)
    on_label = jnp.where(labels[..., None] == classes, 1.0 - smoothing, 0.0)
    target = on_label + smoothing / logits.shape[-1]
    probabilities = jnp.exp(logits - normaliser[..., None])
    return (probabilities - target) * gradient[..., None], None


_cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)
