"""MobileNetV2 (Sandler et al. 2018) of the hub: MobileNetV2Model, MobileNetV2ForImageClassification.

With its batch normalisation, unlike the TFLite file of mobilenet.py. Class 0 of the published ones is 'background'.
"""

from collections.abc import Iterator

from vlm_jax.layers.norm import BatchNorm
from vlm_jax.pretrained.places import Place, batch_norm, below, convolution, linear
from vlm_jax.pretrained.settings import Family, Settings, image
from vlm_jax.vision.mobilenet import STAGES, MobileNetV2


def read_model(settings: Settings) -> Family:
    """The encoder alone: the grid of its last convolution."""
    encoder = _encoder(settings, num_classes=None)
    return Family(encoder, places(encoder), (image(settings),))


def read_classifier(settings: Settings) -> Family:
    """With mean, dropout and a linear layer: `logits` are of the classes in id2label."""
    encoder = _encoder(settings, num_classes=settings.count("id2label", 2))
    found = below(places(encoder), theirs="mobilenet_v2.")
    found += tuple(linear("head", "classifier"))
    return Family(encoder, found, (image(settings),), method="logits", heads=("head",))


READERS = {"MobileNetV2Model": read_model, "MobileNetV2ForImageClassification": read_classifier}


def places(encoder: MobileNetV2) -> tuple[Place, ...]:
    """Of the encoder, as MobileNetV2Model names its tensors: our first block is part of its stem."""
    found = [
        *_conv_norm("stem", "conv_stem.first_conv"),
        *_conv_norm("block_0/depthwise", "conv_stem.conv_3x3"),
        *_conv_norm("block_0/project", "conv_stem.reduce_1x1"),
    ]
    for i in range(1, sum(n for _, _, n, _ in encoder.stages)):
        found += _conv_norm(f"block_{i}/expand", f"layer.{i - 1}.expand_1x1")
        found += _conv_norm(f"block_{i}/depthwise", f"layer.{i - 1}.conv_3x3")
        found += _conv_norm(f"block_{i}/project", f"layer.{i - 1}.reduce_1x1")
    return (*found, *_conv_norm("last", "conv_1x1"))


def _conv_norm(ours: str, theirs: str) -> Iterator[Place]:
    yield from convolution(f"{ours}/conv", f"{theirs}.convolution", bias=False)
    yield from batch_norm(f"{ours}/norm", f"{theirs}.normalization")


def _encoder(settings: Settings, num_classes: int | None) -> MobileNetV2:
    settings.expect("hidden_act", "relu6")
    settings.expect("tf_padding", True)
    settings.expect("first_layer_is_expansion", True)
    settings.expect("output_stride", 32)
    multiplier = settings.number("depth_multiplier", 1.0)
    divisor = settings.integer("depth_divisible_by", 8)
    least = settings.integer("min_depth", 8)
    ratio = settings.number("expand_ratio", 6.0)

    def scaled(channels: int) -> int:
        return divisible(round(channels * multiplier), divisor, least)

    stages = tuple(
        (1 if i == 0 else int(ratio), scaled(channels), n, stride)
        for i, (_, channels, n, stride) in enumerate(STAGES)
    )
    uneven = [
        width
        for _, width, _, _ in stages
        if divisible(round(width * ratio), divisor, least) != width * ratio
    ]
    if uneven or ratio != int(ratio):
        raise ValueError(
            f"config.json: expand_ratio {ratio:g} makes of {uneven or 'all'} channels numbers that are rounded to "
            f"multiples of {divisor}; expected multiples, as 6 and 8 give"
        )
    if scaled(32) == stages[0][1]:
        raise ValueError(
            f"config.json: depth_multiplier {multiplier:g} makes the stem as wide as the block after it, which would add "
            "its input; expected one of 0.35 and above"
        )
    fine = settings.flag("finegrained_output", True) and multiplier < 1.0
    return MobileNetV2(
        stages=stages,
        stem_width=scaled(32),
        width=1280 if fine else scaled(1280),
        num_classes=num_classes,
        dropout_rate=settings.number("classifier_dropout_prob", 0.8),
        norm=BatchNorm(epsilon=settings.number("layer_norm_eps", 0.001)),
    )


def divisible(channels: int, divisor: int, least: int) -> int:
    """The multiple of `divisor` next to `channels`, `least` or more, and not below 90 % of it (their slim code)."""
    found = max(least, (channels + divisor // 2) // divisor * divisor)
    return found if found >= 0.9 * channels else found + divisor
