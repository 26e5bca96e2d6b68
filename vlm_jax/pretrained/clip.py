"""CLIP (Radford et al. 2021): CLIPModel, both towers, and CLIPVisionModel.

A text is read up to its end: its vector is that of the last real token, EOS, which the tokenizer has to put there.
"""

import jax
import jax.numpy as jnp

from vlm_jax.language.transformer import Form, TransformerEncoder
from vlm_jax.layers.norm import LayerNorm
from vlm_jax.layers.pooling import first_pool, last_pool
from vlm_jax.models.two_tower import TwoTower
from vlm_jax.pretrained import clip_vision
from vlm_jax.pretrained.places import Linear, Place, Rows, Same, TokenRows, Unused, below, norm
from vlm_jax.pretrained.settings import ACTIVATIONS, Family, Settings, image


def read_model(settings: Settings) -> Family:
    """Both towers: batch["image"] and batch["text"] to vectors of length 1 and the scale of their products."""
    vision, text = settings.inner("vision_config"), settings.inner("text_config")
    rows = text.token_rows(text.integer("vocab_size", 49408))
    model = TwoTower(
        image_encoder=clip_vision.clip(vision, keep_class_token=True),
        text_encoder=text_encoder(text, rows, (512, 8, 2048, 77), "quick_gelu", 1e-5, causal=True),
        width=settings.integer("projection_dim", 512),
        image_pooling=first_pool,
        text_pooling=last_pool,
    )
    found = (
        *below(clip_vision.clip_places(model.image_encoder), "image_encoder/", "vision_model."),
        *below(text_places(model.text_encoder, rows), "text_encoder/", "text_model."),
        Linear(ours="image_projection/kernel", theirs="visual_projection.weight"),
        Linear(ours="text_projection/kernel", theirs="text_projection.weight"),
        Same(ours="log_scale", theirs="logit_scale"),
    )
    return Family(model, found, (example(vision),))


def read_vision(settings: Settings) -> Family:
    """The vision tower alone, all its tokens normed, the class token first."""
    encoder = clip_vision.clip(settings, keep_class_token=True)
    found = below(clip_vision.clip_places(encoder), theirs="vision_model.")
    return Family(encoder, found, (image(settings),), older=clip_vision.FLAT)


READERS = {"CLIPModel": read_model, "CLIPVisionModel": read_vision}


def example(vision: Settings, size: int = 224) -> dict[str, jax.ShapeDtypeStruct]:
    """A batch of both towers as shapes."""
    return {"image": image(vision, size), "text": jax.ShapeDtypeStruct((1, 4), jnp.int32)}


def text_encoder(
    settings: Settings,
    rows: TokenRows,
    sizes: tuple[int, int, int, int],
    activation: str,
    epsilon: float,
    **fields,
) -> TransformerEncoder:
    """The text tower of CLIP and SigLIP. The width, heads, hidden units and length in `sizes`, the activation and the
    norm's epsilon are what a file that leaves them out means."""
    width, num_heads, hidden, length = sizes
    return TransformerEncoder(
        vocab_size=len(rows.ids),
        width=settings.integer("hidden_size", width),
        num_layers=settings.integer("num_hidden_layers", 12),
        num_heads=settings.integer("num_attention_heads", num_heads),
        hidden=settings.integer("intermediate_size", hidden),
        max_length=settings.integer("max_position_embeddings", length),
        attention_dropout_rate=settings.number("attention_dropout", 0.0),
        activation=settings.choice("hidden_act", ACTIVATIONS, activation),
        norm=LayerNorm(epsilon=settings.number("layer_norm_eps", epsilon)),
        form=Form(scale_words=False),
        **fields,
    )


def text_places(encoder: TransformerEncoder, rows: TokenRows) -> tuple[Place, ...]:
    """Of the text tower, as CLIP and SigLIP name its tensors."""
    words = "embeddings.token_embedding.weight"
    found = [
        Rows(ours="embedding/words/table", theirs=words, **rows.fields),
        Same(ours="embedding/places/table", theirs="embeddings.position_embedding.weight"),
        Unused(theirs="embeddings.position_ids"),
    ]
    for i in range(encoder.num_layers):
        places = clip_vision.block(encoder.num_heads, "self_attention")
        found += below(places, f"block_{i}/", f"encoder.layers.{i}.")
    return (*found, *norm("norm", "final_layer_norm"))
