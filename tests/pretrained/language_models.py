"""What transformers computes with a model that continues a text; those of gpt2, llama and gemma are compared alike."""

import numpy as np

from tests.pretrained.published import computed

TOKENS = np.array([[5, 9, 12, 3, 7, 22, 8, 16, 4], [6, 2, 14, 19, 30, 3, 11, 25, 9]], np.int32)


def outputs(model, config) -> dict[str, np.ndarray]:
    import torch

    with torch.no_grad():
        found = model(input_ids=torch.tensor(TOKENS).long(), output_hidden_states=True)
    states = [np.asarray(state) for state in found.hidden_states]
    arrays = {f"hidden_{i}": state for i, state in enumerate(states[:-1])}
    return arrays | {"normed": states[-1], "logits": np.asarray(found.logits), "tokens": TOKENS}


def ours(found, arrays):
    tokens = arrays["tokens"].astype(np.int32)
    out, seen = computed(found.model, found.variables, ({"target": tokens},), "__call__")
    blocks = range(found.model.decoder.num_layers - 1)
    made = {f"hidden_{i + 1}": seen[f"decoder/blocks_{i}"][0] for i in blocks}
    return made | {
        "hidden_0": seen["decoder/embedding"],
        "normed": seen["decoder/norm"],
        "logits": out,
    }
