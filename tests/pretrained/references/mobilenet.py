"""What transformers computes with a MobileNetV2."""

from tests.pretrained.published import computed, last_axis, picture, torch_outputs

_SMALL = {
    "model_type": "mobilenet_v2",
    "depth_multiplier": 0.15,
    "depth_divisible_by": 2,
    "min_depth": 2,
    "finegrained_output": False,
}
CONFIGS = {
    "mobilenet_a": {
        **_SMALL,
        "architectures": ["MobileNetV2ForImageClassification"],
        "id2label": {str(i): f"class {i}" for i in range(5)},
    },
    "mobilenet_b": {
        **_SMALL,
        "architectures": ["MobileNetV2Model"],
        "expand_ratio": 3.0,
        "layer_norm_eps": 1e-5,
        "num_channels": 1,
    },
}
STORED_BLOCKS = (0, 1, 4, 7, 11, 15)


def outputs(model, config):
    image = picture((1, 35, 44, config.get("num_channels", 3)))
    found = torch_outputs(model, image)
    arrays = {f"block_{i}": last_axis(found.hidden_states[i]) for i in STORED_BLOCKS}
    if hasattr(found, "logits"):
        arrays["logits"] = found.logits
    else:
        arrays["last"] = last_axis(found.last_hidden_state)
    return {"image": image, **arrays}


def ours(found, arrays):
    import flax.linen as nn

    image = (arrays["image"],)
    out, seen = computed(found.model, found.variables, image, found.family.method)
    # Theirs counts from the block after the stem.
    made = {f"block_{i}": seen[f"block_{i + 1}"] for i in STORED_BLOCKS}
    return made | {"logits": out, "last": nn.relu6(seen["last"])}
