"""Writing a caption for a picture: generation, with a look at where each word came from."""

import dataclasses

import jax
import jax.numpy as jnp

from vlm_jax.tasks.attention import GenerationWithAttention, leaves_named
from vlm_jax.types import Array, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captioning(GenerationWithAttention):
    """`Generation` for models with an image encoder; `predict` also gives the attention over the picture.

    A decoder with hard attention sows the log probability of the places that it drew; they are trained by
    REINFORCE (Xu et al. 2015, eq. 12): `policy_weight` is the paper's lambda_r, `entropy_weight` its lambda_e. The
    reward of a row is the log probability of its caption. The baseline is the mean log probability of a token in
    the other rows, times the row's tokens; the paper has a moving average over batches. The other rows are those that
    are seen at once: of the micro-batch with `Optimizer(accumulate=...)`, of the device under `pmap`. So this term, unlike
    the rest of the loss, changes with how a batch is split, and a row alone has no baseline.
    """

    policy_weight: float = 1.0
    entropy_weight: float = 0.002

    def policy_loss(self, sown: Variables, nll: Array, mask: Array) -> Array:
        if not sown:
            return jnp.zeros((), jnp.float32)
        (log_prob,) = leaves_named(sown, "log_prob")
        (entropy,) = leaves_named(sown, "entropy")
        cost = jax.lax.stop_gradient(jnp.where(mask, nll, 0.0).sum(1))  # [b]
        count = mask.sum(1)
        others = (cost.sum() - cost) / jnp.maximum(count.sum() - count, 1)
        advantage = others * count - cost
        surrogate = self.policy_weight * advantage[:, None] * log_prob
        return -jnp.where(mask, surrogate + self.entropy_weight * entropy, 0.0).sum()
