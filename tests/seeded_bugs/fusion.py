"""Image and text put together."""

import jax.numpy as jnp
import numpy as np

from tests.invariants import fusion_checks
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.fusion import bilinear, co_attention, concat, elementwise, film, gated
from vlm_jax.fusion import stacked_attention as stacked
from vlm_jax.fusion.prefix import Prefix
from vlm_jax.layers.attention_block import AttentionBlock
from vlm_jax.layers.norm import PlainBatchNorm

SIGNED_SQRT = (bilinear, "signed_sqrt")


@bug("gamma without its 1", "fusion", (film, "film"))
def _(real):
    return lambda x, gamma, beta: real(x, gamma - 1, beta)


@bug("row and column change places", "fusion", (film, "coordinates"))
def _(real):
    return lambda height, width: real(height, width)[..., ::-1]


@bug("the grid is read column by column", "fusion", (film, "_sides"))
def _(real):
    return lambda num_places, grid: real(num_places, grid)[::-1]


@bug("a convolution sees what lies under padding", "fusion", (film, "cleared"))
def _(real):
    return lambda features: features.values


@bug("the norm before FiLM scales as well", "fusion", (PlainBatchNorm, "affine"))
def _(real):
    return True


@bug(
    "padded places are looked at",
    "fusion",
    (stacked, "masked_softmax"),
    (co_attention, "masked_softmax"),
)
def _(stacked_softmax, co_softmax):
    def everywhere(scores, mask):
        return stacked_softmax(scores, jnp.ones_like(mask))

    return everywhere, everywhere


@bug("padding says where to look", "fusion", (co_attention, "cleared"))
def _(real):
    return lambda features: features.values


@bug("the image is looked at without the question", "fusion", (co_attention, "_dense"))
def _(real):
    def dense(fusion, name):
        layer = real(fusion, name)
        return (lambda x: 0 * layer(x)) if name == "image_guide" else layer

    return dense


@bug(
    "padding is part of the mean",
    "fusion",
    (concat, "pool"),
    (elementwise, "pool"),
    (gated, "pool"),
    (bilinear, "pool"),
)
def _(*reals):
    return (lambda features: features.values.mean(axis=1),) * len(reals)


@bug("the gate is on the wrong side", "fusion", (gated.nn, "sigmoid"))
def _(real):
    return lambda x: 1 - real(x)


@bug("the square root loses the sign", "fusion", SIGNED_SQRT)
def _(real):
    return lambda x: jnp.abs(real(x))


@bug("the square root has no slope at zero", "fusion", SIGNED_SQRT)
def _(real):
    return lambda x: jnp.sign(x) * jnp.sqrt(jnp.abs(x))


@bug("no power normalisation", "fusion", SIGNED_SQRT)
def _(real):
    return lambda x: x


@bug("image and text have one hash", "fusion", (bilinear, "hashes"))
def _(real):
    return lambda num_features, width, *, seed: real(num_features, width, seed=0)


@bug("the hash has no signs", "fusion", (bilinear, "count_sketch"))
def _(real):
    return lambda x, places, signs, width: real(x, places, np.abs(signs), width)


@bug(
    "what falls on a place takes the place of what was there", "fusion", (bilinear, "count_sketch")
)
def _(real):
    def sketch(x, places, signs, width):
        return jnp.zeros((*x.shape[:-1], width)).at[..., places].set(x * signs)

    return sketch


@bug("a product in place of the convolution", "fusion", (bilinear, "circular_convolution"))
def _(real):
    return lambda x, y: x * y


@bug("no way past the attention", "fusion", (AttentionBlock, "__call__"))
def _(real):
    return lambda self, x, memory, mask, *, train: real(self, x, memory, mask, train=train) - x


@bug("the mask is turned round", "fusion", (AttentionBlock, "__call__"))
def _(real):
    return lambda self, x, memory, mask, *, train: real(self, x, memory, mask[:, ::-1], train=train)


@bug("the image stands after the text", "fusion", (Prefix, "__call__"))
def _(real):
    def prefix(self, image, text, *, train):
        found = real(self, image, text, train=train)
        if image is None or text is None:
            return found
        return found.replace(values=jnp.roll(found.values, text.values.shape[1], axis=1))

    return prefix


ROOMS = {"fusion": Room(fusion_checks.CHECKS, fusion_checks.Fusions)}
