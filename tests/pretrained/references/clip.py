"""What transformers computes with CLIP's two towers."""

import numpy as np

from tests.pretrained.published import computed, picture

TOKENS = np.array([[20, 5, 9, 3, 21, 0, 0], [20, 7, 7, 12, 8, 4, 21]], np.int32)
_TOWER = {
    "num_hidden_layers": 2,
    "intermediate_size": 40,
    "num_attention_heads": 3,
    "hidden_size": 24,
}
CONFIGS = {
    "clip_a": {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": 14,
        "text_config": {
            **_TOWER,
            "hidden_size": 20,
            "num_attention_heads": 2,
            "vocab_size": 22,
            "max_position_embeddings": 9,
            "eos_token_id": 2,
        },
        "vision_config": {**_TOWER, "image_size": 12, "patch_size": 4},
    },
    "clip_b": {
        "model_type": "clip_vision_model",
        "architectures": ["CLIPVisionModel"],
        **_TOWER,
        "image_size": 8,
        "patch_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-2,
    },
}


def outputs(model, config):
    size = config.get("vision_config", config)["image_size"]
    image = picture((2, size, size, 3))
    arrays = {"image": image}
    vision = getattr(model, "vision_model", model)
    arrays |= hidden(vision(pixels(image), output_hidden_states=True), "image")
    if "text_config" in config:
        found = model(input_ids=text(TOKENS), pixel_values=pixels(image))
        states = model.text_model(text(TOKENS), output_hidden_states=True)
        kept = (TOKENS != 0)[..., None]
        arrays |= {key: x * kept for key, x in hidden(states, "text").items()} | embedded(found)
        arrays["tokens"] = TOKENS
    return arrays


def pixels(image):
    import torch

    return torch.tensor(image.transpose(0, 3, 1, 2))


def text(tokens):
    import torch

    return torch.tensor(tokens).long()


def hidden(found, name: str):
    """What goes into each block, and comes out of the last."""
    return {f"{name}_{i}": array(state) for i, state in enumerate(found.hidden_states)}


def embedded(found):
    names = ("image_embeds", "text_embeds", "logits_per_image")
    return {name: array(getattr(found, name)) for name in names}


def array(x) -> np.ndarray:
    return x.detach().numpy()


def ours(found, arrays):
    if "tokens" not in arrays:
        _, seen = computed(found.model, found.variables, (arrays["image"],), "__call__")
        return states(seen, "", "image", found.model.num_layers, "first_norm")
    batch = {"image": arrays["image"], "text": arrays["tokens"].astype(np.int32)}
    out, seen = computed(found.model, found.variables, (batch,), "__call__")
    return both(out, seen, found.model, "first_norm")


def both(out, seen, model, first: str):
    """Of a TwoTower; `first` is what goes into the first block of its pictures."""
    kept = np.ones_like(seen["text_encoder"].mask) * np.asarray(seen["text_encoder"].mask)
    towers = (
        states(seen, "image_encoder/", "image", model.image_encoder.num_layers, first),
        states(seen, "text_encoder/", "text", model.text_encoder.num_layers, "embedding"),
    )
    towers[1].update({key: x * kept[..., None] for key, x in towers[1].items()})
    logits = out.scale * out.image @ out.text.T
    logits = logits if out.bias is None else logits + out.bias
    vectors = {"image_embeds": out.image, "text_embeds": out.text, "logits_per_image": logits}
    return towers[0] | towers[1] | vectors


def states(seen, start: str, name: str, number: int, first: str):
    blocks = [seen[f"{start}block_{i}"] for i in range(number)]
    blocks = [block[0] if isinstance(block, tuple) else block for block in blocks]
    return {f"{name}_{i}": x for i, x in enumerate([seen[f"{start}{first}"], *blocks])}
