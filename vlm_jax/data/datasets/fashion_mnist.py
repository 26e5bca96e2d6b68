"""Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747): grey 28 x 28 pictures of clothes,
6,000 + 1,000 of each of ten kinds.

    train        55,000
    validation    5,000   the last of the training file; test is for the number at the end
    test         10,000

Papers train on all 60,000: `Tfds("fashion_mnist", "train+validation")`. Pictures stand in the order of their file,
whatever that is; what is checked is that they are the published ones with their labels.

It takes the place of TFDS's own fashion_mnist, which needs TensorFlow to be prepared. Licence: MIT.
"""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vlm_jax.data.datasets.scenes import encode_png
from vlm_jax.data.files import manual_folder

INSTRUCTIONS = """\
Fashion-MNIST is placed by hand, in $VLM_JAX_DATA/fashion_mnist or <data_dir>/downloads/manual/fashion_mnist:
train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each compressed
(.gz) or plain, from https://github.com/zalandoresearch/fashion-mnist (data/fashion).
A file that is refused was cut short or replaced on the way: download it again."""

CLASSES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")  # fmt: skip
SIZES = {"train": 60_000, "t10k": 10_000}  # pictures in each pair of files
NUM_VALIDATION = 5_000
CONTENT = {  # of pictures with their labels, in any order: `content_of`
    "train": "0c69d5cdeb902b69084012f812f066de080317bb3c64f43ca87f910d8ec86906",
    "t10k": "90c92c0507755a7d443edde8297ce4d0f131e42884e2e87e7fc9b81ffe215258",
}


# Not registered: TFDS has a fashion_mnist of its own.
class FashionMnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Examples: id (the place in its file; those of test go on at 60,000), image, label."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "id": tfds.features.Scalar(np.int64),
            "image": tfds.features.Image(shape=(28, 28, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=CLASSES),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            license="MIT",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        folder = manual_folder("fashion_mnist", self.data_dir_root, INSTRUCTIONS)
        train, test = (read_pair(folder, part) for part in ("train", "t10k"))
        cut = len(train[1]) - NUM_VALIDATION
        return {
            "train": self._generate_examples(0, train[0][:cut], train[1][:cut]),
            "validation": self._generate_examples(cut, train[0][cut:], train[1][cut:]),
            "test": self._generate_examples(len(train[1]), *test),
        }

    def _generate_examples(self, first: int, images: np.ndarray, labels: np.ndarray) -> Iterator:
        for id, (image, label) in enumerate(zip(images, labels.tolist()), first):
            yield id, {"id": id, "image": io.BytesIO(encode_png(image)), "label": label}


def read_pair(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 [b 28 28] and their labels uint8 [b]. Raises for a file that is missing, short or another, by name."""
    size = SIZES[part]
    images = read_idx(folder / f"{part}-images-idx3-ubyte", (size, 28, 28))
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte", (size,))
    given = content_of(images, labels)
    if given != CONTENT[part]:
        raise ValueError(
            f"{folder}: {part}-images-idx3-ubyte and {part}-labels-idx1-ubyte do not hold the published pictures with "
            f"their labels: content {given}, expected {CONTENT[part]}.\n{INSTRUCTIONS}"
        )
    return images, labels


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The unsigned bytes of an idx file: 0 0 8 and the number of sizes, the sizes in 32 bits, then the values."""
    packed = path.with_name(f"{path.name}.gz")
    found = path if path.exists() else packed
    try:
        data = found.read_bytes() if found == path else gzip.decompress(found.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing, and so is {packed.name}.\n{INSTRUCTIONS}"
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{found} is not whole ({error}).\n{INSTRUCTIONS}") from None
    header = np.array([0x800 + len(shape), *shape], ">u4").tobytes()
    expected = len(header) + int(np.prod(shape))
    if data[: len(header)] != header or len(data) != expected:
        raise ValueError(
            f"{found} has {len(data):,} bytes beginning {data[:20]!r}, expected {expected:,} beginning {header!r}: an "
            f"idx file of {' x '.join(map(str, shape))} bytes.\n{INSTRUCTIONS}"
        )
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape)


def content_of(images: np.ndarray, labels: np.ndarray) -> str:
    """A sha256 of the pictures with their labels that does not depend on their order."""
    pairs = zip(images.reshape(len(images), -1), labels)
    each = sorted(hashlib.sha256(bytes([y]) + x.tobytes()).digest() for x, y in pairs)
    return hashlib.sha256(b"".join(each)).hexdigest()
