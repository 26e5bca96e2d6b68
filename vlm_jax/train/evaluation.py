"""Walks a pipeline once: predictions on the device, scores on the host, one division at the end."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vlm_jax.metrics.base import Mean, total
from vlm_jax.train.state import seed_keys
from vlm_jax.types import CARRY, Variables

MAX_PERPLEXITY_NATS = 700.0  # exp overflows a float64 above


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is measured, on which data, how often.

    A report is called with (workdir, step, name, examples, numbers) at the end, where `examples` are the
    dictionaries of `task.examples`, one a valid row, in the order of the data.
    """

    name: str
    data: Any  # a pipeline with train=False
    every: int | None = None  # steps; None: only after the last step
    task: Any = None  # None: the task that is trained
    loss: bool = True  # the loss of the gold targets, weighted by what it counts
    predict: bool = True  # predictions, and the metrics of the task
    perplexity: bool = True  # exp(loss), for losses in nats per token
    max_batches: int | None = None  # None: all
    reports: tuple[Callable[..., Any], ...] = ()

    def due(self, step: int, last: bool) -> bool:
        return last or (self.every is not None and step > 0 and step % self.every == 0)


class Results(NamedTuple):
    numbers: dict[str, float]
    examples: list[dict[str, Any]]  # empty unless the evaluation has reports


class Evaluator:
    """An Evaluation with its functions compiled once, to be called again and again.

    `layout` lays batches on devices (see partition.py); without one they go to the default device.
    """

    def __init__(self, evaluation: Evaluation, model: Any, task: Any, *, layout: Any = None):
        self.evaluation = evaluation
        self.model = model
        self.task = task = evaluation.task if evaluation.task is not None else task
        self._place = layout.place_evaluation_batch if layout is not None else dict

        try:
            self._loss, self._predict = _compiled(model, task)
        except TypeError:  # a model or a task that cannot be hashed shares nothing
            self._loss, self._predict = _compiled.__wrapped__(model, task)

    def __call__(
        self, variables: Variables, key: jax.Array, *, poll: Callable[[], None] = lambda: None
    ) -> Results:
        """`(numbers, examples)` of these variables; `poll` is called before each batch and may raise."""
        evaluation, task = self.evaluation, self.task
        sums, stats, examples = None, {}, []
        carry = None  # what goes on from batch to batch: here from zero, whatever training left

        def finish(predictions, batch):
            """Host work of one batch, while the device is busy with the next."""
            predictions = jax.device_get(predictions)
            for name, value in task.score(
                predictions, batch, evaluation.data.source.references
            ).items():
                stats.setdefault(name, []).append(value)
            if evaluation.reports:
                examples.extend(task.examples(predictions, batch))

        pending = None
        for index, (_, batch) in enumerate(evaluation.data.batches()):
            poll()
            if evaluation.max_batches is not None and index >= evaluation.max_batches:
                break
            placed = self._place(batch)
            if evaluation.loss:
                if carry is None and CARRY in variables:
                    carry = _no_carry(variables[CARRY], placed)
                if carry is not None:
                    variables = {**variables, CARRY: carry}
                found, carry = self._loss(variables, placed)
                sums = found if sums is None else {name: sums[name] + found[name] for name in found}
            if evaluation.predict:
                predictions = self._predict(variables, placed, key)
                if pending is not None:
                    finish(*pending)
                pending = (predictions, batch)
        if pending is not None:
            finish(*pending)
        numbers = _means(sums, evaluation.perplexity) if sums is not None else {}
        if stats:
            numbers.update(task.report({name: total(values) for name, values in stats.items()}))
        return Results(numbers, examples)


def evaluate(
    evaluation: Evaluation, model: Any, task: Any, variables: Variables, *, seed: int = 0
) -> Results:
    """The numbers and the examples of one evaluation, outside of training: what a run with this seed would log."""
    return Evaluator(evaluation, model, task)(variables, seed_keys(seed)[2])


@functools.lru_cache(maxsize=8)
def _compiled(model: Any, task: Any) -> tuple[Callable, Callable]:
    """Loss and prediction of a batch, compiled once for all evaluations of this model and task."""

    def loss(variables, batch):
        aux = task.loss(model, variables, batch, rngs={}, train=False)[1]
        return aux.metrics, aux.collections.get(CARRY)

    def predict(variables, batch, key):
        # By its id, so that what is drawn for an example is the same in any batch and at any place in it.
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch["id"])
        return task.predict(model, variables, batch, keys)

    return jax.jit(loss), jax.jit(predict)


def _no_carry(carry: Any, batch: Any) -> Any:
    rows = batch["valid"].shape[0]
    return jax.tree.map(lambda x: jnp.zeros((rows, *x.shape[1:]), x.dtype), carry)


def _means(sums: dict[str, Mean], perplexity: bool) -> dict[str, float]:
    numbers = {name: float(mean.value()) for name, mean in jax.device_get(sums).items()}
    if perplexity and "loss" in numbers:
        loss = numbers["loss"]
        numbers["perplexity"] = math.exp(loss) if loss < MAX_PERPLEXITY_NATS else math.inf
        numbers["tokens"] = float(sums["loss"].count)  # what the loss is a mean over
    return numbers
