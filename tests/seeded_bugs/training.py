"""Training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.invariants import (
    training_checks,
)
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.layers import norm
from vlm_jax.metrics.base import Mean
from vlm_jax.train import checkpoints, evaluation, optimizers, state, steps

RESTORE = (checkpoints, "restore")


@bug("the average is not evaluated", "training", (state.State, "eval_variables"))
def _(real):
    return state.State.variables


@bug("the average's decay is turned round", "training", (steps, "moving_average"))
def _(real):
    return lambda average, params, decay, count: real(average, params, 1 - decay, count)


@bug("the average keeps a share of the initial parameters", "training", (steps, "moving_average"))
def _(real):
    return lambda average, params, decay, count: real(average, params, decay, 10**6)


@bug("everything decays", "training", (optimizers.Optimizer, "decayed"))
def _(real):
    return lambda self, params: jax.tree.map(lambda _: True, params)


@bug("nothing decays", "training", (optimizers.Optimizer, "decayed"))
def _(real):
    return lambda self, params: jax.tree.map(lambda _: False, params)


@bug("frozen parameters move", "training", (optimizers.Optimizer, "trainable"))
def _(real):
    return lambda self, params: jax.tree.map(lambda _: True, params)


@bug("the statistics of a frozen batch norm move", "training", (steps, "still_where_frozen"))
def _(real):
    return lambda updated, given, trained: updated


@bug("mean of the micro-batches' means", "training", (training_checks.toys.Task, "loss"))
def _(real):
    def loss(self, *args, **options):
        objective, aux = real(self, *args, **options)
        mean = aux.metrics["loss"]
        counted = Mean(total=mean.total / mean.count, count=jnp.ones(()))
        return objective, aux._replace(metrics={**aux.metrics, "loss": counted})

    return loss


@bug("one micro-batch again and again", "training", (steps, "split"))
def _(real):
    return lambda x, parts: jnp.broadcast_to(real(x, parts)[:1], real(x, parts).shape)


@bug("the schedule is one step ahead", "training", (optimizers.Optimizer, "schedule"))
def _(real):
    return lambda self, step: real(self, step + 1)


@bug("each leaf is clipped by itself", "training", (optax, "clip_by_global_norm"))
def _(real):
    def clip(bound):
        def update(leaf):
            return leaf * jnp.minimum(1, bound / jnp.linalg.norm(leaf.ravel()))

        return optax.stateless(lambda updates, _: jax.tree.map(update, updates))

    return clip


@bug("every step drops the same", "training", (steps, "step_key"))
def _(real):
    return lambda key, step: key


@bug("torch's momentum in batch norm", "training", (norm.BatchNorm, "__call__"))
def _(real):
    return lambda self, *args, **options: real(
        dataclasses.replace(self, momentum=1 - self.momentum), *args, **options
    )


@bug("moments are lost on restore", "training", RESTORE)
def _(real):
    def restore(workdir, like):
        found, position = real(workdir, like)
        return found.replace(opt_state=jax.tree.map(jnp.zeros_like, found.opt_state)), position

    return restore


@bug("the average is lost on restore", "training", RESTORE)
def _(real):
    def restore(workdir, like):
        found, position = real(workdir, like)
        return found.replace(ema=found.params), position

    return restore


@bug("the position is one off on restore", "training", RESTORE)
def _(real):
    return lambda workdir, like: (real(workdir, like)[0], real(workdir, like)[1] + 1)


@bug("mean of the batches' means", "training", (Mean, "__add__"))
def _(real):
    def add(self, other):
        halves = [m.total / jnp.where(m.count == 0, 1, m.count) for m in (self, other)]
        return Mean(total=(halves[0] + halves[1]) / 2, count=jnp.ones_like(self.count))

    return add


@bug("sums in bfloat16", "training", (Mean, "__add__"))
def _(real):
    def add(self, other):
        small = [m.total.astype(jnp.bfloat16) for m in (self, other)]
        return Mean(total=(small[0] + small[1]).astype(jnp.float32), count=self.count + other.count)

    return add


@bug("only the last batch is scored", "training", (evaluation, "total"))
def _(real):
    return lambda stats: list(stats)[-1]


@bug("copies in the last batch are scored", "training", (training_checks.toys.Task, "score"))
def _(real):
    return lambda self, predictions, batch, references: real(
        self, predictions, {**batch, "valid": np.ones_like(batch["valid"])}, references
    )


ROOMS = {"training": Room(training_checks.CHECKS, training_checks.Training)}
