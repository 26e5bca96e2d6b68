"""What captioners are compared by: states, logits, and greedy captions token by token."""

import jax
import numpy as np

from tests.pretrained.published import computed
from vlm_jax.decoding.sampling import Greedy
from vlm_jax.tasks.generation import write

LENGTH = 8


def written(tokens) -> np.ndarray:
    """What the reference writes after its first token, padded with 0 to LENGTH, as ours is."""
    tokens = np.asarray(tokens)[:, 1 : LENGTH + 1]
    return np.pad(tokens, ((0, 0), (0, LENGTH - tokens.shape[1])))


def ours(found, arrays):
    batch = {"image": arrays["image"], "target": arrays["tokens"].astype(np.int32)}
    out, seen = computed(found.model, found.variables, (batch,), "__call__")
    blocks = range(found.model.decoder.num_layers - 1)
    made = {f"hidden_{i + 1}": seen[f"decoder/blocks_{i}"][0] for i in blocks}
    return made | {
        "memory": seen["image_encoder"].values,
        "logits": out,
        "captions": captions(found, batch),
    }


def captions(found, batch) -> np.ndarray:
    size = len(batch["image"])

    @jax.jit
    def run(variables, batch):
        memory = found.model.apply(variables, batch, train=False, method="encode")
        greedy = Greedy(max_length=LENGTH, banned=())
        return write(found.model, variables, memory, greedy, batch_size=size).tokens[:, 0]

    return run(found.variables, batch)
