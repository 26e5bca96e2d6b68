"""Vision Transformers (Dosovitskiy et al. 2021): ViTModel, ViTForImageClassification.

The pooler of ViTModel, a layer over the class token that its next task would train anyway, is left in the file.
"""

from vlm_jax.layers.norm import LayerNorm
from vlm_jax.pretrained.places import (
    Place,
    Same,
    Single,
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
    """The encoder alone: an image to a vector for each patch."""
    encoder = _encoder(settings, num_classes=None)
    pooler = tuple(Unused(theirs=f"pooler.dense.{name}") for name in ("weight", "bias"))
    return Family(encoder, places(encoder) + pooler, (image(settings),))


def read_classifier(settings: Settings) -> Family:
    """With a linear layer over the class token: `logits` are of the classes in id2label."""
    encoder = _encoder(settings, num_classes=settings.count("id2label", 2))
    found = below(places(encoder), theirs="vit.") + tuple(linear("head", "classifier"))
    example = (image(settings),)
    return Family(encoder, found, example, method="logits", heads=("head",))


READERS = {"ViTModel": read_model, "ViTForImageClassification": read_classifier}


def places(encoder: Vit) -> tuple[Place, ...]:
    """Of the encoder, as ViTModel names its tensors."""
    found = [
        Same(ours="class_token", theirs="embeddings.cls_token"),
        Single(ours="positions/positions", theirs="embeddings.position_embeddings"),
        *convolution("patches", "embeddings.patch_embeddings.projection"),
        *norm("norm", "layernorm"),
    ]
    for i in range(encoder.num_layers):
        block = [
            *norm("attention_norm", "layernorm_before"),
            *attention("attention", "attention", encoder.num_heads, names=_NAMES),
            *norm("mlp_norm", "layernorm_after"),
            *linear("mlp/hidden_layer", "intermediate.dense"),
            *linear("mlp/output_layer", "output.dense"),
        ]
        found += below(block, f"block_{i}/", f"encoder.layer.{i}.")
    return tuple(found)


_NAMES = ("attention.query", "attention.key", "attention.value", "output.dense")


def _encoder(settings: Settings, num_classes: int | None) -> Vit:
    patch_size, other = settings.size("patch_size", 16)
    if patch_size != other:
        raise ValueError(f"config.json: patch_size is {(patch_size, other)}, expected squares")
    settings.expect("qkv_bias", True)
    return Vit(
        width=settings.integer("hidden_size", 768),
        num_layers=settings.integer("num_hidden_layers", 12),
        num_heads=settings.integer("num_attention_heads", 12),
        hidden=settings.integer("intermediate_size", 3072),
        patch_size=patch_size,
        image_size=settings.size("image_size", 224),
        dropout_rate=settings.number("hidden_dropout_prob", 0.0),
        activation=settings.choice("hidden_act", ACTIVATIONS, "gelu"),
        norm=LayerNorm(epsilon=settings.number("layer_norm_eps", 1e-12)),
        num_classes=num_classes,
    )
