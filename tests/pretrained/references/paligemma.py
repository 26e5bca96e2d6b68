"""PaliGemma and PaliGemma 2."""

from tests.pretrained import multimodal
from tests.pretrained.multimodal import IMAGE, VISION, ours
from tests.pretrained.references import gemma

__all__ = ["CONFIGS", "ours", "outputs"]

_ROLES = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def _config(name: str, **vision) -> dict:
    text = {**gemma.CONFIGS[name], **_ROLES, "vocab_size": 128}
    eyes = {**VISION, "model_type": "siglip_vision_model", "vision_use_head": False, **vision}
    return {
        "model_type": "paligemma",
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "image_token_index": IMAGE,
        "projection_dim": text["hidden_size"],
        "hidden_size": text["hidden_size"],
        "vision_config": {**eyes, "projection_dim": text["hidden_size"]},
        "text_config": text,
        **_ROLES,
    }


CONFIGS = {
    "paligemma_a": _config("gemma_a"),
    "paligemma_b": _config("gemma_b", hidden_size=18, num_hidden_layers=2),
    "paligemma_2a": _config("gemma_2a"),
    "paligemma_2b": _config("gemma_2b", layer_norm_eps=1e-2),
}


def outputs(model, config):
    return multimodal.outputs(model, multimodal.PICTURE_FIRST, types=True)
