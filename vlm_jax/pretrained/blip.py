"""BLIP (Li et al. 2022, arXiv 2201.12086): BlipForConditionalGeneration, BlipForQuestionAnswering.

A ViT whose class token is seen too, and BERT with cross-attention, once over the question and once as what writes. What is
written begins with a token of its own, "[DEC]", which is BOS there; a question is BOS ... EOS as BERT has it, from "[CLS]"
to "[SEP]".
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from vlm_jax.language.transformer import Form, TransformerDecoder, TransformerEncoder
from vlm_jax.layers.norm import LayerNorm
from vlm_jax.models.generator import Generator
from vlm_jax.pretrained import bert
from vlm_jax.pretrained.places import (
    HeadsOut,
    Place,
    Same,
    Single,
    TokenRows,
    below,
    convolution,
    fused,
    linear,
    norm,
)
from vlm_jax.pretrained.settings import ACTIVATIONS, Family, Settings
from vlm_jax.types import BOS, EOS
from vlm_jax.vision.vit import Vit


def read_captioner(settings: Settings) -> Family:
    """Writes batch["target"] about batch["image"]."""
    return _read(settings, is_asked=False)


def read_answerer(settings: Settings) -> Family:
    """Writes batch["target"] about the question batch["text"] and batch["image"]."""
    return _read(settings, is_asked=True)


READERS = {
    "BlipForConditionalGeneration": read_captioner,
    "BlipForQuestionAnswering": read_answerer,
}


def _read(settings: Settings, is_asked: bool) -> Family:
    seen, text = settings.inner("vision_config"), settings.inner("text_config")
    settings.expect("tie_word_embeddings", True)
    text.expect("is_decoder", True)
    encoder = _vit(seen)
    number, end = text.integer("vocab_size", 30524), text.integer("sep_token_id", 102)
    asked = text.token_rows(number).with_roles({EOS: end})
    rows = asked.with_roles({BOS: text.integer("bos_token_id", 30522)})
    sizes = bert.sizes(text, rows, num_heads=8, dropout_rate=0.0)
    form = {"norm_words": True, "scale_words": False}
    decoder = TransformerDecoder(
        **sizes, form=Form(**form, head_layer=True), unscored=rows.unscored
    )
    places = [
        *below(_vit_places(encoder), "image_encoder/", "vision_model."),
        *below(_decoder_places(decoder, rows), "decoder/", "text_decoder."),
    ]
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    image = jax.ShapeDtypeStruct((1, *encoder.image_size, 3), jnp.float32)
    batch = {"image": image, "target": tokens}
    reader = None
    if is_asked:
        reader, batch["text"] = TransformerEncoder(**sizes, form=Form(**form)), tokens
        found = bert.encoder_places(reader, asked, reads=True)
        places += below(found, "text_encoder/", "text_encoder.")
    model = Generator(
        image_encoder=encoder, text_encoder=reader, decoder=decoder, text_reads_image=is_asked
    )
    return Family(model, tuple(places), (batch,))


def _decoder_places(decoder: TransformerDecoder, rows: TokenRows) -> Iterator[Place]:
    yield from bert.decoder_places(decoder, rows, "bert.", reads=True)
    yield from bert.head_places(rows, "cls.predictions", "bert.")


def _vit(settings: Settings) -> Vit:
    return Vit(
        width=settings.integer("hidden_size", 768),
        num_layers=settings.integer("num_hidden_layers", 12),
        num_heads=settings.integer("num_attention_heads", 12),
        hidden=settings.integer("intermediate_size", 3072),
        image_size=settings.size("image_size", 384),
        patch_size=settings.integer("patch_size", 16),
        activation=settings.choice("hidden_act", ACTIVATIONS, "gelu"),
        norm=LayerNorm(epsilon=settings.number("layer_norm_eps", 1e-5)),
        keep_class_token=True,
    )


def _vit_places(vit: Vit) -> tuple[Place, ...]:
    """As BlipVisionModel names its tensors."""
    found = [
        Same(ours="class_token", theirs="embeddings.class_embedding"),
        Single(ours="positions/positions", theirs="embeddings.position_embedding"),
        *convolution("patches", "embeddings.patch_embedding"),
        *norm("norm", "post_layernorm"),
    ]
    inside = tuple(_vit_block(vit.num_heads))
    for i in range(vit.num_layers):
        found += below(inside, f"block_{i}/", f"encoder.layers.{i}.")
    return tuple(found)


def _vit_block(heads: int) -> Iterator[Place]:
    yield from norm("attention_norm", "layer_norm1")
    yield from fused("attention", "self_attn.qkv.weight", "self_attn.qkv.bias", heads)
    output = {"ours": "attention/output/kernel", "theirs": "self_attn.projection.weight"}
    yield HeadsOut(**output, num_heads=heads)
    yield Same(ours="attention/output/bias", theirs="self_attn.projection.bias")
    yield from norm("mlp_norm", "layer_norm2")
    yield from linear("mlp/hidden_layer", "mlp.fc1")
    yield from linear("mlp/output_layer", "mlp.fc2")
