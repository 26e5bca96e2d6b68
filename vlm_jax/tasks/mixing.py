"""Pictures mixed with others of their batch, and their labels with them: mixup and CutMix."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vlm_jax.types import Array, Batch


class Mixed(NamedTuple):
    """A batch whose rows are `share` of themselves and 1 - `share` of a row with the label `other`."""

    batch: Batch
    other: Array  # Int[b]
    share: Array  # Float[b]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixing:
    """alpha of Beta(alpha, alpha), from which the share of each pair is drawn; 0 leaves the pictures as they are.

    mixup   share of one picture and the rest of another, place by place (Zhang et al. 2018, arXiv 1710.09412, eq. 1)
    cutmix  a box of another picture laid on this one (Yun et al. 2019, arXiv 1905.04899, eq. 1 and 2); the share is
            that of the area that is left, boxes being cut off at the border

    Where both are given, each batch draws one of them. Partners are a permutation of the batch (of the micro-batch
    where gradients are accumulated, of a device's rows under pmap). Rows that are not valid are nobody's partner.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self):
        if min(self.mixup, self.cutmix) < 0:
            raise ValueError(f"{self}: expected alpha > 0, or 0 to switch it off")

    @property
    def on(self) -> bool:
        return bool(self.mixup or self.cutmix)

    def __call__(self, key: jax.Array, batch: Batch) -> Mixed:
        """`batch` with `image` [b h w c] mixed."""
        image, label, valid = batch["image"], batch["label"], batch["valid"]
        if "text" in batch or image.ndim != 4 or not jnp.issubdtype(image.dtype, jnp.floating):
            raise ValueError(
                f"Mixing was given an image of {image.dtype} {image.shape} in a batch of {sorted(batch)}; expected "
                "normalised pictures [b h w c], and no text, which cannot be mixed"
            )
        ordered, drawn, chosen = jax.random.split(key, 3)
        rows = jnp.arange(image.shape[0])
        partner = jax.random.permutation(ordered, rows)
        partner = jnp.where(valid[partner], partner, rows)
        others = image[partner]
        if self.mixup and self.cutmix:
            blended = mixup(drawn, image, others, self.mixup)
            pasted = cutmix(drawn, image, others, self.cutmix)
            cut = jax.random.bernoulli(chosen)
            mixed, share = (jnp.where(cut, p, b) for p, b in zip(pasted, blended))
        elif self.mixup:
            mixed, share = mixup(drawn, image, others, self.mixup)
        else:
            mixed, share = cutmix(drawn, image, others, self.cutmix)
        return Mixed({**batch, "image": mixed}, label[partner], share)


def mixup(key: jax.Array, image: Array, others: Array, alpha: float) -> tuple[Array, Array]:
    """The mixed pictures [b h w c] and the share of `image` in each, [b]."""
    share = jax.random.beta(key, alpha, alpha, image.shape[:1])
    weight = share[:, None, None, None].astype(image.dtype)
    return weight * image + (1 - weight) * others, share


def cutmix(key: jax.Array, image: Array, others: Array, alpha: float) -> tuple[Array, Array]:
    """The mixed pictures [b h w c] and the share of `image` in each, [b]: the area outside of the box."""
    b, height, width, _ = image.shape
    shares, places = jax.random.split(key)
    side = jnp.sqrt(1 - jax.random.beta(shares, alpha, alpha, (b,)))
    centre = jax.random.uniform(places, (2, b))
    rows = _within(height, centre[0], side)  # Bool[b h]
    columns = _within(width, centre[1], side)  # Bool[b w]
    box = rows[:, :, None] & columns[:, None, :]  # [b h w]
    mixed = jnp.where(box[..., None], others, image)
    return mixed, 1 - box.mean((1, 2))


def _within(size: int, centre: Array, side: Array) -> Array:
    """Bool[b size]: which places lie in an interval, both as parts of the size."""
    place = (jnp.arange(size) + 0.5) / size
    return jnp.abs(place - centre[:, None]) < side[:, None] / 2
