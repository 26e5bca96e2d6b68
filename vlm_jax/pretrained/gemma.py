"""Gemma (Gemma Team 2024, arXiv 2403.08295), Gemma 2 (arXiv 2408.00118) and the text of Gemma 3 (2025, arXiv 2503.19786).

The scale of their norms is kept as its difference from 1, for all but the word vectors times sqrt(width) nothing else
differs from Llama in the first; the second norms before and after every part, bends its scores by soft caps and lets
every other block see a window only; the third norms queries and keys instead of the caps, and has five such blocks in
six, which turn queries and keys at a base of their own.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vlm_jax.language.transformer import Form, Layer, TransformerDecoder
from vlm_jax.layers.norm import RMSNorm
from vlm_jax.layers.positions import Rotary
from vlm_jax.models.generator import Generator
from vlm_jax.pretrained import llama
from vlm_jax.pretrained.places import Place, Same, TokenRows, below
from vlm_jax.pretrained.settings import ACTIVATIONS, Family, Settings

# What a file that leaves them out means: width, blocks, heads, heads of keys, hidden units.
FIRST = (3072, 28, 16, 16, 24576)
SECOND = (2304, 26, 8, 4, 9216)
WINDOW = {"sliding_attention": True, "full_attention": False}


def read(settings: Settings) -> Family:
    """A language model: logits of the token after each of batch["target"]."""
    return _language_model(settings, first, rows(settings))


def read_second(settings: Settings) -> Family:
    return _language_model(settings, second, rows(settings))


def read_third(settings: Settings) -> Family:
    return _language_model(settings, third, rows(settings, 262_208))


READERS = {
    "GemmaForCausalLM": read,
    "Gemma2ForCausalLM": read_second,
    "Gemma3ForCausalLM": read_third,
}


def rows(settings: Settings, number: int = 256_000) -> TokenRows:
    return settings.token_rows(settings.integer("vocab_size", number))


def first(settings: Settings, rows: TokenRows, **fields) -> TransformerDecoder:
    """GemmaForCausalLM's decoder."""
    layers = (Layer(rotary=llama.rotary(settings)),)
    return _decoder(settings, rows, FIRST, Form(**_form(settings)), layers, **fields)


def second(settings: Settings, rows: TokenRows, **fields) -> TransformerDecoder:
    """Gemma2ForCausalLM's decoder."""
    form = Form(
        **_form(settings),
        scale=settings.number("query_pre_attn_scalar", 256.0) ** -0.5,
        soft_cap=_cap(settings, "attn_logit_softcapping", 50.0),
        final_soft_cap=_cap(settings, "final_logit_softcapping", 30.0),
        sandwich=True,
    )
    turned = llama.rotary(settings)
    layers = _layers(settings, 2, turned, turned)
    return _decoder(settings, rows, SECOND, form, layers, **fields)


def third(settings: Settings, rows: TokenRows, **fields) -> TransformerDecoder:
    """Gemma3ForCausalLM's decoder."""
    settings.expect("attn_logit_softcapping", None)
    settings.expect("use_bidirectional_attention", False)
    form = Form(
        **_form(settings),
        scale=settings.number("query_pre_attn_scalar", 256.0) ** -0.5,
        final_soft_cap=settings.number("final_logit_softcapping", None),
        query_key_norm=_norm(settings),
        sandwich=True,
    )
    near = Rotary(base=settings.number("rope_local_base_freq", 10_000.0))
    if settings.has("rope_parameters") and settings.inner("rope_parameters").has("full_attention"):
        kinds = settings.inner("rope_parameters")
        far = llama.rotary_of(kinds.inner("full_attention"), 1e6)
        near = llama.rotary_of(kinds.inner("sliding_attention"))
    else:
        far = llama.rotary(settings, base=1e6)
    return _decoder(settings, rows, SECOND, form, _layers(settings, 6, near, far), **fields)


def _form(settings: Settings) -> dict:
    settings.expect("attention_bias", False)
    return {
        "head_width": settings.integer("head_dim", 256),
        "use_bias": False,
        "gated": True,
        "add_places": False,
        "output_bias": False,
    }


def _layers(settings: Settings, period: int, near: Rotary, far: Rotary) -> tuple[Layer, ...]:
    """Every `period`-th block sees everything, unless layer_types says which."""
    number = settings.integer("num_hidden_layers", SECOND[1])
    period = settings.integer("sliding_window_pattern", period)
    kinds = settings.words("layer_types")
    local = [(i + 1) % period > 0 for i in range(number)]
    if kinds:
        local = [WINDOW.get(kind) for kind in kinds]
    if len(local) != number or None in local:
        raise ValueError(
            f"config.json: layer_types are {list(kinds)}, expected {number} of {', '.join(WINDOW)}"
        )
    window = settings.integer("sliding_window", 4096)
    layers = (Layer(window=window, rotary=near), Layer(rotary=far))
    return tuple(layers[0] if each else layers[1] for each in local)


def _decoder(
    settings: Settings, rows: TokenRows, sizes, form: Form, layers, **fields
) -> TransformerDecoder:
    settings.expect("tie_word_embeddings", True)
    activation = "hidden_activation" if settings.has("hidden_activation") else "hidden_act"
    # The first files say "gelu" and mean the approximation by tanh, as their authors' code has it.
    chosen = settings.choice(activation, {**ACTIVATIONS, "gelu": jax.nn.gelu}, "gelu_pytorch_tanh")
    width, num_layers, heads, kv_heads, hidden = sizes
    return TransformerDecoder(
        vocab_size=len(rows.ids),
        width=settings.integer("hidden_size", width),
        num_layers=settings.integer("num_hidden_layers", num_layers),
        num_heads=settings.integer("num_attention_heads", heads),
        num_kv_heads=settings.integer("num_key_value_heads", kv_heads),
        hidden=settings.integer("intermediate_size", hidden),
        activation=chosen,
        norm=_norm(settings),
        attention_dropout_rate=settings.number("attention_dropout", 0.0),
        form=form,
        layers=layers,
        unscored=rows.unscored,
        **fields,
    )


def _language_model(
    settings: Settings, make: Callable[..., TransformerDecoder], rows: TokenRows
) -> Family:
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    decoder = make(settings, rows)
    found = below(places(decoder, rows), ours="decoder/")
    return Family(Generator(decoder=decoder), found, ({"target": tokens},))


def places(
    decoder: TransformerDecoder, rows: TokenRows, *, base: str = "model."
) -> tuple[Place, ...]:
    """Of the decoder, as the three name their tensors."""
    found = [*llama.vocabulary(decoder, rows, base), _scale("norm", f"{base}norm")]
    after = "pre_feedforward_layernorm" if decoder.form.sandwich else "post_attention_layernorm"
    for i in range(decoder.num_layers):
        block = [
            _scale("self_attention_norm", "input_layernorm"),
            *llama.self_attention(decoder),
            _scale("mlp_norm", after),
            *llama.gated_mlp(),
        ]
        if decoder.form.sandwich:
            block += [
                _scale("self_attention_norm_after", "post_attention_layernorm"),
                _scale("mlp_norm_after", "post_feedforward_layernorm"),
            ]
        if decoder.form.query_key_norm is not None:
            block += [
                _scale("self_attention/query_norm", "self_attn.q_norm"),
                _scale("self_attention/key_norm", "self_attn.k_norm"),
            ]
        found += below(block, f"blocks_{i}/", f"{base}layers.{i}.")
    return tuple(found)


def _cap(settings: Settings, key: str, default: float) -> float | None:
    """A file that leaves it out means the default, null means none."""
    return settings.number(key, None if settings.is_null(key) else default)


def _norm(settings: Settings) -> RMSNorm:
    return RMSNorm(epsilon=settings.number("rms_norm_eps", 1e-6), offset=1.0)


def _scale(ours: str, theirs: str) -> Place:
    return Same(ours=f"{ours}/scale", theirs=f"{theirs}.weight")
