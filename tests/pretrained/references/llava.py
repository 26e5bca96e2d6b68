"""LLaVA 1.5."""

from tests.pretrained import multimodal
from tests.pretrained.multimodal import IMAGE, VISION, ours
from tests.pretrained.references import llama

__all__ = ["CONFIGS", "ours", "outputs"]

_ROLES = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_VISION = {**VISION, "model_type": "clip_vision_model", "projection_dim": 16}
_SMALL = {
    "model_type": "llava",
    "architectures": ["LlavaForConditionalGeneration"],
    "image_token_index": IMAGE,
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    **_ROLES,
}


def _text(name: str) -> dict:
    return {**llama.CONFIGS[name], **_ROLES, "vocab_size": 128}


CONFIGS = {
    "llava_a": {**_SMALL, "vision_config": _VISION, "text_config": _text("llama_a")},
    "llava_b": {
        **_SMALL,
        "vision_config": {**_VISION, "hidden_size": 18, "num_hidden_layers": 2},
        "text_config": {**_text("llama_b"), "tie_word_embeddings": False},
        "projector_hidden_act": "relu",
        "multimodal_projector_bias": False,
    },
}


def outputs(model, config):
    return multimodal.outputs(model, multimodal.PICTURE_WITHIN)
