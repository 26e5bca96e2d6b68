"""Pictures by rectified flow: straight paths from noise to pictures, whose velocity a model learns.

Liu et al. 2023 (arXiv 2209.03003) and Lipman et al. 2023 (arXiv 2210.02747).
"""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.decoding import guidance
from vlm_jax.decoding.base import halves, keys_of_samples, tile
from vlm_jax.decoding.integrators import Heun, Integrator
from vlm_jax.metrics.base import Mean
from vlm_jax.tasks.base import Aux, softmax_cross_entropy
from vlm_jax.tasks.painting import Painted, Painting, no_prompt
from vlm_jax.text.scene_plan import NOTHING
from vlm_jax.types import NUM_SPECIAL, Array, Batch, Features, Variables


class Times(Protocol):
    def __call__(self, key: jax.Array) -> Array:
        """A time in (0, 1) to learn the velocity at."""


@dataclasses.dataclass(frozen=True)
class Uniform:
    """All times alike (Liu et al. 2023, eq. 1)."""

    def __call__(self, key: jax.Array) -> Array:
        return jax.random.uniform(key)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitNormal:
    """logit(t) from a normal distribution: the middle of the path more often than its ends (Esser et al. 2024, arXiv
    2403.03206, section 3.1). Time runs the other way there; here a negative `mean` favours noise."""

    mean: float = 0.0
    std: float = 1.0

    def __call__(self, key: jax.Array) -> Array:
        return jax.nn.sigmoid(self.mean + self.std * jax.random.normal(key))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RectifiedFlow(Painting):
    """Minimises, per valid row, the mean over the numbers of a picture of (velocity - (picture - noise))^2 at the place
    t picture + (1 - t) noise of the straight path between them, t drawn by `times` for each row.

    A prediction starts from noise and follows the velocity with `integrator`. With `guidance` g the velocity is that
    without the prompt, plus g times what the prompt changes: 1 is without guidance (Ho and Salimans 2022).

    In an evaluation noise and time of a row follow from its id, and are the same at every step of training.

    With a `plan` (text.scene_plan.ScenePlan), of a model that is a PlannedFlow, the network is told batch["plan"] [b m], made by
    data.codes.ToPlan, in place of the prompt; what it goes without for the sake of guidance is then the plan. The cross-entropy
    of the plan given the prompt, in nats per number, is minimised beside; its mean is "plan_loss". A prediction first writes a
    plan with `planning`, without guidance, and then paints what it wrote.
    """

    times: Times = LogitNormal()
    integrator: Integrator = Heun()
    guidance: float = 3.0
    planning: Any = None

    def __post_init__(self):
        super().__post_init__()
        guidance.check(self.guidance, self.prompt_dropout)
        self.check_planning(self.planning)

    def loss(
        self, model: Any, variables: Variables, batch: Batch, *, rngs: dict, train: bool
    ) -> tuple[Array, Aux]:
        picture, rows = batch["image"], batch["valid"].shape[0]
        if train:
            keys = jax.random.split(jax.random.fold_in(rngs["noise"], 0), rows)
            batch = self._without(batch, jax.random.fold_in(rngs["noise"], 1))
        else:
            keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(batch["id"])
        place = jax.vmap(self.on_path)(keys, picture)
        state = [name for name in variables if name != "params"] if train else []
        found, updated = model.apply(
            variables,
            {**batch, "image": place.image, "time": place.time},
            train=train,
            rngs=rngs,
            mutable=state,
        )
        velocity, logits = (found, None) if self.plan is None else found
        error = jnp.square(velocity - place.velocity).mean((1, 2, 3))
        metrics = {"loss": Mean.of(error, batch["valid"])}
        if self.plan is not None:
            nll = softmax_cross_entropy(logits, batch["plan"] + NUM_SPECIAL).mean(1)
            metrics["plan_loss"] = Mean.of(nll, batch["valid"])
        total = sum(each.total for each in metrics.values())
        return total / jnp.maximum(metrics["loss"].count, 1.0), Aux(metrics, updated)

    def _without(self, batch: Batch, key: jax.Array) -> Batch:
        """The batch with nothing to go by in some of its rows."""
        if self.plan is None:
            return self.with_dropped_prompts(batch, key)
        dropped = self.dropped(batch, key)[:, None]
        return {**batch, "told": jnp.where(dropped, NOTHING, batch["plan"])}

    def on_path(self, key: jax.Array, picture: Array) -> "Place":
        """A place on the way from noise to one picture [h w c], both drawn by the key."""
        time_key, noise_key = jax.random.split(key)
        time, noise = self.times(time_key), jax.random.normal(noise_key, picture.shape)
        return Place(
            image=time * picture + (1.0 - time) * noise, time=time, velocity=picture - noise
        )

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Painted:
        """`num_samples` pictures a row. The noise of one depends on (key, row, sample) and on nothing else."""
        rows, samples = batch["valid"].shape[0], self.num_made
        memory, plans = self.condition(model, variables, batch), None
        if self.plan is None:
            told = tile(memory, samples, rows)
        else:
            planning_key, key = halves(key)
            plans = self._write(model, variables, memory, planning_key)  # [b s m]
            told = self._told(model, variables, plans)
        start = noise(key, rows, samples, model.image_shape)  # [b*s h w c]

        def velocity(image, time, memory):
            time = jnp.broadcast_to(time, image.shape[:1])
            return model.apply(variables, image, time, memory, train=False, method="velocity")

        if self.guidance == 1.0:
            found = self.integrator(lambda x, t: velocity(x, t, told), start)
        else:
            empty = self._nothing(model, variables, batch, plans)
            both = jax.tree.map(lambda *parts: jnp.concatenate(parts), told, empty)

            def guided(x, t):
                given, without = jnp.split(velocity(jnp.concatenate([x, x]), t, both), 2)
                return guidance.guide(given, without, self.guidance)

            found = self.integrator(guided, start)
        images = self.shown(found).reshape(rows, samples, *model.image_shape)
        return self.best(Painted(images=images, plans=plans), batch)

    def _write(self, model: Any, variables: Variables, memory: Features, key: jax.Array) -> Array:
        written = self.one_by_one(self.planning, model, variables, memory, key)
        return written.tokens - NUM_SPECIAL

    def _told(self, model: Any, variables: Variables, plans: Array) -> Features:
        plans = plans.reshape(-1, plans.shape[-1])
        return model.apply(variables, plans, train=False, method="told")

    def _nothing(
        self, model: Any, variables: Variables, batch: Batch, plans: Array | None
    ) -> Features:
        """What the network is told of no prompt, or of no plan, for every picture that is made."""
        if plans is not None:
            return self._told(model, variables, jnp.full_like(plans, NOTHING))
        nothing = {**batch, "text": no_prompt(batch["text"])}
        empty = model.apply(variables, nothing, train=False, method="encode")
        return tile(empty, self.num_made, batch["valid"].shape[0])

    def check(self, model: Any, batch: Batch) -> None:
        super().check(model, batch)
        if (self.plan is not None) != hasattr(model, "planner"):
            raise ValueError(
                f"the task has plan={self.plan} and the model is a {type(model).__name__}; expected a plan with a PlannedFlow, "
                "or none with a Flow"
            )
        if self.plan is not None:
            self._check_plan(model, batch)
        shape, expected = np.shape(batch["image"])[1:], tuple(model.image_shape)
        if shape != expected:
            raise ValueError(
                f"the pictures of the batch are {shape}, the model has image_shape {expected}; give both the same"
            )
        largest, vocab_size = int(np.max(batch["text"])), model.text_encoder.vocab_size
        if largest >= vocab_size:
            raise ValueError(
                f"a prompt has token {largest}, expected less than the text encoder's vocab_size {vocab_size}"
            )

    def _check_plan(self, model: Any, batch: Batch) -> None:
        if model.planner.vocab_size != self.plan.vocab_size + NUM_SPECIAL:
            raise ValueError(
                f"the planner has vocab_size {model.planner.vocab_size}, expected {self.plan.vocab_size + NUM_SPECIAL}: the "
                f"{self.plan.vocab_size} numbers of a plan and {NUM_SPECIAL} tokens that are none"
            )
        self.check_written(self.planning, NUM_SPECIAL)
        given = np.asarray(batch["plan"]) if "plan" in batch else np.zeros((1, 0), np.int32)
        inside = (given >= 0) & (given < self.plan.vocab_size)
        if given.shape[1] != self.num_planned or not inside.all():
            raise ValueError(
                f"the batch has a plan {given.shape} of numbers from {given.min(initial=0)} to {given.max(initial=0)}, expected "
                f"{self.num_planned} from 0 to {self.plan.vocab_size - 1}; make it with data.codes.ToPlan"
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """A place on the path, when one is there, and where it moves to."""

    image: Array  # Float[h w c]
    time: Array  # Float[]
    velocity: Array  # Float[h w c]


def noise(key: jax.Array, rows: int, samples: int, shape: tuple[int, ...]) -> Array:
    """Float[rows*samples *shape], the samples of a row side by side, each of a key of its own."""
    keys = keys_of_samples(key, rows, samples)
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
