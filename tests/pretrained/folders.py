"""Published folders with weights that a seed gives, a tokenizer of words w3 w4 ..., not for every row, and a processor.

Of one layer each, nearly: how layers follow one another is held to the reference elsewhere, and what they cost is their compilation.
"""

import json

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Sequence, Split

from tests.pretrained import published

MEAN = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_rescale": True, "do_normalize": True}


def folder_of(path, config, specials, processor, **fields):
    published.write(path, config)
    size = config.get("text_config", config.get("decoder", config))["vocab_size"]
    # Tables have often more rows than there are tokens: a number that divides well.
    words = {specials.get(i, f"w{i}"): i for i in range(size) if i < size - 3 or i in specials}
    unknown = next((word for word in specials.values() if "unk" in word.lower()), "w3")
    tokenizer = Tokenizer(WordLevel(words, unk_token=unknown))
    tokenizer.pre_tokenizer = Sequence([Split(" ", "removed"), Split("\n", "isolated")])
    tokenizer.add_special_tokens([word for word in specials.values() if word != "\n"])
    tokenizer.save(str(path / "tokenizer.json"))
    preprocessor = {"image_processor_type": processor, "size": {"height": 8, "width": 8}, **MEAN}
    preprocessor |= fields
    (path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return str(path)


def one_layer(config):
    """The same model with a layer of each kind."""
    counts = ("num_hidden_layers", "num_layers", "n_layer", "num_decoder_layers")
    return {
        key: one_layer(value) if isinstance(value, dict) else 1 if key in counts else value
        for key, value in config.items()
    }


def captioner(path):
    """A ViT and GPT-2; the file has one special token."""
    config = one_layer(published.Stored("ved_b").config)
    config = {**config, "encoder": {**config["encoder"], "num_channels": 3}}
    return folder_of(path, config, {31: "<|endoftext|>"}, "ViTImageProcessor")


def translator(path):
    """A T5, whose decoder begins with its padding."""
    specials = {0: "<pad>", 1: "</s>", 2: "<unk>"}
    return folder_of(path, one_layer(published.Stored("t5_a").config), specials, "none")


def asked(path):
    """A PaliGemma."""
    config = one_layer(published.Stored("paligemma_b").config)
    specials = {0: "<pad>", 1: "<bos>", 2: "<eos>", 3: "<unk>", 108: "\n", 119: "<image>"}
    return folder_of(path, config, specials, "SiglipImageProcessor")


def questioned(path):
    """A BLIP that answers; what its pictures go through stands where transformers 5 has it."""
    config = one_layer(published.Stored("blip_qa").config)
    specials = {0: "[PAD]", 1: "[CLS]", 2: "[SEP]", 3: "[UNK]"}
    folder = folder_of(path, config, specials, "BlipImageProcessor")
    preprocessor = json.loads((path / "preprocessor_config.json").read_text())
    (path / "processor_config.json").write_text(json.dumps({"image_processor": preprocessor}))
    (path / "preprocessor_config.json").unlink()
    return folder


def tiled(path):
    """A SmolVLM whose pictures are cut into up to two rows of two squares; with less than two layers of text they matter little."""
    config = published.Stored("idefics3_b").config
    config = {**config, "vision_config": one_layer(config["vision_config"])}
    specials = {0: "<pad>", 1: "<bos>", 2: "<eos>", 3: "<unk>", 119: "<image>"}
    names = ("fake_token_around_image", "end_of_utterance", "global-img")
    names += tuple(f"row_{i}_col_{j}" for i in (1, 2) for j in (1, 2))
    specials |= {120 + i: f"<{name}>" for i, name in enumerate(names)}
    sizes = {"size": {"longest_edge": 16}, "max_image_size": {"longest_edge": 8}}
    return folder_of(path, config, specials, "SmolVLMImageProcessor", do_pad=True, **sizes)
