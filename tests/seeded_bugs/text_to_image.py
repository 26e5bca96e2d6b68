"""Text to picture by codes: which code is which, what is seen, and which way guidance pulls."""

import jax
import jax.numpy as jnp

from tests.invariants import text_to_image_checks
from tests.language import test_embeddings
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.data import codes
from vlm_jax.decoding import guidance, masked, sampling
from vlm_jax.language import embeddings, transformer
from vlm_jax.models import picture_generator
from vlm_jax.tasks import generation, painting, text_to_image
from vlm_jax.text import scene_plan
from vlm_jax.types import PAD

ROOM = "text to codes"
DIGITS = "digits of codes"
GUIDE = (guidance, "guide")
LEAST = (masked, "least")
DROPPED = (painting.Painting, "with_dropped_prompts")
SEES_ALL = (transformer, "sees_all")
MASKED = (text_to_image.MaskedTextToImage, "masked")


@bug("codes are shifted by one as tokens", ROOM, (codes, "NUM_SPECIAL"))
def _(real):
    return real + 1


@bug("codes are shifted by one when painted", ROOM, (picture_generator, "NUM_SPECIAL"))
def _(real):
    return real - 1


@bug("the plan is painted", ROOM, (text_to_image.TextToImage, "num_planned"))
def _(real):
    return 0


@bug("what is written may be of either kind", ROOM, (sampling, "in_stage"))
def _(real):
    return lambda stages, logits, length: logits


@bug("a plan has the numbers of the codes", ROOM, (scene_plan.ScenePlan, "encode"))
def _(real):
    return lambda self, scene: real(self, scene) - codes.NUM_SPECIAL - 9


@bug("rows of the background are taken for columns", ROOM, (scene_plan.ScenePlan, "reached"))
def _(real):
    return lambda self, numbers, grid: real(self, numbers, grid).swapaxes(1, 2)


@bug("the plan counts as background", ROOM, (text_to_image.TextToImage, "_weight"))
def _(real):
    def weight(self, *arguments):
        found = real(self, *arguments)
        return found.at[:, : self.num_planned].set(self.background_weight)

    return weight


@bug("the plan of another picture is judged", ROOM, (text_to_image.TextToImage, "best"))
def _(real):
    def best(self, made, batch):
        turned = None if made.plans is None else jnp.roll(made.plans, 1, axis=0)
        return real(self, made._replace(plans=turned), batch)

    return best


@bug("the decoder sees the target", ROOM, (generation, "shift"))
def _(real):
    def shift(batch):
        _, labels, mask = real(batch)
        return labels, labels, mask

    return shift


@bug("the decoder sees what comes later", ROOM, (transformer, "causal_mask"))
def _(real):
    return lambda length: jnp.ones((1, length, length), bool)


@bug("guidance pulls the wrong way", ROOM, GUIDE)
def _(real):
    return lambda given, empty, scale: real(empty, given, scale)


@bug("guidance begins at the condition", ROOM, GUIDE)
def _(real):
    return lambda given, empty, scale: real(given, empty, scale + 1.0)


@bug("guidance is left out", ROOM, GUIDE)
def _(real):
    return lambda given, empty, scale: given


@bug("the empty prompt keeps its cache", ROOM, (guidance, "guided"))
def _(real):
    def guided(step, scale):
        both = real(step, scale)

        def step_both(token, cache, memory):
            logits, after = both(token, cache, memory)
            return logits, after.replace(empty=after.given)

        return step_both

    return guided


@bug("no prompt is left empty", ROOM, DROPPED)
def _(real):
    return lambda self, batch, key: batch


@bug("every prompt is left empty", ROOM, DROPPED)
def _(real):
    return lambda self, batch, key: {**batch, "text": painting.no_prompt(batch["text"])}


@bug("the empty prompt is nothing at all", ROOM, (painting, "no_prompt"))
def _(real):
    return lambda text: jnp.full_like(real(text), PAD)


@bug("the share that is masked falls in a line", ROOM, (text_to_image, "masked_share"))
def _(real):
    return lambda done: 1.0 - done


@bug("decoding unmasks in a line", ROOM, (masked, "masked_share"))
def _(real):
    return lambda done: 1.0 - done


@bug("masks are the same in all rows", ROOM, MASKED)
def _(real):
    def mask(self, batch, key):
        found = real(self, batch, key)
        return jnp.broadcast_to(found[:1], found.shape)

    return mask


@bug("the surest are masked again", ROOM, LEAST)
def _(real):
    return lambda x, number: real(jnp.where(jnp.isfinite(x), -x, x), number)


@bug("codes that were sure are drawn again", ROOM, LEAST)
def _(real):
    return lambda x, number: jnp.arange(x.shape[-1]) < number


# ---- masked codes behind a plan


@bug("the plan sees the codes", ROOM, SEES_ALL)
def _(real):
    return lambda places, num_causal: real(places, 0)


@bug("masked codes see only what stands before them", ROOM, SEES_ALL)
def _(real):
    return lambda places, num_causal: jnp.zeros_like(real(places, num_causal))


@bug("the last of the plan sees the codes", ROOM, SEES_ALL)
def _(real):
    return lambda places, num_causal: real(places, num_causal - 1)


@bug("the prompt of another sample is read behind a plan", ROOM, (text_to_image, "tile"))
def _(real):
    return lambda tree, times, rows: jax.tree.map(
        lambda x: jnp.tile(x, (times, *(x.ndim - 1) * [1])), tree
    )


@bug("samples of a prompt share their noise", ROOM, (text_to_image, "keys_of_samples"))
def _(real):
    return lambda key, rows, samples: jnp.repeat(real(key, rows, 1), samples)


@bug("a masked code is told where the one before it stands", ROOM, (text_to_image, "jnp"))
def _(real):
    class Deleting:
        """jax.numpy, where the last place is deleted in the place of that which is asked for."""

        def __getattr__(self, name):
            return getattr(real, name)

        def delete(self, x, place, axis):
            return real.delete(x, -1, axis=axis)

    return Deleting()


# ---- codes that share the vectors of their digits


@bug("digits are those of the code before", DIGITS, (embeddings, "NUM_SPECIAL"))
def _(real):
    return real - 1


@bug("digits are counted from the other end", DIGITS, (embeddings.Embedding, "setup"))
def _(real):
    def setup(self):
        object.__setattr__(self, "digits", self.digits[::-1])
        real(self)

    return setup


@bug("the vectors of digits are not read", DIGITS, (embeddings.Embedding, "__call__"))
def _(real):
    def read(self, tokens):
        rows = real(self, tokens)
        shared = sum(self.variables["params"][f"digit_{i}"][0] for i in range(len(self.digits)))
        return rows - shared

    return read


ROOMS = {
    ROOM: Room(text_to_image_checks.QUICK, text_to_image_checks.Painter),
    DIGITS: Room(
        (
            test_embeddings.test_codes_share_the_vectors_of_their_digits,
            test_embeddings.test_digits_are_those_of_the_quantiser,
            test_embeddings.test_tokens_beyond_the_codes_have_no_digits,
        )
    ),
}
