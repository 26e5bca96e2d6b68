"""GPT-2."""

from tests.pretrained.language_models import ours, outputs

__all__ = ["CONFIGS", "ours", "outputs"]

_SMALL = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "vocab_size": 32,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 3,
    "n_positions": 12,
}
CONFIGS = {
    "gpt2_a": _SMALL,
    "gpt2_b": {
        **_SMALL,
        "n_embd": 16,
        "n_head": 2,
        "n_layer": 3,
        "n_inner": 40,
        "activation_function": "relu",
        "layer_norm_epsilon": 1e-2,
    },
}
