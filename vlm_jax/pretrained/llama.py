"""Llama (Touvron et al. 2023, arXiv 2302.13971; Dubey et al. 2024, arXiv 2407.21783): LlamaForCausalLM."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from vlm_jax.language.transformer import Form, Layer, TransformerDecoder
from vlm_jax.layers.norm import RMSNorm
from vlm_jax.layers.positions import Llama3Scaling, Rotary
from vlm_jax.models.generator import Generator
from vlm_jax.pretrained.places import (
    Place,
    Rows,
    Tied,
    TokenRows,
    Unused,
    attention,
    below,
    linear,
    norm,
)
from vlm_jax.pretrained.settings import ACTIVATIONS, Family, Settings


def read(settings: Settings) -> Family:
    """A language model: logits of the token after each of batch["target"]."""
    rows = settings.token_rows(settings.integer("vocab_size", 32000))
    model = Generator(decoder=decoder(settings, rows))
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    found = below(places(model.decoder, rows), ours="decoder/")
    return Family(model, found, ({"target": tokens},))


READERS = {"LlamaForCausalLM": read}


def decoder(settings: Settings, rows: TokenRows, **fields) -> TransformerDecoder:
    bias = settings.flag("attention_bias", False)
    settings.expect("mlp_bias", bias, False)
    heads = settings.integer("num_attention_heads", 32)
    form = Form(
        head_width=settings.integer("head_dim", None),
        use_bias=bias,
        gated=True,
        scale_words=False,
        add_places=False,
        output_bias=False,
    )
    return TransformerDecoder(
        vocab_size=len(rows.ids),
        width=settings.integer("hidden_size", 4096),
        num_layers=settings.integer("num_hidden_layers", 32),
        num_heads=heads,
        num_kv_heads=settings.integer("num_key_value_heads", None) or heads,
        hidden=settings.integer("intermediate_size", 11008),
        activation=settings.choice("hidden_act", ACTIVATIONS, "silu"),
        norm=RMSNorm(epsilon=settings.number("rms_norm_eps", 1e-6)),
        attention_dropout_rate=settings.number("attention_dropout", 0.0),
        tied=settings.flag("tie_word_embeddings", False),
        form=form,
        layers=(Layer(rotary=rotary(settings)),),
        unscored=rows.unscored,
        **fields,
    )


def rotary(settings: Settings, base: float = 10000.0) -> Rotary:
    """Of rope_theta and rope_scaling, or of rope_parameters, which newer files have for both."""
    base = settings.number("rope_theta", base)
    for name in ("rope_parameters", "rope_scaling"):
        if settings.has(name):
            return rotary_of(settings.inner(name), base)
    return Rotary(base=base)


def rotary_of(inner: Settings, base: float = 10000.0) -> Rotary:
    base = inner.number("rope_theta", base)
    older = "rope_type" if inner.has("rope_type") else "type"
    kind = inner.choice(older, {name: name for name in ("default", "linear", "llama3")}, "default")
    if kind == "default":
        return Rotary(base=base)
    factor = inner.number("factor")
    if kind == "linear":
        return Rotary(base=base, factor=factor)
    scaling = Llama3Scaling(
        factor=factor,
        original_length=inner.integer("original_max_position_embeddings"),
        low=inner.number("low_freq_factor", 1.0),
        high=inner.number("high_freq_factor", 4.0),
    )
    return Rotary(base=base, scaling=scaling)


def places(
    decoder: TransformerDecoder, rows: TokenRows, *, base: str = "model."
) -> tuple[Place, ...]:
    """Of the decoder, as LlamaForCausalLM names its tensors."""
    bias = decoder.form.use_bias
    found = [*vocabulary(decoder, rows, base), *norm("norm", f"{base}norm", bias=False)]
    for i in range(decoder.num_layers):
        block = [
            *norm("self_attention_norm", "input_layernorm", bias=False),
            *self_attention(decoder),
            *norm("mlp_norm", "post_attention_layernorm", bias=False),
            *gated_mlp(bias),
            Unused(theirs="self_attn.rotary_emb.inv_freq"),
        ]
        found += below(block, f"blocks_{i}/", f"{base}layers.{i}.")
    return tuple(found)


def vocabulary(decoder: TransformerDecoder, rows: TokenRows, base: str) -> Iterator[Place]:
    """Word vectors, and the scores of words, which may be the same table."""
    table = f"{base}embed_tokens.weight"
    yield Rows(ours="embedding/words/table", theirs=table, **rows.fields)
    if decoder.tied:
        yield Tied(theirs="lm_head.weight", to=table)
    else:
        kernel = "vocabulary/linear/kernel"
        yield Rows(ours=kernel, theirs="lm_head.weight", **rows.fields, transposed=True)


def self_attention(decoder: TransformerDecoder) -> Iterator[Place]:
    return attention(
        "self_attention",
        "self_attn",
        decoder.num_heads,
        decoder.num_kv_heads,
        names=("q_proj", "k_proj", "v_proj", "o_proj"),
        bias=decoder.form.use_bias,
    )


def gated_mlp(bias: bool = False) -> Iterator[Place]:
    for ours, theirs in (("gate", "gate"), ("hidden_layer", "up"), ("output_layer", "down")):
        yield from linear(f"mlp/{ours}", f"mlp.{theirs}_proj", bias=bias)
