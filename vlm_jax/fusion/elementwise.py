"""Number by number: sum and product."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vlm_jax.layers.pooling import pool
from vlm_jax.types import Array, Features


class Sum(nn.Module, kw_only=True):
    """image + text at every text position, the image pooled to one vector; both linear to `width`, if given.

    Fukui et al. 2016 (MCB, arXiv 1606.01847, table 1) compare both with their own.
    """

    width: int | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Features | None, text: Features | None, *, train: bool) -> Features:
        if image is None or text is None:
            return image if text is None else text
        picture, words = _projected(self, image, text)
        return Features(values=picture + words, mask=text.mask)


class Product(nn.Module, kw_only=True):
    """image * text at every text position, the image pooled to one vector; both linear to `width`, if given.

    Fukui et al. 2016 (MCB, arXiv 1606.01847, table 1) compare both with their own.
    """

    width: int | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Features | None, text: Features | None, *, train: bool) -> Features:
        if image is None or text is None:
            return image if text is None else text
        picture, words = _projected(self, image, text)
        return Features(values=picture * words, mask=text.mask)


def _projected(fusion: Sum | Product, image: Features, text: Features) -> tuple[Array, Array]:
    """[b 1 d] and [b l d]. To be called in a compact method: the linear layers are the fusion's."""
    picture, words = pool(image)[:, None], text.values
    if fusion.width is not None:
        picture = nn.Dense(fusion.width, dtype=fusion.dtype, name="image_projection")(picture)
        words = nn.Dense(fusion.width, dtype=fusion.dtype, name="text_projection")(words)
    elif picture.shape[-1] != words.shape[-1]:
        raise ValueError(
            f"{type(fusion).__name__} was given an image of {picture.shape[-1]} features and text of "
            f"{words.shape[-1]}; expected the same number. Try width={words.shape[-1]}, which projects both."
        )
    return picture.astype(words.dtype), words
