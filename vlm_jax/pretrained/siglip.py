"""SigLIP (Zhai et al. 2023) and SigLIP 2 (Tschannen et al. 2025, arXiv 2502.14786): SiglipModel, SiglipVisionModel, and
Siglip2Model, which takes pictures of every shape.

The texts are read at the full length, filled with the token that the model was trained with; the vector of the last
place stands for all. SigLIP 2 of one resolution has Gemma's tokenizer and is otherwise a SiglipModel. Pictures of a
batch have one shape here, in whole patches; there they come as patches with a mask.
"""

import math

from vlm_jax.language.transformer import TransformerEncoder
from vlm_jax.layers.norm import LayerNorm
from vlm_jax.layers.pooling import AttentionPooling, LinearPooling, last_pool
from vlm_jax.models.two_tower import TwoTower
from vlm_jax.pretrained import clip, clip_vision
from vlm_jax.pretrained.places import (
    HeadsOut,
    Patches,
    Place,
    Same,
    Single,
    TokenRows,
    Unused,
    below,
    fused,
    linear,
    norm,
)
from vlm_jax.pretrained.settings import ACTIVATIONS, Family, Settings, image
from vlm_jax.vision.vit import BilinearGrid, Vit

GEMMA = 256_000  # tokens


def read_model(settings: Settings) -> Family:
    """Both towers: batch["image"] and batch["text"] to vectors of length 1, the scale of their products and its bias."""
    encoder = clip_vision.siglip(settings.inner("vision_config"))
    return _two_towers(settings, encoder, clip_vision.siglip_places(encoder))


def read_model_of_any_shape(settings: Settings) -> Family:
    """The same, its positions resized to the grid of each picture, its patches a linear layer."""
    vision = settings.inner("vision_config")
    number = vision.integer("num_patches", 256)
    side = math.isqrt(number)
    if side * side != number:
        raise ValueError(f"config.json: num_patches is {number}, expected those of a square")
    encoder = clip_vision.siglip(vision, positions=BilinearGrid)
    size = (side * encoder.patch_size,) * 2
    patches = Patches(
        ours="patches/kernel", theirs="embeddings.patch_embedding.weight", size=encoder.patch_size
    )
    found = clip_vision.siglip_places(encoder)
    found = tuple(patches if place.ours == patches.ours else place for place in found)
    return _two_towers(settings, encoder.clone(image_size=size), found)


def _two_towers(settings: Settings, encoder: Vit, places: tuple[Place, ...]) -> Family:
    vision, text = settings.inner("vision_config"), settings.inner("text_config")
    vision.expect("vision_use_head", True)
    rows = text.token_rows(text.integer("vocab_size", 32000))
    pooling = vision_pooling(vision)
    width = text.integer("projection_size", text.integer("hidden_size", 768))
    if width != encoder.width:
        raise ValueError(
            f"config.json: texts become {width} numbers and pictures {encoder.width}; expected as many"
        )
    model = TwoTower(
        image_encoder=encoder,
        text_encoder=text_encoder(text, rows),
        width=width,
        image_pooling=pooling,
        text_pooling=LinearPooling(pooling=last_pool, width=width),
        max_scale=math.inf,
        init_bias=-10.0,
        project=False,
    )
    found = (
        *below(places, "image_encoder/", "vision_model."),
        *below(pooling_places(pooling), "image_pooling/", "vision_model.head."),
        *below(clip.text_places(model.text_encoder, rows), "text_encoder/", "text_model."),
        *linear("text_pooling/linear", "text_model.head"),
        Single(ours="log_scale", theirs="logit_scale"),
        Single(ours="bias", theirs="logit_bias"),
    )
    example = {**clip.example(vision), "image": clip_vision.image_of(vision, encoder)}
    return Family(model, found, (example,))


def read_vision(settings: Settings) -> Family:
    """The vision tower alone: a normed vector for each patch. Its pooling is left in the file."""
    encoder = clip_vision.siglip(settings)
    pooling = ()
    if settings.flag("vision_use_head", True):
        pooling = pooling_places(vision_pooling(settings))
    unused = tuple(Unused(theirs=f"head.{name}") for place in pooling for name in place.theirs)
    found = below(clip_vision.siglip_places(encoder) + unused, theirs="vision_model.")
    return Family(encoder, found, (image(settings),), older=clip_vision.FLAT)


READERS = {
    "SiglipModel": read_model,
    "SiglipVisionModel": read_vision,
    "Siglip2Model": read_model_of_any_shape,
}


def vision_pooling(settings: Settings) -> AttentionPooling:
    return AttentionPooling(
        num_heads=settings.integer("num_attention_heads", 12),
        hidden=settings.integer("intermediate_size", 3072),
        activation=settings.choice("hidden_act", ACTIVATIONS, "gelu_pytorch_tanh"),
        norm=LayerNorm(epsilon=settings.number("layer_norm_eps", 1e-6)),
    )


def pooling_places(pooling: AttentionPooling) -> tuple[Place, ...]:
    """Its attention is PyTorch's own, which keeps query, key and value in one."""
    names = ("attention.in_proj_weight", "attention.in_proj_bias")
    found = [
        Same(ours="query", theirs="probe"),
        *fused("attention", *names, pooling.num_heads),
        HeadsOut(
            ours="attention/output/kernel",
            theirs="attention.out_proj.weight",
            num_heads=pooling.num_heads,
        ),
        Same(ours="attention/output/bias", theirs="attention.out_proj.bias"),
        *norm("norm", "layernorm"),
        *linear("mlp/hidden_layer", "mlp.fc1"),
        *linear("mlp/output_layer", "mlp.fc2"),
    ]
    return tuple(found)


def text_encoder(settings: Settings, rows: TokenRows) -> TransformerEncoder:
    number = settings.integer("vocab_size", 32000)
    # SigLIP fills texts with </s>, 1; SigLIP 2's files say nothing of it, and are filled with Gemma's <pad>, 0.
    fill = settings.integer("pad_token_id", 0 if number == GEMMA else 1)
    sizes, fill = (768, 12, 3072, 64), rows.ids.index(fill)
    return clip.text_encoder(settings, rows, sizes, "gelu_pytorch_tanh", 1e-6, filled_with=fill)
