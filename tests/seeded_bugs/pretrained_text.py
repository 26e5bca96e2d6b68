"""Published models that read or write text: BERT, BLIP, GIT, Llama, Gemma, T5, and those that see through them."""

import dataclasses

import jax.numpy as jnp

from tests.invariants import published_text_checks as checks
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.fusion import projection
from vlm_jax.language import transformer
from vlm_jax.layers import attention
from vlm_jax.pretrained import bert, blip, gemma, git, gpt2, llama, t5
from vlm_jax.pretrained.places import TokenRows
from vlm_jax.tasks import generation
from vlm_jax.vision import tiled

READERS, WRITERS = "published BERT, BLIP and GIT", "published language models"
FORMS = ((bert, "Form"), (blip, "Form"), (git, "Form"))


def _with(**changes):
    """What makes something, with other settings."""

    def make(*reals):
        return tuple(lambda real=real, **fields: real(**{**fields, **changes}) for real in reals)

    return make


# ---- BERT


bug("BERT's words are multiplied by sqrt(width)", READERS, *FORMS)(_with(scale_words=True))
bug("BERT's sum of vectors is not normed", READERS, *FORMS)(_with(norm_words=False))
bug("gaps are filled from the left alone", READERS, (bert, "TransformerDecoder"))(
    _with(causal=True)
)
bug("UNK ends a segment", READERS, (transformer, "EOS"))(lambda real: 3)
bug("BERT's positions begin at 2", READERS, (transformer, "positions"))(
    lambda real: lambda *arguments: real(*arguments) + 2
)


@bug("a text's positions are its places in the row", READERS, (transformer, "positions"))
def _(real):
    return lambda kept, segment=None: jnp.broadcast_to(jnp.arange(kept.shape[1]), kept.shape)


@bug("gamma is a norm's bias", READERS, (bert, "OLDER"))
def _(real):
    swapped = {"LayerNorm.gamma": "LayerNorm.beta", "LayerNorm.beta": "LayerNorm.gamma"}
    first = tuple((name, swapped.get(older, older)) for name, older in real[:2])
    last = tuple((name, older.replace("gamma", "beta")) for name, older in real[2:])
    return (first + last,)


@bug("cross-attention's keys and values are exchanged", READERS, (bert, "attention"))
def _(real):
    def attention(ours, *arguments, **fields):
        for place in real(ours, *arguments, **fields):
            if ours == "cross_attention":
                (name,) = place.ours
                parts = {"/key/": "/value/", "/value/": "/key/"}
                found = next((part for part in parts if part in name), None)
                if found:
                    place = dataclasses.replace(place, ours=name.replace(found, parts[found]))
            yield place

    return attention


# ---- BLIP and GIT


@bug("what is written begins as questions do", READERS, (TokenRows, "with_roles"))
def _(real):
    return lambda self, roles: self


@bug("the bias of the words keeps the file's order", READERS, (bert, "Rows"))
def _(real):
    def rows(ours, theirs, ids, **fields):
        ids = tuple(range(len(ids))) if ours.endswith("bias") else ids
        return real(ours=ours, theirs=theirs, ids=ids, **fields)

    return rows


bug("the class token is not seen", READERS, (blip, "Vit"))(_with(keep_class_token=False))


def _read(change_memory=lambda x: x, change_text=lambda x: x):
    """The text encoder with another memory, or that makes another one."""

    def make(real):
        def call(self, tokens, *, memory=None, **fields):
            if memory is not None:
                memory = change_memory(memory)
            return change_text(real(self, tokens, memory=memory, **fields))

        return call

    return make


CALL = (transformer.TransformerEncoder, "__call__")
bug("the question sees the next row's picture", READERS, CALL)(
    _read(change_memory=lambda x: x.replace(values=jnp.roll(x.values, 1, axis=0)))
)
bug("the padding of a question is seen", READERS, CALL)(
    _read(change_text=lambda x: x.replace(mask=jnp.ones_like(x.mask)))
)


@bug("a picture's vectors see only those before them", READERS, (transformer, "prefix_mask"))
def _(real):
    return lambda before, length: attention.causal_mask(before + length)


@bug("the words do not see the picture", READERS, (transformer, "prefix_mask"))
def _(real):
    return lambda before, length: real(before, length).at[..., before:, :before].set(False)


@bug("the words see those behind them", READERS, (transformer, "prefix_mask"))
def _(real):
    return lambda before, length: real(before, length).at[..., before:, before:].set(True)


@bug(
    "the text's positions go on behind the picture",
    READERS,
    (transformer.TransformerDecoder, "_embedded"),
)
def _(real):
    def embedded(self, tokens, places, memory, *arguments, **fields):
        before = memory.mask.shape[1] if self.prefix else 0
        return real(self, tokens, places + before, memory, *arguments, **fields)

    return embedded


@bug("the loss of GIT is shifted twice", READERS, (generation, "shift"))
def _(real):
    def shift(batch):
        inputs, labels, mask = real(batch)
        return inputs[:, :-1], labels[:, 1:], mask[:, 1:]

    return shift


# ---- GPT-2


bug("GPT-2's words are multiplied by sqrt(width)", WRITERS, (gpt2, "Form"))(_with(scale_words=True))


@bug("one matrix of query, key and value is read the other way round", WRITERS, (gpt2, "_fused"))
def _(real):
    return lambda parts, *arguments: real(parts[::-1] if len(parts) == 3 else parts, *arguments)


@bug("GPT-2 looks at a picture with values for keys", WRITERS, (gpt2, "_fused"))
def _(real):
    return lambda parts, *arguments: real(parts[::-1] if len(parts) == 2 else parts, *arguments)


@bug("GPT-2's matrices are kept as [out in]", WRITERS, (gpt2, "_output"))
def _(real):
    def output(*arguments):
        for place in real(*arguments):
            turned = getattr(place, "transposed", False)
            yield dataclasses.replace(place, transposed=False) if turned else place

    return output


# ---- today's language models


@bug("rotary turns neighbours", WRITERS, (attention, "rotary"))
def _(real):
    def rotary(x, positions, **fields):
        halves = jnp.concatenate([x[..., ::2], x[..., 1::2]], axis=-1)
        turned = real(halves, positions, **fields)
        first, second = jnp.split(turned, 2, axis=-1)
        return jnp.stack([first, second], axis=-1).reshape(x.shape)

    return rotary


bug("rotary has always the same base", WRITERS, (llama, "Rotary"))(_with(base=10000.0))
bug("Llama 3's long waves are not slowed", WRITERS, (llama, "Llama3Scaling"))(
    lambda real: lambda **fields: None
)


@bug("the gate takes the other's place", WRITERS, (llama, "gated_mlp"))
def _(real):
    def gated_mlp(*arguments):
        places = list(real(*arguments))
        names = {"mlp/gate/kernel": "mlp/hidden_layer/kernel"}
        names |= {theirs: ours for ours, theirs in names.items()}
        return [
            dataclasses.replace(place, ours=tuple(names.get(n, n) for n in place.ours))
            for place in places
        ]

    return gated_mlp


bug("a window sees one more", WRITERS, (transformer, "window_mask"))(
    lambda real: lambda queries, keys, window: real(queries, keys, window + 1)
)
bug("no window at all", WRITERS, (transformer, "window_mask"))(
    lambda real: lambda *arguments: jnp.ones_like(real(*arguments))
)
bug("scores have no soft cap", WRITERS, (attention, "soft_capped"))(lambda real: lambda x, cap: x)
bug("logits have no soft cap", WRITERS, (transformer, "soft_capped"))(lambda real: lambda x, cap: x)
bug("Gemma's norms multiply by their scale", WRITERS, (gemma, "RMSNorm"))(_with(offset=0.0))
bug("Gemma's words keep their length", WRITERS, (gemma, "Form"))(_with(scale_words=False))
bug("Gemma's queries are divided by sqrt of the head", WRITERS, (gemma, "Form"))(_with(scale=None))
bug("T5's scores are divided by sqrt of the head", WRITERS, (t5, "Form"))(_with(scale=None))
bug("T5's words are scored without the factor", WRITERS, (t5, "Form"))(_with(output_scale=1.0))
bug("T5 reads with the writer's buckets", WRITERS, (transformer, "RelativePositions"))(
    _with(causal=True)
)
bug("a prompt is read from the left alone", WRITERS, (transformer, "in_prompt"))(
    lambda real: lambda tokens, end: jnp.zeros_like(real(tokens, end))
)
bug("a prompt's line break is outside", WRITERS, (transformer, "in_prompt"))(
    lambda real: lambda tokens, end: real(tokens, end) & (tokens != end)
)


@bug("squares are put together column by column", WRITERS, (projection, "merged"))
def _(real):
    def merged(x, merge, side):
        turned = x.reshape(len(x), -1, side, side, x.shape[2]).swapaxes(2, 3)
        return real(turned.reshape(x.shape), merge, side)

    return merged


bug("squares that are not there are read", WRITERS, (tiled, "present"))(
    lambda real: lambda image: jnp.ones_like(real(image))
)


ROOMS = {
    READERS: Room(checks.READERS, checks.folders),
    WRITERS: Room(checks.WRITERS, checks.folders),
}
