"""What transformers computes with a ViT."""

import numpy as np

from tests.pretrained.published import computed, picture

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


def outputs(model, config) -> dict[str, np.ndarray]:
    import torch

    size = config["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    image = picture((2, height, width, config["num_channels"]))
    with torch.no_grad():
        found = model(torch.tensor(image.transpose(0, 3, 1, 2)), output_hidden_states=True)
        encoder = getattr(model, "vit", model)
        last = encoder(torch.tensor(image.transpose(0, 3, 1, 2))).last_hidden_state
    arrays = {f"hidden_{i}": state for i, state in enumerate(found.hidden_states[:-1])}
    arrays |= {"hidden_last": found.hidden_states[-1], "normed": last, "image": image}
    if hasattr(found, "logits"):
        arrays["logits"] = found.logits
    return {name: np.asarray(value) for name, value in arrays.items()}


def ours(found, arrays):
    image = arrays["image"]
    method = found.family.method
    out, seen = computed(found.model, found.variables, (image,), method)
    num_layers = found.model.num_layers
    made = {f"hidden_{i + 1}": seen[f"block_{i}"] for i in range(num_layers - 1)}
    made |= {"hidden_last": seen[f"block_{num_layers - 1}"], "normed": seen["norm"]}
    made["hidden_0"] = seen["positions"]
    return made | ({"logits": out} if method == "logits" else {})
