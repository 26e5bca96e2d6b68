"""T5 (Raffel et al. 2020, arXiv 1910.10683) and its version 1.1: T5ForConditionalGeneration.

Its decoder begins with the padding token; here BOS has that token's vector.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vlm_jax.language.transformer import Form, TransformerDecoder, TransformerEncoder
from vlm_jax.layers.activations import exact_gelu
from vlm_jax.layers.norm import RMSNorm
from vlm_jax.models.generator import Generator
from vlm_jax.pretrained.places import (
    Place,
    Rows,
    Same,
    Tied,
    TokenRows,
    Unused,
    attention,
    below,
    linear,
    norm,
)
from vlm_jax.pretrained.settings import Family, Settings
from vlm_jax.types import BOS, PAD

# feed_forward_proj: (activation, gated)
FEED_FORWARD = {
    "relu": (nn.relu, False),
    "gated-gelu": (nn.gelu, True),
    "gelu": (exact_gelu, False),
}
NAMES = ("q", "k", "v", "o")


def read(settings: Settings) -> Family:
    """Reads batch["text"], writes batch["target"]."""
    rows = settings.token_rows(settings.integer("vocab_size", 32128), like=((BOS, PAD),))
    activation, gated = settings.choice("feed_forward_proj", FEED_FORWARD, "relu")
    settings.expect("relative_attention_max_distance", 128)
    tied = settings.flag("tie_word_embeddings", True)
    form = Form(
        head_width=settings.integer("d_kv", 64),
        use_bias=False,
        scale=1.0,
        gated=gated,
        scale_words=False,
        add_places=False,
        output_bias=False,
        output_scale=settings.integer("d_model", 512) ** -0.5 if tied else 1.0,
    )
    layers = settings.integer("num_layers", 6)
    sizes = {
        "vocab_size": len(rows.ids),
        "width": settings.integer("d_model", 512),
        "num_heads": settings.integer("num_heads", 8),
        "hidden": settings.integer("d_ff", 2048),
        "activation": activation,
        "norm": RMSNorm(epsilon=settings.number("layer_norm_epsilon", 1e-6)),
        "dropout_rate": settings.number("dropout_rate", 0.1),
        "relative": settings.integer("relative_attention_num_buckets", 32),
        "form": form,
    }
    decoder = TransformerDecoder(
        **sizes,
        num_layers=settings.integer("num_decoder_layers", None) or layers,
        tied=tied,
        unscored=rows.unscored,
    )
    encoder = TransformerEncoder(**sizes, num_layers=layers)
    model = Generator(decoder=decoder, text_encoder=encoder, joint_embedding=True)
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    return Family(model, places(model, rows), ({"text": tokens, "target": tokens},))


READERS = {"T5ForConditionalGeneration": read}


def places(model: Generator, rows: TokenRows) -> tuple[Place, ...]:
    """Of both sides, as T5ForConditionalGeneration names its tensors."""
    decoder, encoder = model.decoder, model.text_encoder
    heads = decoder.num_heads
    found = [
        Rows(ours="decoder/embedding/words/table", theirs="shared.weight", **rows.fields),
        Tied(theirs="encoder.embed_tokens.weight", to="shared.weight"),
        Tied(theirs="decoder.embed_tokens.weight", to="shared.weight"),
        *_relative("text_encoder/relative", "encoder"),
        *_relative("decoder/relative_positions", "decoder"),
        # The first files have a table that cross-attention does not use.
        Unused(
            theirs="decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
        ),
        *norm("text_encoder/norm", "encoder.final_layer_norm", bias=False),
        *norm("decoder/norm", "decoder.final_layer_norm", bias=False),
    ]
    if decoder.tied:
        found.append(Tied(theirs="lm_head.weight", to="shared.weight"))
    else:
        kernel = "decoder/vocabulary/linear/kernel"
        found.append(Rows(ours=kernel, theirs="lm_head.weight", **rows.fields, transposed=True))
    for i in range(encoder.num_layers):
        block = [*_attention("self_attention", 0, "SelfAttention", heads), *_mlp(decoder.form, 1)]
        found += below(block, f"text_encoder/block_{i}/", f"encoder.block.{i}.layer.")
    for i in range(decoder.num_layers):
        block = [
            *_attention("self_attention", 0, "SelfAttention", heads),
            *_attention("cross_attention", 1, "EncDecAttention", heads),
            *_mlp(decoder.form, 2),
        ]
        found += below(block, f"decoder/blocks_{i}/", f"decoder.block.{i}.layer.")
    return tuple(found)


def _relative(ours: str, side: str):
    name = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    yield Same(ours=f"{ours}/table", theirs=name)


def _attention(ours: str, number: int, theirs: str, heads: int):
    yield from norm(f"{ours}_norm", f"{number}.layer_norm", bias=False)
    yield from attention(ours, f"{number}.{theirs}", heads, names=NAMES, bias=False)


def _mlp(form: Form, number: int):
    yield from norm("mlp_norm", f"{number}.layer_norm", bias=False)
    parts = {"hidden_layer": "wi", "output_layer": "wo"}
    if form.gated:
        parts = {"gate": "wi_0", "hidden_layer": "wi_1", "output_layer": "wo"}
    for ours, theirs in parts.items():
        yield from linear(f"mlp/{ours}", f"{number}.DenseReluDense.{theirs}", bias=False)
