"""Generated pictures of odd sizes, and processors as published files describe them, at small sizes."""

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.data.tiles import TiledPrompt
from vlm_jax.pretrained import idefics3, processors
from vlm_jax.text.tokenizers import TokenizerFile

CONFIGS = {
    "vit": {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 12, "width": 9},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 0.00392156862745098,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    },
    "convnext_crop": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 11},
        "crop_pct": 0.8,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
    "mobilenet_v2": {
        "image_processor_type": "MobileNetV2ImageProcessor",
        "size": {"shortest_edge": 13},
        "crop_size": {"height": 11, "width": 10},
    },
    "clip": {
        "image_processor_type": "CLIPImageProcessorFast",
        "size": {"shortest_edge": 12},
        "crop_size": {"height": 12, "width": 12},
        "do_convert_rgb": True,
    },
    "siglip": {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": 11, "width": 11},
        "rescale_factor": 0.01,
    },
    "blip": {"image_processor_type": "BlipImageProcessor", "size": {"height": 10, "width": 10}},
}

# Its pictures come out as patches, of another shape each.
PATCHES = {"image_processor_type": "Siglip2ImageProcessor", "patch_size": 3, "max_num_patches": 12}

# Its pictures come out as squares, of another number each.
TILES = {
    "image_processor_type": "Idefics3ImageProcessor",
    "size": {"longest_edge": 30},
    "max_image_size": {"longest_edge": 8},
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}
ONE_TILE = {**TILES, "image_processor_type": "SmolVLMImageProcessor", "do_image_splitting": False}
CUT = {"tiles": TILES, "one_tile": ONE_TILE}
PLACES, QUESTION = 4, "what is in\n\nit?"
SPECIAL = (
    *(
        "<|endoftext|>",
        "<|im_start|>",
        "<fake_token_around_image>",
        "<image>",
        "<end_of_utterance>",
    ),
    *("<global-img>", "<row_1_col_1>", "<row_1_col_2>", "<row_2_col_1>", "<row_2_col_2>"),
)


def tokenizer() -> str:
    """A tokenizer.json of bytes, of which two line breaks are one token, without a token for the third row or column."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("Ċ", "Ċ"), ("i", "n")]
    words = [*SPECIAL, *letters, *("".join(pair) for pair in pairs)]
    found = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, pairs))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    found.add_special_tokens(list(SPECIAL))
    return found.to_str()


def read_tokenizer(text: str, **fields: Any) -> tuple[TokenizerFile, tuple[int | None, ...]]:
    """Our tokenizer of a tokenizer.json, with the id in the file of each of its rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(text)
        words = TokenizerFile(file=str(path), **fields)
        return words, words.rows_in_file()


def check_squares(name: str, reference: Mapping[str, np.ndarray]) -> None:
    """The squares of every picture are the reference's, those that it does not have are zeros."""
    decode, tiles, normalise, stack = processors.transforms(CUT[name])
    most, start = math.prod(tiles.most) + 1, 0
    for picture, shape in zip(pictures(), reference[f"{name}_tiles"], strict=True):
        cut = tiles(decode({"image": picture, "id": 0}))
        assert tuple(cut["tiles"]) == tuple(shape)
        number = math.prod(shape) + 1
        theirs = reference[f"{name}_bytes"][start : start + number]
        assert np.abs(cut["image"].reshape(theirs.shape).astype(int) - theirs).max() <= 1
        stacked = stack(normalise(cut))["image"]
        assert stacked.shape == (most, 8, 8, 3) and stacked.dtype == np.float32
        there = np.any(stacked != 0, axis=(1, 2, 3))
        assert np.array_equal(there, np.arange(most) < number)
        if name == "tiles" and start == 0:
            expected = reference["tiles_normalised"]
            np.testing.assert_allclose(stacked, expected, atol=2e-5, rtol=1e-5)
        start += number


def check_prompts(reference: Mapping[str, np.ndarray]) -> None:
    """They say where each square lies, token for token as the reference's; in a question nothing is special."""
    words, ids_in_file = read_tokenizer(tokenizer(), vocab_size=300, bos_token="<|im_start|>")
    prompt = TiledPrompt(
        tokenizer=words,
        template=idefics3.TEMPLATE,
        special=idefics3.SPECIAL,
        length=450,
        image_token=words.encode_special("<image>")[0],
        num_images=PLACES,
    )
    decode, tiles, *_ = processors.transforms(TILES)
    theirs = np.split(reference["prompts"], np.cumsum(reference["prompt_lengths"])[:-1])
    for picture, expected in zip(pictures(), theirs, strict=True):
        cut = tiles(decode({"image": picture, "id": 0, "question": QUESTION}))
        assert [ids_in_file[row] for row in prompt.ids(cut)] == expected.tolist()
    spelled = {**cut, "question": "<image><end_of_utterance>"}
    extra = len(prompt.ids(spelled)) - len(prompt.ids({**cut, "question": ""}))
    assert extra == len("<image><end_of_utterance>")


def patches(picture: np.ndarray) -> np.ndarray:
    """[h w c] as PATCHES has it: [12 3*3*c], zeros where there are fewer."""
    size, (height, width, _) = PATCHES["patch_size"], picture.shape
    split = picture.reshape(height // size, size, width // size, size, -1).swapaxes(1, 2)
    found = split.reshape(height * width // size**2, -1)
    return np.pad(found, ((0, PATCHES["max_num_patches"] - len(found)), (0, 0)))


def pictures(number: int = 20) -> list[np.ndarray]:
    """uint8 [h w 3], larger and smaller than what they become, wide and high: edges, ramps and noise."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(number):
        height, width = (int(n) for n in rng.integers(5, 70, 2))
        rows, columns = np.mgrid[:height, :width]
        ramp = np.stack([3 * rows + columns, 5 * columns, 255 - 2 * rows], axis=-1)
        edges = 255 * ((rows // (2 + i % 3) + columns // (1 + i % 4)) % 2)[..., None]
        noise = rng.integers(0, 256, (height, width, 3))
        found.append((np.choose(i % 3, [ramp, edges + 0 * ramp, noise]) % 256).astype(np.uint8))
    return found
