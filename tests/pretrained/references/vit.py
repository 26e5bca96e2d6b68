"""What transformers computes with a ViT."""

from tests.pretrained.published import computed, picture, torch_outputs

_SMALL = {
    "model_type": "vit",
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "patch_size": 4,
    "num_channels": 3,
}
CONFIGS = {
    "vit_a": {
        **_SMALL,
        "architectures": ["ViTForImageClassification"],
        "image_size": [8, 12],
        "id2label": {str(i): f"class {i}" for i in range(5)},
    },
    "vit_b": {
        **_SMALL,
        "architectures": ["ViTModel"],
        "image_size": 8,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-2,
        "num_channels": 1,
        "patch_size": 2,
    },
}


def outputs(model, config):
    size = config["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    image = picture((2, height, width, config["num_channels"]))
    found = torch_outputs(model, image)
    arrays = {f"hidden_{i}": state for i, state in enumerate(found.hidden_states)}
    if hasattr(found, "logits"):
        return {"image": image, **arrays, "logits": found.logits}
    return {"image": image, **arrays, "normed": found.last_hidden_state}


def ours(found, arrays):
    image, method = arrays["image"], found.family.method
    out, seen = computed(found.model, found.variables, (image,), method)
    blocks = range(found.model.num_layers)
    made = {f"hidden_{i + 1}": seen[f"block_{i}"] for i in blocks}
    return made | {"hidden_0": seen["positions"], "normed": seen["norm"], "logits": out}
