"""Rectified flow behind a plan: what is told, what is written, what is learned of it."""

import jax
import jax.numpy as jnp

from tests.invariants import planned_flow_checks
from tests.seeded_bugs.flow import everywhere
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.decoding import guidance
from vlm_jax.language import plan_encoder
from vlm_jax.language.plan_encoder import PlanEncoder
from vlm_jax.models.flow import PlannedFlow
from vlm_jax.tasks import rectified_flow
from vlm_jax.tasks.rectified_flow import RectifiedFlow

TASK, PARTS = "rectified flow behind a plan", "parts of a flow behind a plan"
TOLD, WRITE = (RectifiedFlow, "_told"), (RectifiedFlow, "_write")
WITHOUT, READ = (RectifiedFlow, "_without"), (PlannedFlow, "__call__")


@bug("plans are never dropped", TASK, WITHOUT)
def _(real):
    return lambda self, batch, key: batch


@bug("prompts are dropped in the place of plans", TASK, WITHOUT)
def _(real):
    return lambda self, batch, key: self.with_dropped_prompts(batch, key)


@bug("the plan to be written is dropped too", TASK, WITHOUT)
def _(real):
    def without(self, batch, key):
        batch = real(self, batch, key)
        return {**batch, "plan": batch["told"]}

    return without


@bug("a picture of the plan of another row", TASK, TOLD)
def _(real):
    return lambda self, model, variables, plans: real(
        self, model, variables, jnp.roll(plans, 1, axis=0)
    )


@bug("the plans of a row's samples change places", TASK, TOLD)
def _(real):
    return lambda self, model, variables, plans: real(
        self, model, variables, jnp.roll(plans, 1, axis=1)
    )


@bug("the numbers of a plan are shifted by one", TASK, WRITE)
def _(real):
    return lambda *given: real(*given) + 1


@bug("one plan for all samples of a row", TASK, WRITE)
def _(real):
    def write(*given):
        plans = real(*given)
        return jnp.broadcast_to(plans[:, :1], plans.shape)

    return write


@bug("plans by the place in the batch, not by the row's key", TASK, WRITE)
def _(real):
    return lambda self, model, variables, memory, key: real(
        self, model, variables, memory, jax.random.fold_in(key.ravel()[-1], 0)
    )


@bug("a plan costs the sum of its numbers", TASK, (rectified_flow, "softmax_cross_entropy"))
def _(real):
    return lambda logits, labels: real(logits, labels) * labels.shape[1]


@bug("only the first number of a plan is learned", TASK, (rectified_flow, "softmax_cross_entropy"))
def _(real):
    return lambda logits, labels: real(logits[:, :1], labels[:, :1])


bug("the plan's loss counts rows that fill the batch", TASK, (rectified_flow, "Mean"))(everywhere)


@bug("guidance away from the written plan", TASK, (guidance, "guide"))
def _(real):
    return lambda given, empty, scale: real(empty, given, scale)


@bug("metrics of plans look at pictures", TASK, (RectifiedFlow, "judged"))
def _(real):
    return lambda self, metric, example, sample: example["pictures"][sample]


@bug("the planner reads the number that it is to write", PARTS, (plan_encoder.jnp, "pad"))
def _(real):
    def pad(x, widths, **given):
        if given.get("constant_values") == 1 and x.dtype != bool:  # BOS and the numbers before
            return jnp.concatenate([x, x[:, -1:]], axis=1)
        return real(x, widths, **given)

    return pad


@bug("the network is told the real plan, not what it is given", PARTS, READ)
def _(real):
    return lambda self, batch, *, train: real(self, {**batch, "told": batch["plan"]}, train=train)


@bug("the network is told nothing of the plan", PARTS, (PlannedFlow, "told"))
def _(real):
    return lambda self, plans, *, train: real(self, jnp.zeros_like(plans), train=train)


@bug("objects that are not there are seen", PARTS, (plan_encoder, "NOTHING"))
def _(real):
    return -1


@bug("the order of objects is seen", PARTS, (PlanEncoder, "__call__"))
def _(real):
    def encode(self, plans, *, train):
        found = real(self, plans, train=train)
        places = jnp.arange(found.values.shape[1], dtype=jnp.float32)
        return found.replace(values=found.values + places[:, None])

    return encode


@bug("all objects are one vector", PARTS, (PlanEncoder, "__call__"))
def _(real):
    def encode(self, plans, *, train):
        found = real(self, plans, train=train)
        mean = found.values.mean(1, keepdims=True)
        return found.replace(values=jnp.broadcast_to(mean, found.values.shape))

    return encode


@bug("a plan is written from the numbers of another row", PARTS, (PlannedFlow, "step"))
def _(real):
    return lambda self, token, cache, memory: real(self, jnp.roll(token, 1), cache, memory)


ROOMS = {
    TASK: Room(planned_flow_checks.TASK_CHECKS),
    PARTS: Room(planned_flow_checks.PART_CHECKS, planned_flow_checks.Parts),
}
