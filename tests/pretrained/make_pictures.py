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
    np.savez_compressed(STORED.parent / "pictures.npz", **arrays)
    print(f"{(STORED.parent / 'pictures.npz').stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
