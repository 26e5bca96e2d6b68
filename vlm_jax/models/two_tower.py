"""A picture and a text, each as one vector of a space that they share."""

import math
from collections.abc import Callable

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from vlm_jax.types import Array, Batch, Features


@flax.struct.dataclass
class Embedded:
    """Vectors of length 1, so that their product is the cosine; None for what the batch does not have."""

    image: Array | None  # Float[b d]
    text: Array | None  # Float[b d]
    scale: Array  # Float[], what cosines are multiplied by: 1 / temperature
    bias: Array | None  # Float[], what is added to that


class TwoTower(nn.Module, kw_only=True):
    """Radford et al. 2021 (arXiv 2103.00020), figure 3, and Zhai et al. 2023 (arXiv 2303.15343), algorithm 1.

        batch["image"] -> image_encoder -> pooling -> linear -> / length
        batch["text"]  -> text_encoder  -> pooling -> linear -> / length

    `image_pooling` and `text_pooling` make one vector of Features: layers.pooling.pool, the mean, or max_pool, or modules
    such as AttentionPooling. Where these give vectors of one `width`, `project` may leave the linear layers out.

    The scale is exp of a parameter, `log_scale`, and never above `max_scale` (CLIP's 100). The gradient passes that
    limit as if it were not there, so that a scale at the limit can come down again; an optimizer with
    `max_norm=math.log(max_scale)` and `max_norm_of=(r"log_scale$",)` keeps the parameter itself there, as CLIP does.
    `init_bias` is that of the sigmoid loss; None, without one.
    """

    image_encoder: nn.Module
    text_encoder: nn.Module
    width: int
    image_pooling: Callable[[Features], Array]
    text_pooling: Callable[[Features], Array]
    init_scale: float = 1 / 0.07
    max_scale: float = 100.0
    init_bias: float | None = None
    dropout_rate: float = 0.0  # of the pooled vectors
    project: bool = True

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool) -> Embedded:
        """The vectors of what is in the batch, "image", "text" or both, in float32."""
        image = text = None
        if "image" in batch:
            pooled = self.image_pooling(self.image_encoder(batch["image"], train=train))
            image = self._embedded(pooled, "image_projection", train)
        if "text" in batch:
            pooled = self.text_pooling(self.text_encoder(batch["text"], train=train))
            text = self._embedded(pooled, "text_projection", train)
        if image is None and text is None:
            raise ValueError(
                f"TwoTower: expected 'image' or 'text' in the batch, given {sorted(batch)}"
            )
        start = nn.initializers.constant(math.log(self.init_scale))
        log_scale = self.param("log_scale", start, ())
        bias = None
        if self.init_bias is not None:
            bias = self.param("bias", nn.initializers.constant(self.init_bias), ())
        scale = jnp.exp(at_most(log_scale, math.log(self.max_scale)))
        return Embedded(image=image, text=text, scale=scale, bias=bias)

    def _embedded(self, x: Array, name: str, train: bool) -> Array:
        x = nn.Dropout(self.dropout_rate)(x, deterministic=not train)
        x = x.astype(jnp.float32)
        if self.project:
            x = nn.Dense(self.width, use_bias=False, name=name)(x)
        return unit(x)


def unit(x: Array) -> Array:
    """Each [... d] divided by its length; zeros stay zeros, with a gradient that is finite."""
    return x * jax.lax.rsqrt(jnp.maximum((x**2).sum(-1, keepdims=True), 1e-12))


def at_most(x: Array, limit: float) -> Array:
    """min(x, limit), with the gradient of x."""
    return x + jax.lax.stop_gradient(jnp.minimum(x, limit) - x)
