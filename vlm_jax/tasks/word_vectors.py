"""Learning word vectors: negative sampling (Word2Vec) and weighted least squares (GloVe)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from vlm_jax.metrics.base import Mean
from vlm_jax.tasks.base import Aux
from vlm_jax.types import Array, Batch, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class NegativeSampling:
    """Minimises, per pair (word, context) of the text,

        -log sigmoid(score) - negatives * mean over drawn words of log sigmoid(-score)

    (Mikolov et al. 2013, arXiv 1310.4546, eq. 4). The model gives scores and weights of all pairs of a batch."""

    negatives: float = 5.0

    def loss(
        self, model: Any, variables: Variables, batch: Batch, *, rngs: dict, train: bool
    ) -> tuple[Array, Aux]:
        pairs = model.apply(variables, batch, train=train, rngs=rngs)
        # softplus(-x) = softplus(x) - x
        cost = (pairs.positive + self.negatives * pairs.negative) * jax.nn.softplus(pairs.scores)
        cost = (cost - pairs.positive * pairs.scores).sum()
        count = pairs.positive.sum()
        loss = Mean(total=jax.lax.stop_gradient(cost), count=count)
        return cost / jnp.maximum(count, 1.0), Aux({"loss": loss}, {})


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogCounts:
    """Minimises f(x) (w . c + b + b' - log x)^2 / 2 over the counted pairs, f(x) = min(x / largest, 1)^power

    (Pennington et al. 2014, eq. 8 and 9; the half is that of the authors' code). The model gives the sum of
    products and biases; x is batch["count"]."""

    largest: float = 100.0
    power: float = 0.75

    def loss(
        self, model: Any, variables: Variables, batch: Batch, *, rngs: dict, train: bool
    ) -> tuple[Array, Aux]:
        predicted = model.apply(variables, batch, train=train, rngs=rngs)
        count, valid = batch["count"], batch["valid"]
        weight = jnp.minimum(count / self.largest, 1.0) ** self.power
        cost = 0.5 * weight * (predicted - jnp.log(jnp.where(valid, count, 1.0))) ** 2
        loss = Mean.of(cost, valid)
        return loss.total / jnp.maximum(loss.count, 1.0), Aux(
            {"loss": jax.lax.stop_gradient(loss)}, {}
        )
