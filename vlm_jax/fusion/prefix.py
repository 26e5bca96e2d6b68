"""The image before the text, as if it were words."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vlm_jax.layers.pooling import cleared
from vlm_jax.types import Features


class Prefix(nn.Module, kw_only=True):
    """[image, text] [b n+l d], the places of the image first, at the text's width d.

    A linear layer takes the image there, as Liu et al. 2023 do (LLaVA, arXiv 2304.08485, eq. 1). `project=False`
    leaves it as it is, which then has to be as wide as the text.
    """

    project: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Features | None, text: Features | None, *, train: bool) -> Features:
        if image is None or text is None:
            return image if text is None else text
        places, width = cleared(image).astype(self.dtype), text.values.shape[-1]
        if self.project:
            places = nn.Dense(width, dtype=self.dtype, name="projection")(places)
        elif places.shape[-1] != width:
            raise ValueError(
                f"Prefix(project=False) was given an image of {places.shape[-1]} features and text of {width}; "
                "expected the same number. Try project=True"
            )
        return Features(
            values=jnp.concatenate([places, cleared(text).astype(self.dtype)], axis=1),
            mask=jnp.concatenate([image.mask, text.mask], axis=1),
        )
