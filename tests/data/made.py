"""Small sources and folders that the data tests make themselves."""

import dataclasses
import io
import json

import numpy as np
from PIL import Image

from vlm_jax.data.image_transforms import BadImage
from vlm_jax.data.source import InMemory

HOSTILE = (
    "",
    " ".join(["word"] * 10_000),
    "👩‍👩‍👧‍👦 a family 🇪🇺",
    "nul \0 inside",
    "lone \ud83d surrogate",
    "the literal <eos> and <image>",
    'quotes " and, commas\tand tabs',
    "مرحبا بالعالم",
)


def jpeg(number: int = 0, size: int = 8) -> bytes:
    """A small picture; another number is another colour."""
    file = io.BytesIO()
    Image.new("RGB", (size, size), (number * 37 % 256, number * 91 % 256, 128)).save(file, "JPEG")
    return file.getvalue()


def numbers(count: int) -> InMemory:
    """Examples with ids 100, 101, ... and nothing to decode."""
    return InMemory(
        [{"id": np.int64(100 + i), "x": np.float32(i), "name": f"n{i}"} for i in range(count)]
    )


@dataclasses.dataclass(frozen=True)
class Draw:
    """Writes the random number that an augmentation would get."""

    def __call__(self, example, rng):
        return {**example, "draw": rng.integers(1 << 31)}


@dataclasses.dataclass(frozen=True)
class Refuse:
    """Raises BadImage for these ids."""

    ids: tuple[int, ...]

    def __call__(self, example, rng):
        if int(example["id"]) in self.ids:
            raise BadImage(f"picture {int(example['id'])}", "made bad")
        return example


def write_karpathy(folder, sizes, captions=None, pictures="Images"):
    """The Kaggle layout with Karpathy's json: `sizes` is {"train": 4, "val": 2, ...}."""
    (folder / pictures).mkdir(parents=True)
    images, number = [], 0
    for split, size in sizes.items():
        for _ in range(size):
            texts = captions or tuple(f"caption {k} of picture {number} ." for k in range(5))
            name = f"{number:04d}.jpg"
            (folder / pictures / name).write_bytes(jpeg(number))
            sentences = [{"raw": text} for text in texts]
            image = {"imgid": number, "filename": name, "split": split, "sentences": sentences}
            images.append(image)
            number += 1
    (folder / "dataset_flickr8k.json").write_text(json.dumps({"images": images}))
    return images


def write_image_folder(folder, count, captions_each=2):
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["image,caption,split"]
    for i in range(count):
        (folder / f"{i:03d}.jpg").write_bytes(jpeg(i))
        rows += [f"{i:03d}.jpg,caption {k} of {i},train" for k in range(captions_each)]
    (folder / "captions.csv").write_text("\n".join(rows))
    return folder
