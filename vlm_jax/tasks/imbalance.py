"""Losses for classes of which some are rare: (logits [b k], labels [b]) -> a value a row [b], in nats.

`Classification(objective=...)` minimises one of them and goes on reporting -log p(label). `counts` are the training
examples of each class, in the order of the labels. All but `Deferred` are the same at every step.

They are for one label a row. A sequence of tokens (captions, translation) has no classes whose rarity is to be made
up for: rare words are what the text is like, and weighing them would change the language model.
"""

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np

from vlm_jax.tasks.base import softmax_cross_entropy
from vlm_jax.types import Array


class Objective(Protocol):
    def __call__(self, logits: Array, labels: Array) -> Array: ...


class OfClasses:
    """What the dataclasses here share: they refuse counts that are not those of the model's classes."""

    def check(self, model: Any) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "counts" and len(value) != model.num_classes:
                raise ValueError(
                    f"{type(self).__name__}: given counts of {len(value)} classes, expected one for each of the "
                    f"model's num_classes {model.num_classes}"
                )
            if isinstance(value, OfClasses):
                value.check(model)

    def _at_least_one(self) -> np.ndarray:
        """The counts as floats [k]."""
        counts = np.asarray(self.counts, np.float64)
        if counts.ndim != 1 or not len(counts) or counts.min() < 1:
            raise ValueError(
                f"{type(self).__name__}: given counts {self.counts}, expected at least 1 for each class; leave out "
                "a class that has no example"
            )
        return counts


# ---- weights of the classes: their mean over the classes is 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class InverseFrequency(OfClasses):
    """Proportional to n^-power: 1 the inverse frequency, 1/2 its square root, 0 ones."""

    counts: tuple[int, ...]
    power: float = 1.0

    @property
    def values(self) -> np.ndarray:
        """Float[k]"""
        return _mean_one(self._at_least_one() ** -self.power)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EffectiveNumber(OfClasses):
    """Proportional to (1 - beta) / (1 - beta^n) (Cui et al. 2019, arXiv 1901.05555, eq. 2 and section 4.1).

    beta 0: ones; towards 1: the inverse frequency.
    """

    counts: tuple[int, ...]
    beta: float = 0.9999

    def __post_init__(self):
        if not 0.0 <= self.beta < 1.0:
            raise ValueError(
                f"EffectiveNumber: given beta {self.beta}, expected 0 <= beta < 1; for its limit at 1 take "
                "InverseFrequency"
            )

    @property
    def values(self) -> np.ndarray:
        """Float[k]"""
        with np.errstate(
            divide="ignore"
        ):  # log 0 is -inf, and 1 - exp(-inf n) the 1 that it should be
            return _mean_one(-1.0 / np.expm1(self._at_least_one() * np.log(self.beta)))


def _mean_one(weights: np.ndarray) -> np.ndarray:
    return weights * (len(weights) / weights.sum())


# ---- objectives


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """-log p(label)."""

    def __call__(self, logits, labels):
        return softmax_cross_entropy(logits, labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Focal:
    """-(1 - p)^gamma log p, with p the softmax's probability of the label (Lin et al. 2017, arXiv 1708.02002, eq. 4,
    where p is a sigmoid's)."""

    gamma: float = 2.0

    def __post_init__(self):
        if self.gamma < 0.0:
            raise ValueError(f"Focal: given gamma {self.gamma}, expected 0 or more")

    def __call__(self, logits, labels):
        nll = softmax_cross_entropy(logits, labels)
        if not self.gamma:
            return nll
        # The slope of x^gamma has no bound at 0 where gamma < 1.
        wrong = jnp.maximum(-jnp.expm1(-nll), jnp.finfo(nll.dtype).tiny)
        return wrong**self.gamma * nll


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitAdjustment(OfClasses):
    """Cross-entropy of the logits plus tau log prior (Menon et al. 2021, arXiv 2007.07314, eq. 10).

    In training only: the logits that the model learns are those of balanced classes. `removed` is the other form,
    after a training with plain cross-entropy (eq. 9), for `Classification(post_hoc=...)`.
    """

    counts: tuple[int, ...]
    tau: float = 1.0

    @property
    def log_prior(self) -> np.ndarray:
        """Float32[k], tau times the log of each class's share."""
        counts = self._at_least_one()
        return np.float32(self.tau * np.log(counts / counts.sum()))

    def __call__(self, logits, labels):
        return softmax_cross_entropy(logits.astype(jnp.float32) + self.log_prior, labels)

    def removed(self, logits: Array) -> Array:
        return logits.astype(jnp.float32) - self.log_prior


def balanced_softmax(counts: tuple[int, ...]) -> LogitAdjustment:
    """Ren et al. 2020, arXiv 2007.10740, eq. 4: logits plus log n, which is logit adjustment with tau 1."""
    return LogitAdjustment(counts=counts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ldam(OfClasses):
    """Cross-entropy with a margin: the label's cosine must be the largest by max_margin (smallest n / n)^1/4.

    Cao et al. 2019, arXiv 1906.07413, eq. 12 and 13, for `Classifier(cosine_scale=30)`, whose logits are `scale` times
    a cosine; so the margin is taken off times `scale`.
    """

    counts: tuple[int, ...]
    max_margin: float = 0.5
    scale: float = 30.0

    @property
    def margins(self) -> np.ndarray:
        """Float32[k], of cosines."""
        counts = self._at_least_one()
        return np.float32(self.max_margin * (counts.min() / counts) ** 0.25)

    def __call__(self, logits, labels):
        on_label = labels[:, None] == jnp.arange(logits.shape[-1])
        margins = jnp.where(on_label, self.scale * self.margins, 0.0)
        return softmax_cross_entropy(logits.astype(jnp.float32) - margins, labels)

    def check(self, model):
        super().check(model)
        if getattr(model, "cosine_scale", None) != self.scale:
            raise ValueError(
                f"Ldam(scale={self.scale}) is a margin between cosines; expected a model with cosine_scale "
                f"{self.scale}, given {getattr(model, 'cosine_scale', None)}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weighted(OfClasses):
    """`objective` times the weight of the label's class. What is minimised is divided by the number of rows, not by the
    sum of their weights."""

    weights: Any  # with `values`, Float[k]
    objective: Objective = CrossEntropy()

    def __call__(self, logits, labels):
        return self.objective(logits, labels) * _of_labels(self.weights.values, labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deferred(OfClasses):
    """`objective` as it is before step `start`, then times the weight of the label's class (Cao et al. 2019, algorithm 1).

    The training step says which step it is, by way of `Classification.at`.
    """

    weights: Any
    start: int  # the first step with weights
    objective: Objective = CrossEntropy()

    def at(self, step: Array) -> Weighted:
        values = jnp.where(step >= self.start, jnp.asarray(self.weights.values, jnp.float32), 1.0)
        return Weighted(weights=_Given(values), objective=self.objective)

    def __call__(self, logits, labels):
        raise ValueError("Deferred changes with the step; expected a call of at(step) first")


class _Given(NamedTuple):
    values: Array


def _of_labels(values: np.ndarray, labels: Array) -> Array:
    return jnp.asarray(values, jnp.float32)[labels]
