"""Gemma, Gemma 2 and Gemma 3's text."""

from tests.pretrained.language_models import ours, outputs

__all__ = ["CONFIGS", "ours", "outputs"]

_SMALL = {
    "vocab_size": 32,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
_FIRST = {**_SMALL, "model_type": "gemma", "architectures": ["GemmaForCausalLM"]}
_SECOND = {
    **_SMALL,
    "model_type": "gemma2",
    "architectures": ["Gemma2ForCausalLM"],
    "sliding_window": 3,
    "query_pre_attn_scalar": 7,
}
_THIRD = {
    **_SMALL,
    "model_type": "gemma3_text",
    "architectures": ["Gemma3ForCausalLM"],
    "sliding_window": 3,
    "query_pre_attn_scalar": 7,
    "num_hidden_layers": 3,
}
CONFIGS = {
    "gemma_a": _FIRST,
    "gemma_b": {
        **_FIRST,
        "hidden_size": 16,
        "head_dim": 4,
        "num_key_value_heads": 1,
        "rope_theta": 50.0,
    },
    "gemma_2a": {**_SECOND, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    "gemma_2b": {**_SECOND, "hidden_size": 16, "head_dim": 4, "rms_norm_eps": 1e-2},
    "gemma_3a": {
        **_THIRD,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_theta": 500.0,
        "rope_local_base_freq": 20.0,
    },
    "gemma_3b": {
        **_THIRD,
        "num_hidden_layers": 6,
        "hidden_size": 16,
        "head_dim": 4,
        "intermediate_size": 12,
        "final_logit_softcapping": 5.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
}
