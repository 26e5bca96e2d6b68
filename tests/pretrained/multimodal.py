"""What models whose text keeps places for a picture are compared by: states, logits, greedy answers to a prompt."""

import jax
import numpy as np

from tests.pretrained.published import computed, picture
from vlm_jax.decoding.sampling import Greedy
from vlm_jax.tasks.generation import write

LENGTH = 6
IMAGE, LINE_BREAK = 119, 108
_ANSWER = np.array([[11, 60, 13, 14], [15, 7, 61, 18]], np.int32)
PICTURE_FIRST = np.array(
    [[IMAGE] * 4 + [1, 5, 66, LINE_BREAK], [IMAGE] * 4 + [1, 7, 8, LINE_BREAK]], np.int32
)
PICTURE_WITHIN = np.array(
    [[1, 5, 6] + [IMAGE] * 4 + [9, 70], [1, 8] + [IMAGE] * 4 + [9, 10, 71]], np.int32
)
VISION = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "image_size": 8,
    "patch_size": 4,
    "num_channels": 3,
}


def outputs(model, prompt: np.ndarray, *, image=None, types: bool = False):
    """`image`: another than one for each row. `types`: says which tokens are the prompt."""
    import torch

    image = picture((2, 8, 8, 3)) if image is None else image
    pixels = torch.tensor(np.moveaxis(image, -1, -3))
    tokens = np.concatenate([prompt, _ANSWER], axis=1)
    given = {"pixel_values": pixels}
    whole, start = {**given}, {**given}
    if types:
        kind = np.arange(tokens.shape[1])[None] >= prompt.shape[1]
        whole["token_type_ids"] = torch.tensor(np.repeat(kind, 2, axis=0)).long()
        start["token_type_ids"] = torch.zeros(prompt.shape).long()
    with torch.no_grad():
        found = model(input_ids=torch.tensor(tokens).long(), **whole, output_hidden_states=True)
        answers = model.generate(
            input_ids=torch.tensor(prompt).long(),
            **start,
            max_new_tokens=LENGTH,
            num_beams=1,
            do_sample=False,
        )
    states = found.hidden_states[:-1]
    arrays = {f"hidden_{i}": np.asarray(state) for i, state in enumerate(states)}
    answers = np.asarray(answers)[:, prompt.shape[1] :]
    return arrays | {
        "logits": np.asarray(found.logits),
        "answers": np.pad(answers, ((0, 0), (0, LENGTH - answers.shape[1]))),
        "image": image,
        "tokens": tokens,
    }


def ours(found, arrays):
    batch = {"image": arrays["image"], "target": arrays["tokens"].astype(np.int32)}
    out, seen = computed(found.model, found.variables, (batch,), "__call__")
    blocks = range(found.model.decoder.num_layers - 1)
    made = {f"hidden_{i + 1}": seen[f"decoder/blocks_{i}"][0] for i in blocks}
    # The words, with the picture's vectors in the places kept for them.
    words, vectors = np.array(seen["decoder/embedding"]), seen["fusion"]
    places = batch["target"] == found.model.decoder.image_token
    words[places] = np.asarray(vectors.values)[np.asarray(vectors.mask)]
    return made | {"hidden_0": words, "logits": out, "answers": answers(found, batch)}


def answers(found, batch) -> np.ndarray:
    """Greedy, to the prompt of each row."""
    prompt = batch["target"][:, : -_ANSWER.shape[1]]

    @jax.jit
    def run(variables, batch):
        memory = found.model.apply(variables, batch, train=False, method="encode")
        greedy = Greedy(max_length=LENGTH, banned=())
        said = write(found.model, variables, memory, greedy, batch_size=2, prompt=prompt)
        return said.tokens[:, 0]

    return run(found.variables, batch)
