"""T5, and version 1.1 with its gates and a second table."""

import numpy as np

from tests.pretrained.published import computed

_SMALL = {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "vocab_size": 32,
    "d_model": 24,
    "d_kv": 10,
    "d_ff": 40,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
CONFIGS = {
    "t5_a": {**_SMALL, "feed_forward_proj": "relu"},
    "t5_b": {
        **_SMALL,
        "d_model": 16,
        "d_kv": 4,
        "num_decoder_layers": 3,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "layer_norm_epsilon": 1e-2,
    },
}
# The second text is shorter; long enough that distances share buckets.
TEXT = np.random.default_rng(0).integers(2, 32, (2, 40)).astype(np.int32)
TEXT[1, 33:] = 0
TOKENS = np.random.default_rng(1).integers(2, 32, (2, 30)).astype(np.int32)


def outputs(model, config) -> dict[str, np.ndarray]:
    import torch

    text = torch.tensor(TEXT).long()
    with torch.no_grad():
        found = model(
            input_ids=text,
            attention_mask=(text != 0).long(),
            decoder_input_ids=torch.tensor(TOKENS).long(),
            output_hidden_states=True,
        )
    states = found.decoder_hidden_states[1:-1]
    arrays = {f"decoder_{i + 1}": state for i, state in enumerate(states)}
    memory = np.asarray(found.encoder_last_hidden_state) * (TEXT != 0)[..., None]
    arrays |= {"memory": memory, "logits": found.logits, "tokens": TOKENS, "text": TEXT}
    return {name: np.asarray(value) for name, value in arrays.items()}


def ours(found, arrays):
    batch = {"text": arrays["text"].astype(np.int32), "target": arrays["tokens"].astype(np.int32)}
    out, seen = computed(found.model, found.variables, (batch,), "__call__")
    blocks = range(found.model.decoder.num_layers - 1)
    made = {f"decoder_{i + 1}": seen[f"decoder/blocks_{i}"][0] for i in blocks}
    return made | {"memory": seen["text_encoder"].values, "logits": out}
