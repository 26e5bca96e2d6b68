"""Loss: shift, masks, divisor."""

import jax
import jax.numpy as jnp

from tests.invariants import (
    loss_checks,
)
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.metrics.base import Mean
from vlm_jax.tasks import generation
from vlm_jax.types import EOS, PAD

SHIFT = (generation, "shift")
LOSS = (generation.Generation, "loss")


def _with_mask(change):
    """A shift whose mask is `change(inputs, labels, mask, batch)`."""

    def make(real):
        def shift(batch):
            inputs, labels, mask = real(batch)
            return inputs, labels, change(inputs, labels, mask, batch)

        return shift

    return make


@bug("labels are not shifted", "loss", SHIFT)
def _(real):
    return lambda batch: (batch["target"][:, :-1], batch["target"][:, :-1], real(batch)[2])


@bug("labels are shifted twice", "loss", SHIFT)
def _(real):
    def shift(batch):
        inputs, labels, _ = real(batch)
        labels = jnp.concatenate([labels[:, 1:], jnp.full_like(labels[:, :1], PAD)], axis=1)
        return inputs, labels, (labels != PAD) & batch["valid"][:, None]

    return shift


bug("the mask is not shifted", "loss", SHIFT)(
    _with_mask(lambda inputs, labels, mask, batch: (inputs != PAD) & batch["valid"][:, None])
)
bug("EOS is masked (pad = eos)", "loss", SHIFT)(
    _with_mask(lambda inputs, labels, mask, batch: mask & (labels != EOS))
)
bug("the first word is dropped", "loss", SHIFT)(
    _with_mask(lambda inputs, labels, mask, batch: mask.at[:, 0].set(False))
)
bug("PAD is taught", "loss", SHIFT)(
    _with_mask(lambda inputs, labels, mask, batch: mask | batch["valid"][:, None])
)
bug("rows that are not valid count", "loss", SHIFT)(
    _with_mask(lambda inputs, labels, mask, batch: labels != PAD)
)


@bug("divided by the rows, not the tokens", "loss", LOSS)
def _(real):
    def loss(self, model, variables, batch, **options):
        objective, aux = real(self, model, variables, batch, **options)
        return objective * aux.metrics["loss"].count / batch["valid"].shape[0], aux

    return loss


@bug("mean of the rows' means", "loss", LOSS)
def _(real):
    def loss(self, model, variables, batch, **options):
        aux = real(self, model, variables, batch, **options)[1]
        rows = [
            real(
                self,
                model,
                variables,
                {**batch, "valid": jnp.arange(loss_checks.B) == i},
                **options,
            )[0]
            for i in range(loss_checks.B)
        ]
        return jnp.stack(rows).mean(), aux

    return loss


@bug("smoothing takes e and gives nothing back", "loss", (generation, "softmax_cross_entropy"))
def _(real):
    return lambda logits, labels, e=0.0: (1 - e) * real(logits, labels)


@bug("smoothing in evaluation", "loss", LOSS)
def _(real):
    def loss(self, model, variables, batch, *, rngs, train):
        return real(self, model, variables, batch, rngs=rngs, train=True)

    return loss


@bug("the reported loss is the smoothed one", "loss", LOSS)
def _(real):
    def loss(self, model, variables, batch, **options):
        objective, aux = real(self, model, variables, batch, **options)
        count = aux.metrics["loss"].count
        reported = Mean(total=jax.lax.stop_gradient(objective) * count, count=count)
        return objective, aux._replace(metrics={**aux.metrics, "loss": reported})

    return loss


ROOMS = {"loss": Room(loss_checks.CHECKS, loss_checks.Loss)}
