"""ConvNeXt (Liu et al. 2022): ConvNextModel, ConvNextForImageClassification."""

from vlm_jax.layers.norm import LayerNorm
from vlm_jax.pretrained.places import Place, Same, Unused, below, convolution, linear, norm
from vlm_jax.pretrained.settings import ACTIVATIONS, Family, Settings, image
from vlm_jax.vision.convnext import ConvNeXt


def read_model(settings: Settings) -> Family:
    """The encoder alone: the grid before any pooling. The norm of the pooled vector is left in the file."""
    encoder = _encoder(settings, num_classes=None)
    norm_of_pooled = tuple(Unused(theirs=f"layernorm.{name}") for name in ("weight", "bias"))
    return Family(encoder, places(encoder) + norm_of_pooled, (image(settings),))


def read_classifier(settings: Settings) -> Family:
    """With mean, norm and a linear layer: `logits` are of the classes in id2label."""
    encoder = _encoder(settings, num_classes=settings.count("id2label", 2))
    found = below(places(encoder), theirs="convnext.")
    found += (*norm("head_norm", "convnext.layernorm"), *linear("head", "classifier"))
    heads = ("head_norm", "head")
    return Family(encoder, found, (image(settings),), method="logits", heads=heads)


READERS = {"ConvNextModel": read_model, "ConvNextForImageClassification": read_classifier}


def places(encoder: ConvNeXt) -> tuple[Place, ...]:
    """Of the encoder, as ConvNextModel names its tensors."""
    found = [
        *convolution("stem", "embeddings.patch_embeddings"),
        *norm("stem_norm", "embeddings.layernorm"),
    ]
    for i, depth in enumerate(encoder.depths):
        stage = f"encoder.stages.{i}"
        if i > 0:
            found += norm(f"downsample_norm_{i}", f"{stage}.downsampling_layer.0")
            found += convolution(f"downsample_{i}", f"{stage}.downsampling_layer.1")
        for j in range(depth):
            block = [
                *convolution("depthwise", "dwconv"),
                *norm("norm", "layernorm"),
                *linear("mlp/hidden_layer", "pwconv1"),
                *linear("mlp/output_layer", "pwconv2"),
            ]
            if encoder.layer_scale is not None:
                block.append(Same(ours="scale", theirs="layer_scale_parameter"))
            found += below(block, f"block_{i}_{j}/", f"{stage}.layers.{j}.")
    return tuple(found)


def _encoder(settings: Settings, num_classes: int | None) -> ConvNeXt:
    depths = settings.integers("depths", (3, 3, 9, 3))
    widths = settings.integers("hidden_sizes", (96, 192, 384, 768))
    stages = settings.integer("num_stages", 4)
    if not len(depths) == len(widths) == stages:
        raise ValueError(
            f"config.json: depths {depths} and hidden_sizes {widths}, expected num_stages {stages} of each"
        )
    scale = settings.number("layer_scale_init_value", 1e-6)
    return ConvNeXt(
        depths=depths,
        widths=widths,
        patch_size=settings.integer("patch_size", 4),
        num_classes=num_classes,
        layer_scale=scale if scale > 0 else None,
        drop_path_rate=settings.number("drop_path_rate", 0.0),
        activation=settings.choice("hidden_act", ACTIVATIONS, "gelu"),
        norm=LayerNorm(epsilon=1e-6),  # fixed there; the setting is that of the pooled vector alone
        head_norm=LayerNorm(epsilon=settings.number("layer_norm_eps", 1e-12)),
    )
