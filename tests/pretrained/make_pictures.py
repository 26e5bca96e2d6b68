"""Writes tests/pretrained/pictures.npz: what transformers' processors make of 20 generated pictures each.

    python -m tests.pretrained.make_pictures

Run by hand, with a Python that has torch, transformers and Pillow beside this package. The processors are those that
need Pillow alone, of Pillow 12; Pillow 13 resizes some pictures in another order and is up to 4 of 255 away. Stored are the
bytes before normalisation, and one normalised picture of each.
"""

import sys

import numpy as np

from tests.pretrained import processed
from tests.pretrained.published import STORED


def main() -> int:
    import transformers

    arrays = {}
    for name, config in processed.CONFIGS.items():
        kind = config.get("image_processor_type") or config["feature_extractor_type"]
        kind = kind.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")
        processor = getattr(transformers, f"{kind}Pil").from_dict(dict(config))
        pictures = [processor(p, return_tensors="np").pixel_values[0] for p in processed.pictures()]
        arrays[f"{name}_normalised"] = pictures[0].transpose(1, 2, 0)
        plain = {**config, "do_rescale": False, "do_normalize": False}
        processor = getattr(transformers, f"{kind}Pil").from_dict(plain)
        resized = [processor(p, return_tensors="np").pixel_values[0] for p in processed.pictures()]
        arrays[f"{name}_bytes"] = np.stack(resized).transpose(0, 2, 3, 1)
        assert arrays[f"{name}_bytes"].dtype == np.uint8, arrays[f"{name}_bytes"].dtype
    plain = {**processed.PATCHES, "do_rescale": False, "do_normalize": False}
    processor = transformers.Siglip2ImageProcessorPil.from_dict(plain)
    found = [processor(p, return_tensors="np").pixel_values[0] for p in processed.pictures()]
    arrays["patches"] = np.stack(found).astype(np.uint8)
    arrays |= tiles()
    np.savez_compressed(STORED.parent / "pictures.npz", **arrays)
    print(f"{(STORED.parent / 'pictures.npz').stat().st_size:,} bytes")
    return 0


def tiles() -> dict[str, np.ndarray]:
    """The squares of all pictures one below the other, how many each has, and prompts that keep places for them."""
    import transformers
    from tokenizers import Tokenizer

    arrays = {}
    for name, config in {"tiles": processed.TILES, "one_tile": processed.ONE_TILE}.items():
        kind = getattr(transformers, f"{config['image_processor_type']}Pil")
        plain = kind.from_dict(
            {**config, "do_rescale": False, "do_normalize": False, "do_pad": False}
        )
        found = [plain(p, return_row_col_info=True) for p in processed.pictures()]
        squares = [np.stack(each.pixel_values[0]) for each in found]
        arrays[f"{name}_bytes"] = np.concatenate(squares).transpose(0, 2, 3, 1).astype(np.uint8)
        arrays[f"{name}_tiles"] = np.array(
            [(each["rows"][0][0], each["cols"][0][0]) for each in found]
        )
    processor = transformers.Idefics3ImageProcessorPil.from_dict(processed.TILES)
    squares = processor(processed.pictures()[0], return_tensors="np").pixel_values[0]
    arrays["tiles_normalised"] = squares.transpose(0, 2, 3, 1)
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(processed.tokenizer()), bos_token="<|im_start|>"
    )
    whole = transformers.Idefics3Processor(processor, words, image_seq_len=processed.PLACES)
    prompts = []
    for picture in processed.pictures():
        text = f"<|im_start|>User:<image>{processed.QUESTION}<end_of_utterance>\nAssistant:"
        prompts.append(whole(images=[picture], text=text).input_ids[0])
    arrays["prompts"] = np.concatenate(prompts)
    arrays["prompt_lengths"] = np.array([len(ids) for ids in prompts])
    return arrays


if __name__ == "__main__":
    sys.exit(main())
