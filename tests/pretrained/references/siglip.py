"""What transformers computes with SigLIP's two towers; those of SigLIP 2 have another token to fill texts with."""

import numpy as np

from tests.pretrained.published import computed, picture
from tests.pretrained.references.clip import both, embedded, hidden, pixels, states, text

TOKENS = np.array([[5, 9, 3, 1, 0, 0], [7, 7, 12, 8, 4, 1]], np.int32)
_TOWER = {
    "num_hidden_layers": 2,
    "intermediate_size": 40,
    "num_attention_heads": 3,
    "hidden_size": 24,
}
CONFIGS = {
    "siglip_a": {
        "model_type": "siglip",
        "architectures": ["SiglipModel"],
        "text_config": {**_TOWER, "vocab_size": 22, "max_position_embeddings": 9},
        "vision_config": {**_TOWER, "image_size": 12, "patch_size": 4, "num_attention_heads": 2},
    },
    "siglip_b": {
        "model_type": "siglip",
        "architectures": ["SiglipModel"],
        "text_config": {
            **_TOWER,
            "vocab_size": 22,
            "max_position_embeddings": 6,
            "pad_token_id": 0,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-3,
            "projection_size": 12,
        },
        "vision_config": {
            **_TOWER,
            "hidden_size": 12,
            "image_size": 8,
            "patch_size": 2,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-2,
        },
    },
    "siglip_c": {
        "model_type": "siglip_vision_model",
        "architectures": ["SiglipVisionModel"],
        **_TOWER,
        "image_size": 8,
        "patch_size": 4,
        "num_channels": 1,
        "vision_use_head": False,
    },
}


def outputs(model, config):
    vision = config.get("vision_config", config)
    image = picture((2, vision["image_size"], vision["image_size"], vision.get("num_channels", 3)))
    found = getattr(model, "vision_model", model)(pixels(image), output_hidden_states=True)
    arrays = {"image": image, **hidden(found, "image")}
    if "text_config" not in config:
        return arrays | {"normed": found.last_hidden_state.detach().numpy()}
    tokens = full(TOKENS, config["text_config"])
    found = model(input_ids=text(tokens), pixel_values=pixels(image))
    arrays |= hidden(model.text_model(text(tokens), output_hidden_states=True), "text")
    return arrays | embedded(found) | {"tokens": TOKENS}


def full(tokens, config):
    """As its processor has them: of the longest length."""
    pad = config.get("pad_token_id", 1)
    missing = config["max_position_embeddings"] - tokens.shape[1]
    tokens = np.pad(tokens, ((0, 0), (0, missing)))
    return np.where(tokens == 0, pad, tokens)


def ours(found, arrays):
    if "tokens" not in arrays:
        _, seen = computed(found.model, found.variables, (arrays["image"],), "__call__")
        made = states(seen, "", "image", found.model.num_layers, "positions")
        return made | {"normed": seen["norm"]}
    batch = {"image": arrays["image"], "text": arrays["tokens"].astype(np.int32)}
    out, seen = computed(found.model, found.variables, (batch,), "__call__")
    return both(out, seen, found.model, "positions")
