"""Rectified flow: the path, its velocity, the times, guidance, the integrators, and what the networks are told."""

import dataclasses

import jax
import jax.numpy as jnp

from tests.invariants import flow_checks
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.decoding import guidance, integrators
from vlm_jax.models.flow import Flow
from vlm_jax.tasks import rectified_flow
from vlm_jax.tasks.rectified_flow import LogitNormal, RectifiedFlow
from vlm_jax.vision import dit, unet

TASK, NETWORKS, PATH = "rectified flow", "networks of a flow", "integrators"
ON_PATH = (RectifiedFlow, "on_path")
NOISE = (rectified_flow, "noise")
GUIDE = (guidance, "guide")
FOLLOW = (integrators, "_follow")


# ---- the task


@bug("time and noise change places", TASK, ON_PATH)
def _(real):
    def on_path(self, key, picture):
        place = real(self, key, picture)
        noise = picture - place.velocity
        return dataclasses.replace(
            place, image=place.image + (1 - 2 * place.time) * (noise - picture)
        )

    return on_path


@bug("the velocity points to the noise", TASK, ON_PATH)
def _(real):
    def on_path(self, key, picture):
        place = real(self, key, picture)
        return dataclasses.replace(place, velocity=-place.velocity)

    return on_path


def _left(left):
    """A predicted picture becomes a velocity by another rule of how much of the path is left."""

    def velocity(self, image, time, memory, *, train):
        found = self.network(image, time, memory, train=train)
        if self.predicts == "velocity":
            return found
        return (found - image) / left(time)[:, None, None, None]

    return lambda real: velocity


bug("a predicted picture is divided by the time gone by", TASK, (Flow, "velocity"))(
    _left(lambda time: jnp.maximum(time, 0.05))
)
bug("a predicted picture is the velocity", TASK, (Flow, "velocity"))(_left(jnp.ones_like))
bug("near the end of the path a predicted picture is divided by nothing", TASK, (Flow, "velocity"))(
    _left(lambda time: 1.0 - time)
)


@bug("the network is told how much noise there is, not the time", TASK, ON_PATH)
def _(real):
    def on_path(self, key, picture):
        place = real(self, key, picture)
        return dataclasses.replace(place, time=1 - place.time)

    return on_path


@bug("one time for the whole batch", TASK, ON_PATH)
def _(real):
    def on_path(self, key, picture):
        noise = jax.random.normal(key, picture.shape)
        time = self.times(jax.random.key(3))
        image = time * picture + (1 - time) * noise
        return rectified_flow.Place(image=image, time=time, velocity=picture - noise)

    return on_path


@bug("one noise for the whole batch", TASK, ON_PATH)
def _(real):
    def on_path(self, key, picture):
        time, noise = self.times(key), jax.random.normal(jax.random.key(3), picture.shape)
        image = time * picture + (1 - time) * noise
        return rectified_flow.Place(image=image, time=time, velocity=picture - noise)

    return on_path


@bug("one noise for the channels and places of a picture", TASK, ON_PATH)
def _(real):
    def on_path(self, key, picture):
        time_key, noise_key = jax.random.split(key)
        time = self.times(time_key)
        noise = jnp.broadcast_to(jax.random.normal(noise_key), picture.shape)
        image = time * picture + (1 - time) * noise
        return rectified_flow.Place(image=image, time=time, velocity=picture - noise)

    return on_path


@bug("noise from 0 to 1", TASK, ON_PATH)
def _(real):
    def on_path(self, key, picture):
        time_key, noise_key = jax.random.split(key)
        time, noise = self.times(time_key), jax.random.uniform(noise_key, picture.shape)
        image = time * picture + (1 - time) * noise
        return rectified_flow.Place(image=image, time=time, velocity=picture - noise)

    return on_path


@bug("time and noise of one key", TASK, ON_PATH)
def _(real):
    def on_path(self, key, picture):
        time, noise = self.times(key), jax.random.normal(key, picture.shape)
        noise = noise.at[0, 0, 0].set(jax.random.normal(key))
        image = time * picture + (1 - time) * noise
        return rectified_flow.Place(image=image, time=time, velocity=picture - noise)

    return on_path


@bug("times normal, not logit-normal", TASK, (LogitNormal, "__call__"))
def _(real):
    return lambda self, key: self.mean + self.std * jax.random.normal(key)


@bug("the mean of the times has the other sign", TASK, (LogitNormal, "__call__"))
def _(real):
    return lambda self, key: 1 - real(self, key)


@bug("every step draws the same times", TASK, (rectified_flow.jax.random, "split"))
def _(real):
    return lambda key, num=2: real(jax.random.key(0), num) if num != 2 else real(key, num)


@bug("the loss counts rows that fill the batch", TASK, (rectified_flow, "Mean"))
def everywhere(real):
    class Everywhere:
        @staticmethod
        def of(values, mask=None):
            return real.of(values)

    return Everywhere


@bug("prompts are dropped in evaluation too", TASK, (RectifiedFlow, "loss"))
def _(real):
    def loss(self, model, variables, batch, *, rngs, train):
        batch = self.with_dropped_prompts(batch, jax.random.key(0))
        return real(self, model, variables, batch, rngs=rngs, train=train)

    return loss


@bug("prompts are never dropped", TASK, (RectifiedFlow, "with_dropped_prompts"))
def _(real):
    return lambda self, batch, key: batch


@bug("the whole batch is dropped or none", TASK, (RectifiedFlow, "with_dropped_prompts"))
def _(real):
    def drop(self, batch, key):
        dropped = jax.random.bernoulli(key, self.prompt_dropout)
        empty = rectified_flow.no_prompt(batch["text"])
        return {**batch, "text": jnp.where(dropped, empty, batch["text"])}

    return drop


@bug("evaluation by the place in the batch, not by the id", TASK, (RectifiedFlow, "loss"))
def _(real):
    def loss(self, model, variables, batch, *, rngs, train):
        batch = {**batch, "id": jnp.arange(len(batch["id"]))}
        return real(self, model, variables, batch, rngs=rngs, train=train)

    return loss


@bug("the prompt is ignored", TASK, (RectifiedFlow, "condition"))
def _(real):
    def condition(self, model, variables, batch):
        nothing = {**batch, "text": rectified_flow.no_prompt(batch["text"])}
        return real(self, model, variables, nothing)

    return condition


@bug("a picture of the prompt of the row before", TASK, (RectifiedFlow, "condition"))
def _(real):
    def condition(self, model, variables, batch):
        return jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), real(self, model, variables, batch))

    return condition


@bug("samples take the prompts of other rows", TASK, (rectified_flow, "tile"))
def _(real):
    return lambda tree, times, rows: jax.tree.map(lambda x: jnp.concatenate([x] * times), tree)


@bug("guidance on the wrong side", TASK, GUIDE)
def _(real):
    return lambda given, empty, scale: real(empty, given, scale)


@bug("guidance added to the prompt's velocity", TASK, GUIDE)
def _(real):
    return lambda given, empty, scale: given + scale * (given - empty)


@bug("no guidance", TASK, GUIDE)
def _(real):
    return lambda given, empty, scale: given


@bug("all rows start from the same noise", TASK, NOISE)
def _(real):
    def noise(key, rows, samples, shape):
        return jnp.tile(real(key, 1, samples, shape), (rows, *[1] * len(shape)))

    return noise


@bug("all samples of a row start from the same noise", TASK, NOISE)
def _(real):
    return lambda key, rows, samples, shape: jnp.repeat(real(key, rows, 1, shape), samples, 0)


@bug("the same pictures whatever the seed", TASK, NOISE)
def _(real):
    return lambda key, *given: real(jax.random.key(0), *given)


@bug("half the noise", TASK, NOISE)
def _(real):
    return lambda *given: 0.5 * real(*given)


@bug("pictures stay on the scale of the batches", TASK, (RectifiedFlow, "shown"))
def _(real):
    return lambda self, image: jnp.clip(image, 0.0, 1.0)


# ---- the integrators


@bug("the last step is left out", PATH, FOLLOW)
def _(real):
    return lambda step, x, grid: real(step, x, grid[:-1])


@bug("from pictures to noise", PATH, FOLLOW)
def _(real):
    return lambda step, x, grid: real(step, x, grid[::-1])


@bug("the time of a step's end", PATH, FOLLOW)
def _(real):
    return lambda step, x, grid: real(lambda x, a, b: step(x, b, b + (b - a)), x, grid)


@bug("Heun's second slope at the start of the step", PATH, (integrators.Heun, "__call__"))
def _(real):
    def heun(self, velocity, x):
        calls = []

        def stale(x, t):
            calls.append(t)
            return velocity(x, calls[-2] if len(calls) % 2 == 0 else t)

        return real(self, stale, x)

    return heun


@bug("Heun asks twice at the same place", PATH, (integrators.Heun, "__call__"))
def _(real):
    return lambda self, velocity, x: integrators.Euler(num_steps=self.num_steps, shift=self.shift)(
        lambda x, t: (velocity(x, t) + velocity(x, t)) / 2, x
    )


@bug("more steps where there is a picture", PATH, (integrators, "times"))
def _(real):
    return lambda num_steps, shift=1.0: real(num_steps, 1 / shift)


@bug("all steps alike", PATH, (integrators, "times"))
def _(real):
    return lambda num_steps, shift=1.0: real(num_steps)


# ---- the networks


@bug("the time is not told", NETWORKS, (unet, "TimeEmbedding"))
def _(real):
    def embedding(**fields):
        layer = real(**fields)
        return lambda time: layer(0 * time)

    return embedding


@bug("padding is part of the pooled text", NETWORKS, (unet, "pool"))
def _(real):
    return lambda features: features.values.mean(axis=1)


@bug("what lies under padding is read", NETWORKS, (unet, "cleared"), (dit, "cleared"))
def _(*reals):
    return (lambda features: features.values,) * 2


@bug("patches do not know where they are", NETWORKS, (dit, "SinusoidalGrid"))
def _(real):
    return lambda **fields: lambda tokens, grid: tokens


@bug("what a condition says is lost", NETWORKS, (unet, "modulate"), (dit, "modulate"))
def _(*reals):
    return (lambda x, shift, scale: x,) * 2


@bug("a row is scaled by what another is told", NETWORKS, (unet, "modulate"), (dit, "modulate"))
def _(real, _):
    def first(x, shift, scale):
        return real(x, shift, jnp.broadcast_to(scale[:1], scale.shape))

    return first, first


@bug("nothing goes across the U", NETWORKS, (unet.jnp, "concatenate"))
def _(real):
    def concatenate(parts, axis=0):
        if axis == -1 and parts[0].ndim == 4:
            parts = [parts[0], jnp.zeros_like(parts[1])]
        return real(parts, axis=axis)

    return concatenate


@bug("words are not looked at, only their mean", NETWORKS, (dit, "Block"))
def _(real):
    def block(**fields):
        layer = real(**fields)

        def without(x, memory, mask, condition, *, train):
            return layer(x, None, mask[:, memory.shape[1] :], condition, train=train)

        return without

    return block


ROOMS = {
    TASK: Room(flow_checks.TASK_CHECKS),
    PATH: Room(flow_checks.PATH_CHECKS),
    NETWORKS: Room(
        (*flow_checks.NETWORK_CHECKS, flow_checks.check_gradients_reach_every_parameter),
        flow_checks.Networks,
    ),
}
