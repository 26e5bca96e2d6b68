"""What transformers computes with a ResNet."""

from tests.pretrained.published import computed, last_axis, picture, torch_outputs

CONFIGS = {
    "resnet_a": {
        "model_type": "resnet",
        "architectures": ["ResNetForImageClassification"],
        "embedding_size": 6,
        "hidden_sizes": [8, 12],
        "depths": [1, 2],
        "layer_type": "bottleneck",
        "id2label": {str(i): f"class {i}" for i in range(5)},
    },
    "resnet_b": {
        "model_type": "resnet",
        "architectures": ["ResNetModel"],
        "embedding_size": 8,
        "hidden_sizes": [8, 10],
        "depths": [2, 1],
        "layer_type": "basic",
        "num_channels": 1,
    },
}


def outputs(model, config):
    image = picture((1, 30, 45, config.get("num_channels", 3)))
    found = torch_outputs(model, image)
    arrays = {f"stage_{i}": last_axis(x) for i, x in enumerate(found.hidden_states)}
    if hasattr(found, "logits"):
        arrays["logits"] = found.logits
    return {"image": image, **arrays}


def ours(found, arrays):
    model = found.model
    out, seen = computed(model, found.variables, (arrays["image"],), found.family.method)
    last = [f"block_{i}_{depth - 1}" for i, depth in enumerate(model.stage_sizes)]
    made = {"stage_0": seen["stem"], "logits": out}
    return made | {f"stage_{i + 1}": seen[name] for i, name in enumerate(last)}
