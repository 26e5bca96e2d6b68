"""A generator whose tokens are the codes of pictures, and which paints what it wrote."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vlm_jax.models.generator import Generator
from vlm_jax.types import NUM_SPECIAL, Batch


class PictureGenerator(Generator, kw_only=True):
    """p(codes | text) as any Generator's; token NUM_SPECIAL + c is code c of `image_tokenizer`.

    The half of the image tokenizer that paints is part of the variables, so that a checkpoint needs nothing else. Its
    weights come from a run of its own, init_params=PartFromRun(workdir=..., part="image_tokenizer"), and stay as they
    are with the optimizer's frozen=(r"^image_tokenizer/",).
    """

    image_tokenizer: nn.Module

    def __call__(self, batch: Batch, *, train: bool) -> Float[Array, "b l v"]:
        if self.is_initializing():
            self.image_tokenizer.decode(jnp.zeros((1, self.image_tokenizer.num_places), jnp.int32))
        return super().__call__(batch, train=train)

    def paint(self, tokens: Int[Array, "b n"]) -> Float[Array, "b h w c"]:
        """Pictures of tokens, row by row. What is no code is painted as the nearest that is one."""
        codes = jnp.clip(tokens - NUM_SPECIAL, 0, self.image_tokenizer.quantiser.num_codes - 1)
        return self.image_tokenizer.decode(codes)
