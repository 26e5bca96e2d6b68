"""Fine-tuning: freezing, low-rank updates, packed and prompted rows, int8, positions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.invariants import finetuning_checks
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.data import packing, prompted
from vlm_jax.language import transformer
from vlm_jax.pretrained import positions
from vlm_jax.tasks import generation
from vlm_jax.train import int8, lora, optimizers
from vlm_jax.types import BOS, PAD

ADAPTED, WRITTEN, HELD = "low-rank updates", "packed and prompted rows", "int8 and positions"


# ---- freezing and rates


@bug("frozen parameters decay", ADAPTED, (optimizers.optax, "set_to_zero"))
def _(real):
    return lambda: optax.chain(real(), optax.add_decayed_weights(-0.01))


@bug("rates of their own are forgotten", ADAPTED, (optimizers, "_scale_by_rule"))
def _(real):
    return lambda rates: optax.identity()


@bug("the last rule gives the rate", ADAPTED, (optimizers, "matched"))
def _(real):
    def matched(rules, names, **options):
        found = real(rules[::-1], names, **options)
        return {name: len(rules) - 1 - index for name, index in found.items()}

    return matched


# ---- low-rank updates


@bug("the update is not divided by the rank", ADAPTED, (lora.Lora, "scale"))
def _(real):
    return property(lambda self: self.alpha)


@bug("the update is divided by alpha", ADAPTED, (lora.Lora, "scale"))
def _(real):
    return property(lambda self: self.rank / self.alpha)


def _filled(name, value):
    """`init` whose leaves of this name have the value."""

    def make(real):
        def init(self, *args, **options):
            variables = real(self, *args, **options)
            params = jax.tree_util.tree_map_with_path(
                lambda path, x: jnp.full_like(x, value) if path[-1].key == name else x,
                variables["params"],
            )
            return {**variables, "params": params}

        return init

    return make


bug("B does not begin at zero", ADAPTED, (lora.Lora, "init"))(_filled(lora.B, 0.1))
bug("A begins at zero too", ADAPTED, (lora.Lora, "init"))(_filled(lora.A, 0.0))


@bug("the update is merged twice", ADAPTED, (lora.Lora, "plain"))
def _(real):
    def plain(self, variables):
        once = real(self, variables)
        return real(self, {**variables, "base": once["params"]})

    return plain


@bug("merging leaves the update out", ADAPTED, (lora.Lora, "plain"))
def _(real):
    return lambda self, variables: {"params": variables["base"]}


@bug("what is loaded is not kept", ADAPTED, (lora.Lora, "holding"))
def _(real):
    return lambda self, variables, plain: variables


@bug("every kernel has one output axis", ADAPTED, (lora, "output_axes"))
def _(real):
    return lambda layer: 1


@bug("the update is dropped in evaluation", ADAPTED, (lora.Lora, "apply"))
def _(real):
    return lambda self, *args, **options: real(self, *args, **{**options, "train": True})


@bug("the update is never dropped", ADAPTED, (lora.Lora, "apply"))
def _(real):
    return lambda self, *args, **options: real(
        dataclasses.replace(self, dropout_rate=0.0), *args, **options
    )


# ---- packed and prompted rows


@bug("texts of a row see each other", WRITTEN, (transformer, "segment_mask"))
def _(real):
    return lambda segment, num_before=0: jnp.ones_like(real(segment, num_before))


@bug("positions go on over the border", WRITTEN, (transformer, "positions"))
def _(real):
    return lambda kept, segment=None: real(kept)


@bug("a text's first token is predicted from the text before", WRITTEN, (generation, "shift"))
def _(real):
    return lambda batch: real({k: v for k, v in batch.items() if k != "segment"})


@bug("segments are those of the labels", WRITTEN, (generation, "_cut"))
def _(real):
    return lambda batch: {"segment": batch["segment"][:, 1:]} if "segment" in batch else {}


@bug("what does not fit begins no row", WRITTEN, (packing, "first_fit"))
def _(real):
    return lambda sizes, length: real(sizes, length)[:-1]


@bug("only the last row is tried", WRITTEN, (packing, "first_fit"))
def _(real):
    def next_fit(sizes, length):
        rows, room = [], 0
        for number, size in enumerate(sizes):
            if size > room:
                rows.append([])
                room = length
            rows[-1].append(number)
            room -= size
        return tuple(map(tuple, rows))

    return next_fit


@bug("packed labels are marked one place on", WRITTEN, (packing, "pack"))
def _(real):
    def pack(rows, length):
        packed = real(rows, length)
        if "predicted" in packed:
            packed["predicted"] = np.roll(packed["predicted"], 1)
        return packed

    return pack


def _marked(change):
    """The transform with other labels marked."""

    def make(real):
        def call(self, example, rng=None):
            row = real(self, example, rng)
            return {**row, "predicted": change(row["predicted"], row["target"])}

        return call

    return make


ANSWER = (prompted.TokenizeAnswer, "__call__")
bug("the prompt is learned too", WRITTEN, ANSWER)(_marked(lambda _, target: target[1:] != PAD))
bug("the end is not learned", WRITTEN, ANSWER)(
    _marked(lambda marks, target: marks & np.append(target[2:] != PAD, False))
)
bug("marked is what is read, not what follows", WRITTEN, ANSWER)(
    _marked(lambda marks, target: np.roll(marks, 1))
)


@bug("in use the prompt ends with a blank", WRITTEN, (prompted.Prompt, "__call__"))
def _(real):
    def call(self, example, rng=None):
        row = real(self, example, rng)
        return {**row, self.output: np.append(row[self.output][1:], PAD).astype(np.int32)}

    return call


@bug("in use the prompt has another beginning", WRITTEN, (prompted.Prompt, "__call__"))
def _(real):
    def call(self, example, rng=None):
        row = real(self, example, rng)
        prompt = row[self.output]
        return {**row, self.output: np.where(prompt == BOS, PAD, prompt)}

    return call


@bug("a long prompt is cut", WRITTEN, (prompted.Prompt, "ids"))
def _(real):
    return lambda self, example: real(dataclasses.replace(self, length=99), example)[: self.length]


@bug("BOS is read again after the prompt", WRITTEN, (generation, "after_prompt"))
def _(real):
    def after_prompt(step, logits, cache):
        step, state = real(step, logits, cache)
        return step, {**state, "begins": jnp.zeros_like(state["begins"])}

    return after_prompt


@bug("the first logits come again and again", WRITTEN, (generation, "after_prompt"))
def _(real):
    def after_prompt(step, logits, cache):
        step, state = real(step, logits, cache)

        def again(token, state, memory):
            logits, after = step(token, state, memory)
            return logits, {**after, "begins": state["begins"]}

        return again, state

    return after_prompt


# ---- int8 and positions


@bug("a scale for each input", HELD, (int8, "quantised"))
def _(real):
    return lambda x, axes: real(x, tuple(i for i in range(x.ndim) if i not in axes))


@bug("one scale for all", HELD, (int8, "quantised"))
def _(real):
    return lambda x, axes: real(x, tuple(range(x.ndim)))


@bug("a scale for the last axis alone", HELD, (int8, "output_axes"))
def _(real):
    return lambda layer: 1


@bug("the largest value overflows", HELD, (int8, "quantised"))
def _(real):
    def quantised(x, axes):
        _, scale = real(x, axes)
        scale = scale * 127 / 128
        return jnp.round(x / scale).astype(jnp.int32).astype(jnp.int8), scale

    return quantised


@bug("values are cut and not rounded", HELD, (int8, "quantised"))
def _(real):
    def quantised(x, axes):
        _, scale = real(x, axes)
        return jnp.trunc(x / scale).astype(jnp.int8), scale

    return quantised


@bug("the range is that of the values, not round zero", HELD, (int8, "dequantised"))
def _(real):
    return lambda values, scale: real(values, scale) + scale / 2


@bug("the class token is resized along", HELD, (positions.ResizedPositions, "_resized"))
def _(real):
    def resized(self, name, table, extra, like):
        shape = (extra + self.new[0] * self.new[1], table.shape[1])
        return jax.image.resize(table, shape, "cubic")

    return resized


@bug("rows and columns are swapped", HELD, (positions, "resize_grid"))
def _(real):
    return lambda table, old, new: real(table, old[::-1], new[::-1])


@bug("positions are interpolated at the same size too", HELD, (positions, "resize_grid"))
def _(real):
    return lambda table, old, new: real(
        real(table, old, (old[0] + 1, old[1])), (old[0] + 1, old[1]), new
    )


ROOMS = {
    ADAPTED: Room(finetuning_checks.LOW_RANK),
    WRITTEN: Room(finetuning_checks.PACKED),
    HELD: Room(finetuning_checks.HELD),
}
