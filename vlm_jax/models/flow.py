"""A text encoder and a network over pictures as one model that says where a noisy picture should move."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vlm_jax.types import Batch, Features

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
