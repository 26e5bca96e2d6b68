"""Idefics3 and SmolVLM."""

import numpy as np

from tests.pretrained import multimodal
from tests.pretrained.multimodal import IMAGE, VISION, ours
from tests.pretrained.published import picture
from tests.pretrained.references import llama

__all__ = ["CONFIGS", "ours", "outputs"]

_ROLES = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def _config(architecture: str, model_type: str, text: str, **vision) -> dict:
    inner = {**llama.CONFIGS[text], **_ROLES, "vocab_size": 128}
    eyes = {**VISION, "patch_size": 2, "model_type": f"{model_type}_vision", **vision}
    tied = inner["tie_word_embeddings"]
    return {
        "model_type": model_type,
        "architectures": [architecture],
        "image_token_id": IMAGE,
        "scale_factor": 2,
        "tie_word_embeddings": tied,
        "vision_config": eyes,
        "text_config": inner,
        **_ROLES,
    }


CONFIGS = {
    "idefics3_a": _config("Idefics3ForConditionalGeneration", "idefics3", "llama_a"),
    "idefics3_b": _config(
        "SmolVLMForConditionalGeneration", "smolvlm", "llama_b", hidden_size=18, num_hidden_layers=2
    ),
}


# The first row has three squares of a picture, the second two, and one of zeros, which is none.
_PLACES = [IMAGE] * 4
_PROMPT = np.array(
    [
        [1, 5, *_PLACES, 6, *_PLACES, 9, *_PLACES, 70],
        [1, 8, *_PLACES, 9, *_PLACES, 10, 71, 12, 13, 62, 14],
    ],
    np.int32,
)


def outputs(model, config):
    image = picture((2, 3, 8, 8, 3))
    image[1, 2] = 0
    return multimodal.outputs(model, _PROMPT, image=image)
