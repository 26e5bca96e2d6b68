"""What transformers computes with a ConvNeXt."""

from tests.pretrained.published import computed, last_axis, picture, torch_outputs

_SMALL = {
    "model_type": "convnext",
    "hidden_sizes": [6, 10],
    "depths": [1, 2],
    "num_stages": 2,
    "image_size": 16,
}
CONFIGS = {
    "convnext_a": {
        **_SMALL,
        "architectures": ["ConvNextForImageClassification"],
        "image_size": [16, 24],
        "id2label": {str(i): f"class {i}" for i in range(5)},
        "layer_norm_eps": 1e-3,
    },
    "convnext_b": {
        **_SMALL,
        "architectures": ["ConvNextModel"],
        "hidden_sizes": [8, 8, 12],
        "depths": [1, 1, 1],
        "num_stages": 3,
        "patch_size": 2,
        "hidden_act": "relu",
        "layer_scale_init_value": 0.0,
        "num_channels": 1,
    },
}


def outputs(model, config):
    size = config["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    image = picture((2, height, width, config.get("num_channels", 3)))
    found = torch_outputs(model, image)
    arrays = {f"stage_{i}": last_axis(x) for i, x in enumerate(found.hidden_states)}
    if hasattr(found, "logits"):
        arrays["logits"] = found.logits
    return {"image": image, **arrays}


def ours(found, arrays):
    model = found.model
    out, seen = computed(model, found.variables, (arrays["image"],), found.family.method)
    last = [f"block_{i}_{depth - 1}" for i, depth in enumerate(model.depths)]
    made = {"stage_0": seen["stem_norm"], "logits": out}
    return made | {f"stage_{i + 1}": seen[name] for i, name in enumerate(last)}
