"""GIT: a picture's vectors before the text. Captions are greedy."""

import numpy as np

from tests.pretrained import captions
from tests.pretrained.captions import LENGTH, written
from tests.pretrained.published import computed, picture
from tests.pretrained.references import bert

_VISION = {
    "hidden_size": 18,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 8,
    "patch_size": 4,
    "num_channels": 3,
}
_SMALL = {
    **{key: value for key, value in bert._SMALL.items() if key != "type_vocab_size"},
    "model_type": "git",
    "architectures": ["GitForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "vision_config": _VISION,
}
CONFIGS = {
    "git_a": _SMALL,
    "git_b": {
        **_SMALL,
        "hidden_size": 16,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "hidden_act": "gelu_new",
        "layer_norm_eps": 1e-2,
        "tie_word_embeddings": True,
        "vision_config": {
            **_VISION,
            "hidden_size": 16,
            "num_attention_heads": 2,
            "patch_size": 2,
            "num_channels": 1,
            "layer_norm_eps": 1e-3,
            "hidden_act": "gelu",
        },
    },
}
TOKENS = np.random.default_rng(0).integers(3, 32, (2, LENGTH)).astype(np.int32)
TOKENS[:, 0] = 1


def outputs(model, config) -> dict[str, np.ndarray]:
    import torch

    vision = config["vision_config"]
    image = picture((2, vision["image_size"], vision["image_size"], vision["num_channels"]))
    pixels = torch.tensor(image.transpose(0, 3, 1, 2))
    tokens = torch.tensor(TOKENS).long()
    greedy = {"max_new_tokens": LENGTH, "num_beams": 1, "do_sample": False}
    with torch.no_grad():
        found = model(input_ids=tokens, pixel_values=pixels, output_hidden_states=True)
        start = torch.ones((2, 1)).long()
        written_tokens = model.generate(pixel_values=pixels, input_ids=start, **greedy)
        memory = model.git.visual_projection(model.git.image_encoder(pixels).last_hidden_state)
    # Both the picture's vectors and the words.
    arrays = {f"hidden_{i + 1}": state for i, state in enumerate(found.hidden_states[1:])}
    arrays |= {"memory": memory, "logits": found.logits[:, memory.shape[1] :]}
    arrays |= {"captions": written(written_tokens), "image": image, "tokens": TOKENS}
    return {name: np.asarray(value) for name, value in arrays.items()}


def ours(found, arrays):
    batch = {"image": arrays["image"], "target": arrays["tokens"].astype(np.int32)}
    out, seen = computed(found.model, found.variables, (batch,), "__call__")
    blocks = range(found.model.decoder.num_layers)
    made = {f"hidden_{i + 1}": seen[f"decoder/blocks_{i}"][0] for i in blocks}
    return made | {
        "memory": seen["fusion"].values,
        "logits": out,
        "captions": captions.captions(found, batch),
    }
