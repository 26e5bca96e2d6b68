"""CLIP (Radford et al. 2021): CLIPModel, both towers, and CLIPVisionModel.

A text is read up to its end: its vector is that of the last real token, EOS, which the tokenizer has to put there.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from vlm_jax.language.transformer import Form, TransformerEncoder
from vlm_jax.layers.norm import LayerNorm
from vlm_jax.layers.pooling import first_pool, last_pool
from vlm_jax.models.two_tower import TwoTower
from vlm_jax.pretrained.places import (
    Linear,
    Place,
    Rows,
    Same,
    Token,
    TokenRows,
    Unused,
    attention,
    below,
    convolution,
    linear,
    norm,
)
from vlm_jax.pretrained.settings import ACTIVATIONS, Family, Settings, image
from vlm_jax.vision.vit import Vit


def read_model(settings: Settings) -> Family:
    """Both towers: batch["image"] and batch["text"] to vectors of length 1 and the scale of their products."""
    vision, text = settings.inner("vision_config"), settings.inner("text_config")
    rows = text.token_rows(text.integer("vocab_size", 49408))
    model = TwoTower(
        image_encoder=vision_encoder(vision),
        text_encoder=text_encoder(text, rows),
        width=settings.integer("projection_dim", 512),
        image_pooling=first_pool,
        text_pooling=last_pool,
    )
    found = (
        *below(vision_places(model.image_encoder), "image_encoder/", "vision_model."),
        *below(text_places(model.text_encoder, rows), "text_encoder/", "text_model."),
        Linear(ours="image_projection/kernel", theirs="visual_projection.weight"),
        Linear(ours="text_projection/kernel", theirs="text_projection.weight"),
        Same(ours="log_scale", theirs="logit_scale"),
    )
    return Family(model, found, (example(vision),))


def read_vision(settings: Settings) -> Family:
    """The vision tower alone, all its tokens normed, the class token first."""
    encoder = vision_encoder(settings)
    found = below(vision_places(encoder), theirs="vision_model.")
    return Family(encoder, found, (image(settings),))


READERS = {"CLIPModel": read_model, "CLIPVisionModel": read_vision}


def example(vision: Settings, size: int = 224) -> dict[str, jax.ShapeDtypeStruct]:
    """A batch of both towers as shapes."""
    return {"image": image(vision, size), "text": jax.ShapeDtypeStruct((1, 4), jnp.int32)}


def vision_encoder(settings: Settings, **fields) -> Vit:
    return Vit(
        width=settings.integer("hidden_size", 768),
        num_layers=settings.integer("num_hidden_layers", 12),
        num_heads=settings.integer("num_attention_heads", 12),
        hidden=settings.integer("intermediate_size", 3072),
        patch_size=settings.integer("patch_size", 32),
        image_size=settings.size("image_size", 224),
        activation=settings.choice("hidden_act", ACTIVATIONS, "quick_gelu"),
        norm=LayerNorm(epsilon=settings.number("layer_norm_eps", 1e-5)),
        **{"keep_class_token": True, "embedding_norm": True, "patch_bias": False} | fields,
    )


def text_encoder(settings: Settings, rows: TokenRows) -> TransformerEncoder:
    return TransformerEncoder(
        vocab_size=len(rows.ids),
        width=settings.integer("hidden_size", 512),
        num_layers=settings.integer("num_hidden_layers", 12),
        num_heads=settings.integer("num_attention_heads", 8),
        hidden=settings.integer("intermediate_size", 2048),
        max_length=settings.integer("max_position_embeddings", 77),
        attention_dropout_rate=settings.number("attention_dropout", 0.0),
        activation=settings.choice("hidden_act", ACTIVATIONS, "quick_gelu"),
        norm=LayerNorm(epsilon=settings.number("layer_norm_eps", 1e-5)),
        form=Form(scale_words=False),
        causal=True,
    )


def vision_places(encoder: Vit) -> tuple[Place, ...]:
    """Of the vision tower, as CLIP and SigLIP name its tensors; what the encoder does without has none."""
    found = [
        *convolution("patches", "embeddings.patch_embedding", bias=encoder.patch_bias),
        Same(ours="positions/positions", theirs="embeddings.position_embedding.weight"),
        Unused(theirs="embeddings.position_ids"),
    ]
    if encoder.class_token:
        found.append(Token(ours="class_token", theirs="embeddings.class_embedding"))
    if encoder.embedding_norm:
        found += norm("embedding_norm", "pre_layrnorm")  # as it is spelled there
    for i in range(encoder.num_layers):
        found += below(block("attention", encoder.num_heads), f"block_{i}/", f"encoder.layers.{i}.")
    return (*found, *norm("norm", "post_layernorm"))


def text_places(encoder: TransformerEncoder, rows: TokenRows) -> tuple[Place, ...]:
    """Of the text tower, as CLIP and SigLIP name its tensors."""
    words = "embeddings.token_embedding.weight"
    found = [
        Rows(ours="embedding/words/table", theirs=words, **rows.fields),
        Same(ours="embedding/places/table", theirs="embeddings.position_embedding.weight"),
        Unused(theirs="embeddings.position_ids"),
    ]
    for i in range(encoder.num_layers):
        places = block("self_attention", encoder.num_heads)
        found += below(places, f"block_{i}/", f"encoder.layers.{i}.")
    return (*found, *norm("norm", "final_layer_norm"))


def block(name: str, num_heads: int) -> Iterator[Place]:
    """One block of either tower; `name` is what its attention is called with us."""
    yield from norm(f"{name}_norm", "layer_norm1")
    yield from attention(name, "self_attn", num_heads)
    yield from norm("mlp_norm", "layer_norm2")
    yield from linear("mlp/hidden_layer", "mlp.fc1")
    yield from linear("mlp/output_layer", "mlp.fc2")
