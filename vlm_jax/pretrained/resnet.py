"""ResNet (He et al. 2016): ResNetModel, ResNetForImageClassification."""

from collections.abc import Iterator

from vlm_jax.pretrained.places import Place, batch_norm, below, convolution, linear
from vlm_jax.pretrained.settings import Family, Settings, image
from vlm_jax.vision.resnet import (
    BasicBlock,
    BottleneckBlock,
    ImageNetStem,
    ProjectionShortcut,
    ResNet,
)

# The convolutions of a block, in the file's order.
PARTS = {BasicBlock: ("first", "second"), BottleneckBlock: ("narrow", "filter", "widen")}


def read_model(settings: Settings) -> Family:
    """The encoder alone: the grid after the last block."""
    encoder = _encoder(settings, num_classes=None)
    return Family(encoder, places(encoder), (image(settings),))


def read_classifier(settings: Settings) -> Family:
    """With mean and a linear layer: `logits` are of the classes in id2label."""
    encoder = _encoder(settings, num_classes=settings.count("id2label", 2))
    found = below(places(encoder), theirs="resnet.") + tuple(linear("head", "classifier.1"))
    return Family(encoder, found, (image(settings),), method="logits", heads=("head",))


READERS = {"ResNetModel": read_model, "ResNetForImageClassification": read_classifier}


def places(encoder: ResNet) -> tuple[Place, ...]:
    """Of the encoder, as ResNetModel names its tensors."""
    found = list(_conv_norm("stem/conv_norm", "embedder.embedder"))
    expansion = 4 if encoder.block is BottleneckBlock else 1
    width_before = encoder.stem_width or encoder.widths[0]
    for i, (depth, width) in enumerate(zip(encoder.stage_sizes, encoder.widths)):
        for j in range(depth):
            block = []
            for k, part in enumerate(PARTS[encoder.block]):
                block += _conv_norm(part, f"layer.{k}")
            if j == 0 and (i > 0 or width_before != expansion * width):
                block += _conv_norm("shortcut/conv_norm", "shortcut")
            found += below(block, f"block_{i}_{j}/", f"encoder.stages.{i}.layers.{j}.")
    return tuple(found)


def _conv_norm(ours: str, theirs: str) -> Iterator[Place]:
    yield from convolution(f"{ours}/conv", f"{theirs}.convolution", bias=False)
    yield from batch_norm(f"{ours}/norm", f"{theirs}.normalization")


def _encoder(settings: Settings, num_classes: int | None) -> ResNet:
    blocks = {"basic": BasicBlock, "bottleneck": BottleneckBlock}
    block = settings.choice("layer_type", blocks, "bottleneck")
    settings.expect("hidden_act", "relu")
    settings.expect("downsample_in_first_stage", False)
    settings.expect("downsample_in_bottleneck", False)
    depths = settings.integers("depths", (3, 4, 6, 3))
    widths = settings.integers("hidden_sizes", (256, 512, 1024, 2048))
    expansion = 4 if block is BottleneckBlock else 1
    if len(depths) != len(widths) or any(width % expansion for width in widths):
        raise ValueError(
            f"config.json: depths {depths}, hidden_sizes {widths}; expected as many, and the sizes "
            f"multiples of {expansion}"
        )
    return ResNet(
        block=block,
        stage_sizes=depths,
        widths=tuple(width // expansion for width in widths),
        stem_width=settings.integer("embedding_size", 64),
        stem=ImageNetStem,
        shortcut=ProjectionShortcut,
        num_classes=num_classes,
    )
