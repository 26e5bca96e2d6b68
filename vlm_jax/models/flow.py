"""A text encoder and a network over pictures as one model that says where a noisy picture should move."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vlm_jax.types import BOS, NUM_SPECIAL, Batch, Cache, Features

PREDICTIONS = ("velocity", "picture")
LEAST_LEFT = 0.05  # of the path, where a picture is made a velocity


class Flow(nn.Module, kw_only=True):
    """The velocity of a picture between noise, at time 0, and what the prompt says, at time 1.

        batch["text"] -> text_encoder --> memory --+
        batch["image"], batch["time"] -------------+-- network --> velocity

    `network(image, time, memory, train=...)` is any of vision/unet.py and vision/dit.py. `image_shape` is what is painted
    where a batch has no picture, as (height, width, channels).

    What the network says is the velocity itself, or, where it `predicts` the "picture", the picture x at the end of the
    path, from which the velocity at z and t is (x - z) / (1 - t): a picture is simpler than the noise in a velocity, all
    of which has to go through the network (Li and He 2025, arXiv 2511.13720, section 3). 1 - t counts as 0.05 at least.
    """

    network: nn.Module
    text_encoder: nn.Module
    image_shape: tuple[int, int, int]
    predicts: str = "velocity"

    def __post_init__(self):
        super().__post_init__()
        if self.predicts not in PREDICTIONS:
            raise ValueError(
                f"Flow(predicts={self.predicts!r}): expected one of {', '.join(PREDICTIONS)}"
            )

    def encode(self, batch: Batch, *, train: bool) -> Features:
        """What the network is told of the prompt: the memory."""
        return self.text_encoder(batch["text"], train=train)

    def __call__(self, batch: Batch, *, train: bool) -> Float[Array, "b h w c"]:
        """The velocity of batch["image"] at batch["time"] [b], 0 where the batch has no time."""
        time = batch.get("time", jnp.zeros(batch["image"].shape[0]))
        return self.velocity(batch["image"], time, self.encode(batch, train=train), train=train)

    def velocity(
        self,
        image: Float[Array, "b h w c"],
        time: Float[Array, "b"],
        memory: Features,
        *,
        train: bool,
    ) -> Float[Array, "b h w c"]:
        """The same, for a memory that is there already."""
        found = self.network(image, time, memory, train=train)
        if self.predicts == "velocity":
            return found
        left = jnp.maximum(1.0 - time, LEAST_LEFT)[:, None, None, None]
        return (found - image) / left


class PlannedFlow(Flow, kw_only=True):
    """A flow whose network is told what stands where, and not the prompt, which a planner turns into that before.

        batch["text"] -> text_encoder -> memory --> planner --> a plan, one number after another
        batch["plan"] -> plan_encoder -> objects --+
        batch["image"], batch["time"] -------------+-- network --> velocity

    A plan is [b m] numbers of a text.scene_plan.ScenePlan, of which number k is token NUM_SPECIAL + k of the planner, a
    decoder. The two halves share no parameters. After Gafni et al. 2022 (Make-A-Scene, arXiv 2203.13131), section 3.1,
    where a layout that is a sequence of tokens precedes the picture.
    """

    planner: nn.Module
    plan_encoder: nn.Module

    def __call__(
        self, batch: Batch, *, train: bool
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b m v"]]:
        """The velocity, of a network that is told batch["told"] [b m], or else batch["plan"]; and the logits of each token of
        batch["plan"], given the prompt and those before it."""
        plan = batch["plan"]
        time = batch.get("time", jnp.zeros(batch["image"].shape[0]))
        told = self.told(batch.get("told", plan), train=train)
        velocity = self.velocity(batch["image"], time, told, train=train)
        before = jnp.pad(plan[:, :-1] + NUM_SPECIAL, ((0, 0), (1, 0)), constant_values=BOS)
        return velocity, self.planner(before, self.encode(batch, train=train), train=train)

    def told(self, plans: Int[Array, "b m"], *, train: bool) -> Features:
        """What the network is told of plans."""
        return self.plan_encoder(plans, train=train)

    def initial_cache(self, memory: Features, batch_size: int, max_length: int) -> Cache:
        """What `step` starts from."""
        return self.planner.initial_cache(memory, batch_size, max_length)

    def step(
        self, token: Int[Array, "b"], cache: Cache, memory: Features
    ) -> tuple[Float[Array, "b v"], Cache]:
        """Logits of the token of the plan after `token`; the first is BOS."""
        return self.planner.step(token, cache, memory)
