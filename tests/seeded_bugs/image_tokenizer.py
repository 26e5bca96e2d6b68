"""Image tokenizers: what the codebook follows, when, and whether anyone would notice that it does not."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.invariants import image_tokenizer_checks
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.layers import quantisation
from vlm_jax.metrics import code_use, picture_quality
from vlm_jax.tasks import reconstruction
from vlm_jax.vision import image_tokenizer

ROOM = "image tokenizer"
VQ = quantisation.VectorQuantiser
FSQ = quantisation.FiniteScalarQuantiser
QUANTISE = (VQ, "__call__")
STARTS = (VQ, "_starts")
PERCEPTUAL = (reconstruction.Perceptual, "__call__")
PAINTED = (image_tokenizer.ImageTokenizer, "_pictures")


@bug("the codebook is updated in evaluation", ROOM, QUANTISE)
def _(real):
    return lambda self, x, *, valid=None, train: real(self, x, valid=valid, train=True)


@bug("the codebook is never updated", ROOM, QUANTISE)
def _(real):
    return lambda self, x, *, valid=None, train: real(self, x, valid=valid, train=False)


@bug("rows that fill the batch move the codebook", ROOM, QUANTISE)
def _(real):
    return lambda self, x, *, valid=None, train: real(self, x, train=train)


@bug("the gradient ends at the codes", ROOM, QUANTISE)
def _(real):
    def call(self, x, **options):
        found = real(self, x, **options)
        return found._replace(values=jax.lax.stop_gradient(found.values))

    return call


@bug("nothing commits the encoder", ROOM, QUANTISE)
def _(real):
    def call(self, x, **options):
        found = real(self, x, **options)
        return found._replace(commitment=jax.lax.stop_gradient(found.commitment))

    return call


@bug("codes are of the vectors before", ROOM, QUANTISE)
def _(real):
    def call(self, x, **options):
        found = real(self, x, **options)
        return found._replace(codes=jnp.roll(found.codes, 1, axis=1))

    return call


@bug("dead codes stay dead", ROOM, (VQ, "_dead"))
def _(real):
    return lambda self, uses: jnp.zeros(uses.shape, bool)


@bug("living codes begin anew", ROOM, (VQ, "_dead"))
def _(real):
    return lambda self, uses: ~real(self, uses)


@bug("dead codes begin anywhere", ROOM, STARTS)
def _(real):
    return lambda self, x, distances, kept: real(self, x, jnp.ones_like(distances), kept)


@bug("dead codes begin at rows that fill the batch", ROOM, STARTS)
def _(real):
    return lambda self, x, distances, kept: real(self, x, distances, jnp.ones_like(kept))


@bug("dead codes begin at the first vectors", ROOM, STARTS)
def _(real):
    return lambda self, x, distances, kept: x


@bug("even levels are not shifted", ROOM, (FSQ, "_bounded"))
def _(real):
    def bounded(self, x):
        levels = jnp.array(self.levels, jnp.float32)
        return jnp.tanh(x) * (levels - 1.0) / 2.0

    return bounded


@bug("the digits of lookup stand the other way round", ROOM, (FSQ, "lookup"))
def _(real):
    return lambda self, codes: real(self, codes)[..., ::-1]


@bug("the grid of codes is read column by column", ROOM, (image_tokenizer, "flatten_grid"))
def _(real):
    return lambda grid: real(grid.swapaxes(1, 2))


@bug("what was written by columns is painted row by row", ROOM, PAINTED)
def _(real):
    def pictures(self, values, *, train):
        return self.decoder(values.reshape(-1, *self.grid, values.shape[-1]), train=train)

    return pictures


@bug("the perplexity is that of codes in use, alike", ROOM, (code_use.CodeUse, "result"))
def _(real):
    def result(self, stats):
        used = len(stats.counts)
        return {"codes_used": 100.0 * used / self.num_codes, "code_perplexity": float(used) + 1}

    return result


@bug("a collapsed codebook is all in use", ROOM, (code_use.CodeUse, "result"))
def _(real):
    return lambda self, stats: {**real(self, stats), "codes_used": 100.0}


@bug("the peak is 1", ROOM, (picture_quality, "PEAK"))
def _(real):
    return 1.0


@bug("windows are squares", ROOM, (picture_quality, "_WINDOW"))
def _(real):
    return np.full(11, 1 / 11)


@bug("the perceptual loss pulls at the real picture", ROOM, PERCEPTUAL)
def _(real):
    return lambda self, image, other: real(self, other, image)


@bug("the perceptual loss is a sum over places", ROOM, PERCEPTUAL)
def _(real):
    return lambda self, image, other: real(self, image, other) * 4.0


@bug("the perceptual loss is told and not minimised", ROOM, PERCEPTUAL)
def _(real):
    return lambda self, image, other: jax.lax.stop_gradient(real(self, image, other))


ROOMS = {ROOM: Room(image_tokenizer_checks.QUICK, image_tokenizer_checks.Tokenizer)}
