"""BLIP: captions, and answers to questions of which one is padded. Both are greedy."""

import numpy as np

from tests.pretrained import captions
from tests.pretrained.captions import LENGTH, written
from tests.pretrained.published import computed, picture
from vlm_jax.pretrained.places import Rows
from vlm_jax.types import PAD

_TEXT = {
    "vocab_size": 32,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 3,
    "sep_token_id": 2,
    "is_decoder": True,
}
_VISION = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
_CAPTIONS = {"model_type": "blip", "architectures": ["BlipForConditionalGeneration"]}
_ANSWERS = {"model_type": "blip", "architectures": ["BlipForQuestionAnswering"]}
_OTHER_TEXT = {
    **_TEXT,
    "bos_token_id": 30,
    "hidden_size": 16,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "hidden_act": "gelu_new",
    "layer_norm_eps": 1e-2,
}
_OTHER_VISION = {
    **_VISION,
    "num_hidden_layers": 3,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-2,
    "patch_size": 2,
}
CONFIGS = {
    "blip_a": {**_CAPTIONS, "text_config": _TEXT, "vision_config": _VISION},
    "blip_b": {
        **_CAPTIONS,
        "text_config": {**_OTHER_TEXT, "sep_token_id": 22},
        "vision_config": _OTHER_VISION,
    },
    "blip_qa": {**_ANSWERS, "text_config": _TEXT, "vision_config": _VISION},
    "blip_qb": {
        **_ANSWERS,
        "text_config": {**_OTHER_TEXT, "sep_token_id": 9},
        "vision_config": {**_OTHER_VISION, "hidden_size": 16},
    },
}
TEXT = np.array([[1, 8, 12, 7, 22, 9], [1, 14, 19, 9, PAD, PAD]], np.int32)
TOKENS = np.random.default_rng(0).integers(3, 32, (2, LENGTH)).astype(np.int32)


def outputs(model, config) -> dict[str, np.ndarray]:
    size = config["vision_config"]["image_size"]
    image = picture((2, size, size, 3))
    arrays = {"image": image, "tokens": TOKENS}
    if hasattr(model, "text_encoder"):
        arrays["text"] = TEXT
    # It does not hide the padding of a question from what writes the answer, so each row is asked alone, without.
    rows = [_row(model, image[i : i + 1], TOKENS[i : i + 1], TEXT[i]) for i in range(len(TEXT))]
    return arrays | {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _row(model, image: np.ndarray, tokens: np.ndarray, question: np.ndarray):
    import torch

    pixels = torch.tensor(image.transpose(0, 3, 1, 2))
    greedy = {"max_new_tokens": LENGTH, "num_beams": 1, "do_sample": False}
    arrays = {}
    with torch.no_grad():
        memory = reads = model.vision_model(pixels).last_hidden_state
        if hasattr(model, "text_encoder"):
            text = torch.tensor(question[question != PAD]).long()[None]
            found = model.text_encoder(
                text, encoder_hidden_states=memory, output_hidden_states=True
            )
            reads = found.last_hidden_state
            missing = ((0, 0), (0, len(question) - text.shape[1]), (0, 0))
            arrays["question_1"] = np.pad(found.hidden_states[1], missing)
            arrays["question"] = np.pad(reads, missing)
            written_tokens = model.generate(text, pixels, **greedy)
        else:
            written_tokens = model.generate(pixels, **greedy)
        tokens = torch.tensor(tokens).long()
        found = model.text_decoder(tokens, encoder_hidden_states=reads, output_hidden_states=True)
    arrays |= {f"hidden_{i + 1}": state for i, state in enumerate(found.hidden_states[1:])}
    arrays |= {"memory": memory, "logits": found.logits, "captions": written(written_tokens)}
    return {name: np.asarray(value) for name, value in arrays.items()}


def ours(found, arrays):
    """In the tokens of the file: BOS and EOS may be others there."""
    tables = [place for place in found.family.places if isinstance(place, Rows)]
    ids = {place.ours[0].partition("/")[0]: np.array(place.ids) for place in tables}
    row = {side: np.argsort(of) for side, of in ids.items()}
    batch = {"image": arrays["image"], "target": row["decoder"][arrays["tokens"].astype(int)]}
    if "text" in arrays:
        batch["text"] = row["text_encoder"][arrays["text"].astype(int)]
    out, seen = computed(found.model, found.variables, (batch,), "__call__")
    blocks = range(found.model.decoder.num_layers)
    made = {f"hidden_{i + 1}": seen[f"decoder/blocks_{i}"][0] for i in blocks}
    made |= {"memory": seen["image_encoder"].values, "logits": out[..., row["decoder"]]}
    if "text" in arrays:
        real = (batch["text"] != PAD)[..., None]
        made["question"] = seen["text_encoder"].values
        made["question_1"] = np.where(real, seen["text_encoder/block_0"][0], 0)
    return made | {"captions": ids["decoder"][captions.captions(found, batch)]}
