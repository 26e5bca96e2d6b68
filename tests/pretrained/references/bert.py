"""BERT over one text and over two, padded."""

import numpy as np

from tests.pretrained.published import computed

_SMALL = {
    "model_type": "bert",
    "vocab_size": 32,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 12,
    "type_vocab_size": 2,
    "pad_token_id": 0,
}
CONFIGS = {
    "bert_a": {**_SMALL, "architectures": ["BertForMaskedLM"]},
    "bert_b": {
        **_SMALL,
        "architectures": ["BertModel"],
        "hidden_size": 16,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "hidden_act": "gelu_new",
        "layer_norm_eps": 1e-2,
    },
}
TOKENS = np.array([[1, 9, 12, 2, 7, 22, 8, 16, 2], [1, 14, 19, 30, 2, 0, 0, 0, 0]], np.int32)
SEGMENTS = np.array([[0, 0, 0, 0, 1, 1, 1, 1, 1], [0] * 9])
REAL = (TOKENS != 0)[..., None]


def outputs(model, config) -> dict[str, np.ndarray]:
    import torch

    with torch.no_grad():
        found = model(
            input_ids=torch.tensor(TOKENS).long(),
            token_type_ids=torch.tensor(SEGMENTS).long(),
            attention_mask=torch.tensor(TOKENS != 0).long(),
            output_hidden_states=True,
        )
    arrays = {f"hidden_{i}": state * REAL for i, state in enumerate(found.hidden_states)}
    if hasattr(found, "logits"):
        arrays["logits"] = found.logits * REAL
    return {name: np.asarray(value) for name, value in arrays.items()} | {"tokens": TOKENS}


def ours(found, arrays):
    tokens = arrays["tokens"].astype(np.int32)
    is_masked = hasattr(found.model, "decoder")
    example = {"target": tokens} if is_masked else tokens
    out, seen = computed(found.model, found.variables, (example,), "__call__")
    base, block = ("decoder/", "blocks") if is_masked else ("", "block")
    module = found.model.decoder if is_masked else found.model
    made = {f"hidden_{i + 1}": seen[f"{base}{block}_{i}"][0] for i in range(module.num_layers)}
    made["hidden_0"] = seen[f"{base}embedding"]
    if is_masked:
        made["logits"] = out
    else:
        np.testing.assert_allclose(out.values, made[f"hidden_{module.num_layers}"] * REAL)
    return {name: np.asarray(value) * REAL for name, value in made.items()}
