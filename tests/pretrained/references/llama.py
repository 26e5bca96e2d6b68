"""Llama: heads that do not fill the width, groups of them; Llama 3's scaling, biases and one table for both ends."""

from tests.pretrained.language_models import ours, outputs

__all__ = ["CONFIGS", "ours", "outputs"]

_SMALL = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 32,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "max_position_embeddings": 64,
}
CONFIGS = {
    "llama_a": {**_SMALL, "rope_theta": 500.0, "tie_word_embeddings": False},
    "llama_b": {
        **_SMALL,
        "hidden_size": 16,
        "head_dim": 4,
        "num_key_value_heads": 1,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-2,
        "rope_theta": 100.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    },
}
