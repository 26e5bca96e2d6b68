"""A ViT and GPT-2: widths that differ, and widths that do not. Captions are greedy."""

import numpy as np

from tests.pretrained.captions import LENGTH, ours, written
from tests.pretrained.published import picture
from tests.pretrained.references import gpt2, vit

__all__ = ["CONFIGS", "ours", "outputs"]

_VIT, _GPT2 = vit.CONFIGS["vit_b"], gpt2.CONFIGS["gpt2_b"]
_ROLES = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
_SMALL = {"model_type": "vision-encoder-decoder", "architectures": ["VisionEncoderDecoderModel"]}


def _config(encoder: dict, decoder: dict) -> dict:
    reads = {"add_cross_attention": True, "is_decoder": True, "bos_token_id": 1, "eos_token_id": 2}
    return {**_SMALL, **_ROLES, "encoder": encoder, "decoder": {**decoder, **reads}}


CONFIGS = {
    "ved_a": _config({**_VIT, "hidden_size": 24, "num_attention_heads": 4}, _GPT2),
    "ved_b": _config(_VIT, {**_GPT2, "n_layer": 2, "activation_function": "gelu_new"}),
}


def outputs(model, config) -> dict[str, np.ndarray]:
    import torch

    size = config["encoder"]["image_size"]
    image = picture((2, size, size, config["encoder"]["num_channels"]))
    pixels = torch.tensor(image.transpose(0, 3, 1, 2))
    tokens = np.random.default_rng(0).integers(3, 32, (2, LENGTH)).astype(np.int32)
    with torch.no_grad():
        found = model(
            pixel_values=pixels,
            decoder_input_ids=torch.tensor(tokens).long(),
            output_hidden_states=True,
        )
        captions = model.generate(pixels, max_new_tokens=LENGTH, num_beams=1, do_sample=False)
    states = found.decoder_hidden_states[1:-1]
    arrays = {f"hidden_{i + 1}": np.asarray(state) for i, state in enumerate(states)}
    return arrays | {
        "memory": np.asarray(found.encoder_last_hidden_state),
        "logits": np.asarray(found.logits),
        "captions": written(captions),
        "image": image,
        "tokens": tokens,
    }
