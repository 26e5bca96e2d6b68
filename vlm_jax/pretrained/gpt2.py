"""GPT-2 (Radford et al. 2019): GPT2LMHeadModel.

Its file has one token that begins and ends a text, "<|endoftext|>". Here that is EOS; BOS reads as it, trained or not, and is never written.
"""

import jax
import jax.numpy as jnp

from vlm_jax.language.transformer import Form, TransformerDecoder
from vlm_jax.layers.norm import LayerNorm
from vlm_jax.models.generator import Generator
from vlm_jax.pretrained.places import (
    HeadsOut,
    Place,
    Rows,
    Same,
    Tied,
    TokenRows,
    Unused,
    below,
    fused,
    norm,
)
from vlm_jax.pretrained.settings import ACTIVATIONS, Family, Settings
from vlm_jax.types import BOS, EOS, UNK

OLDER = ((r"^transformer\.", ""),)


def read(settings: Settings) -> Family:
    """A language model: logits of the token after each of batch["target"]."""
    rows = vocabulary(settings)
    model = Generator(decoder=decoder(settings, rows))
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    found = below(places(model.decoder, rows), ours="decoder/")
    return Family(model, found, ({"target": tokens},), older=OLDER)


READERS = {"GPT2LMHeadModel": read}


def vocabulary(settings: Settings) -> TokenRows:
    """Rows of the word vectors, BOS and UNK like the file's one special token where it has no others."""
    return settings.token_rows(settings.integer("vocab_size", 50257), like=((BOS, EOS), (UNK, EOS)))


def decoder(settings: Settings, rows: TokenRows, **fields) -> TransformerDecoder:
    settings.expect("scale_attn_weights", True)
    settings.expect("scale_attn_by_inverse_layer_idx", False)
    settings.expect("tie_word_embeddings", True)
    width = settings.integer("n_embd", 768)
    return TransformerDecoder(
        vocab_size=len(rows.ids),
        width=width,
        num_layers=settings.integer("n_layer", 12),
        num_heads=settings.integer("n_head", 12),
        hidden=settings.integer("n_inner", None) or 4 * width,
        max_length=settings.integer("n_positions", 1024),
        activation=settings.choice("activation_function", ACTIVATIONS, "gelu_new"),
        norm=LayerNorm(epsilon=settings.number("layer_norm_epsilon", 1e-5)),
        dropout_rate=settings.number("resid_pdrop", 0.1),
        attention_dropout_rate=settings.number("attn_pdrop", 0.1),
        form=Form(
            scale_words=False,
            output_bias=False,
            bos_like=EOS if BOS in dict(rows.copies) else None,
        ),
        unscored=rows.unscored,
        **fields,
    )


def places(
    decoder: TransformerDecoder, rows: TokenRows, *, reads: bool = False
) -> tuple[Place, ...]:
    """Of the decoder, as GPT2LMHeadModel names its tensors; where it `reads` a memory, with cross-attention. Its linear
    layers are kept as [in out]."""
    found = [
        Rows(ours="embedding/words/table", theirs="transformer.wte.weight", **rows.fields),
        Same(ours="embedding/places/table", theirs="transformer.wpe.weight"),
        *norm("norm", "transformer.ln_f"),
        Tied(theirs="lm_head.weight", to="transformer.wte.weight"),
    ]
    heads = decoder.num_heads
    for i in range(decoder.num_layers):
        block = [
            *norm("self_attention_norm", "ln_1"),
            *_fused(("query", "key", "value"), "self_attention", "attn.c_attn", heads),
            *_output("self_attention", "attn.c_proj", heads),
            *norm("mlp_norm", "ln_2"),
            *_linear("mlp/hidden_layer", "mlp.c_fc"),
            *_linear("mlp/output_layer", "mlp.c_proj"),
            Unused(theirs="attn.bias"),
            Unused(theirs="attn.masked_bias"),
        ]
        if reads:
            block += [
                *norm("cross_attention_norm", "ln_cross_attn"),
                *_fused(("query",), "cross_attention", "crossattention.q_attn", heads),
                *_fused(("key", "value"), "cross_attention", "crossattention.c_attn", heads),
                *_output("cross_attention", "crossattention.c_proj", heads),
                Unused(theirs="crossattention.bias"),
                Unused(theirs="crossattention.masked_bias"),
            ]
        found += below(block, f"blocks_{i}/", f"transformer.h.{i}.")
    return tuple(found)


def _linear(ours: str, theirs: str):
    yield Same(ours=f"{ours}/kernel", theirs=f"{theirs}.weight")
    yield Same(ours=f"{ours}/bias", theirs=f"{theirs}.bias")


def _fused(parts: tuple[str, ...], ours: str, theirs: str, heads: int):
    names = (f"{theirs}.weight", f"{theirs}.bias")
    return fused(ours, *names, heads, parts=parts, transposed=True)


def _output(ours: str, theirs: str, heads: int):
    yield HeadsOut(
        ours=f"{ours}/output/kernel", theirs=f"{theirs}.weight", num_heads=heads, transposed=True
    )
    yield Same(ours=f"{ours}/output/bias", theirs=f"{theirs}.bias")
