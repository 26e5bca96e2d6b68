"""What transformers computes with SigLIP 2 and pictures of other shapes than that of its table of positions."""

import numpy as np

from tests.pretrained.published import computed, picture
from tests.pretrained.references.clip import both, embedded, hidden, text
from tests.pretrained.references.siglip import TOKENS, full

_TOWER = {
    "num_hidden_layers": 2,
    "intermediate_size": 40,
    "num_attention_heads": 3,
    "hidden_size": 24,
}
CONFIGS = {
    "siglip2_a": {
        "model_type": "siglip2",
        "architectures": ["Siglip2Model"],
        "text_config": {**_TOWER, "vocab_size": 22, "max_position_embeddings": 9},
        "vision_config": {**_TOWER, "num_patches": 16, "patch_size": 4, "num_attention_heads": 2},
    },
    "siglip2_b": {
        "model_type": "siglip2",
        "architectures": ["Siglip2Model"],
        "text_config": {
            **_TOWER,
            "vocab_size": 22,
            "max_position_embeddings": 7,
            "projection_size": 12,
            "layer_norm_eps": 1e-3,
        },
        "vision_config": {
            **_TOWER,
            "hidden_size": 12,
            "num_patches": 25,
            "patch_size": 2,
            "layer_norm_eps": 1e-2,
        },
    },
}
GRIDS = {"siglip2_a": (2, 7), "siglip2_b": (6, 3)}  # rows and columns of patches


def outputs(model, config):
    import torch

    size = config["vision_config"]["patch_size"]
    rows, columns = GRIDS["siglip2_a" if size == 4 else "siglip2_b"]
    image = picture((2, rows * size, columns * size, 3))
    patches = image.reshape(2, rows, size, columns, size, 3).swapaxes(2, 3)
    seen = {
        "pixel_values": torch.tensor(patches.reshape(2, rows * columns, -1).copy()),
        "pixel_attention_mask": torch.ones(2, rows * columns, dtype=torch.long),
        "spatial_shapes": torch.tensor([[rows, columns]] * 2),
    }
    tokens = text(full(TOKENS, config["text_config"]))
    found = model(input_ids=tokens, **seen)
    vision = model.vision_model(
        seen["pixel_values"],
        pixel_attention_mask=seen["pixel_attention_mask"],
        spatial_shapes=seen["spatial_shapes"],
        output_hidden_states=True,
    )
    states = hidden(vision, "image")
    words = hidden(model.text_model(tokens, output_hidden_states=True), "text")
    return {"image": image, "tokens": TOKENS, **states, **words, **embedded(found)}


def ours(found, arrays):
    batch = {"image": arrays["image"], "text": arrays["tokens"].astype(np.int32)}
    out, seen = computed(found.model, found.variables, (batch,), "__call__")
    return both(out, seen, found.model, "positions")
