"""CIFAR-10 (Krizhevsky 2009): 32 x 32 photographs, 5,000 + 1,000 of each of ten kinds.

    train        45,000
    validation    5,000   He et al. 2016, section 4.2; test is for the number at the end
    test         10,000

Papers train on all 50,000: `Tfds("cifar10", "train+validation", config="jpeg")`. Configurations:

    official   cifar-10-binary.tar.gz. Validation: the last 5,000 pictures of the five training files.
    jpeg       cifar10_jpeg.zip, copies of the same pictures as JPEG files. That loses something of every picture, so
               numbers on it are not quite those of the papers, and are recorded as `cifar10_jpeg`. The files are
               sorted by class; validation: the last 500 of each.

It takes the place of TFDS's own cifar10, which needs TensorFlow. Licence: none stated.
"""

import hashlib
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vlm_jax.data.datasets.scenes import encode_png
from vlm_jax.data.files import check_sha256, manual_folder

INSTRUCTIONS = """\
CIFAR-10 is placed by hand, in $VLM_JAX_DATA/cifar10 or <data_dir>/downloads/manual/cifar10:
  official: cifar-10-binary.tar.gz, from https://www.cs.toronto.edu/~kriz/cifar.html (the binary version)
  jpeg: cifar10_jpeg.zip, with train/<class>/0000.jpg ... and test/<class>/0000.jpg ...
A file that is refused was cut short or replaced on the way: download it again."""

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIZES = {"train": 5_000, "test": 1_000}  # pictures of each class
NUM_VALIDATION = 500  # of each class
ZIP, TAR = "cifar10_jpeg.zip", "cifar-10-binary.tar.gz"
ZIP_SHA256 = "ce962c3636592f547756899545a76d9da96b647fe7452affc10474e033f56311"
TAR_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # as published
BATCHES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}


# Not registered: TFDS has a cifar10 of its own.
class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Examples: id (the place among the pictures of training; those of test go on at 50,000), image, label."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="official", description="the published pictures"),
        tfds.core.BuilderConfig(name="jpeg", description="lossy copies"),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        encoding = "jpeg" if self.builder_config.name == "jpeg" else "png"
        features = {
            "id": tfds.features.Scalar(np.int64),
            "image": tfds.features.Image(shape=(32, 32, 3), encoding_format=encoding),
            "label": tfds.features.ClassLabel(names=CLASSES),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
            license="none stated",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        folder = manual_folder("cifar10", self.data_dir_root, INSTRUCTIONS)
        if self.builder_config.name == "jpeg":
            train, test = (_jpegs(folder / ZIP, part) for part in ("train", "test"))
            kept_out = [i % SIZES["train"] >= SIZES["train"] - NUM_VALIDATION for i, _ in train]
        else:
            train, test = (_official(folder / TAR, part) for part in ("train", "test"))
            last = len(train) - NUM_VALIDATION * len(CLASSES)
            kept_out = [i >= last for i, _ in train]
        return {
            "train": self._generate_examples(p for p, out in zip(train, kept_out) if not out),
            "validation": self._generate_examples(p for p, out in zip(train, kept_out) if out),
            "test": self._generate_examples((len(train) + i, example) for i, example in test),
        }

    def _generate_examples(self, pictures: Iterator[tuple[int, tuple[bytes, int]]]) -> Iterator:
        for id, (image, label) in pictures:
            yield id, {"id": id, "image": io.BytesIO(image), "label": label}


Numbered = list[tuple[int, tuple[bytes, int]]]  # (place, (encoded picture, label))


def _jpegs(path: Path, part: str) -> Numbered:
    """The files of one part, class by class. Raises for an archive that is missing, short or another, by name."""
    _present(path)
    if ZIP_SHA256:
        check_sha256(path, ZIP_SHA256, INSTRUCTIONS)
    found = []
    try:
        with zipfile.ZipFile(path) as archive:
            for label, name in enumerate(CLASSES):
                for number in range(SIZES[part]):
                    found.append((archive.read(f"{part}/{name}/{number:04d}.jpg"), label))
    except (KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is not whole ({error}).\n{INSTRUCTIONS}") from None
    return list(enumerate(found))


def _official(path: Path, part: str) -> Numbered:
    """The records of the binary files: a label in one byte, then 32 x 32 of red, of green and of blue."""
    _present(path)
    if TAR_MD5 and (given := hashlib.md5(path.read_bytes()).hexdigest()) != TAR_MD5:
        raise ValueError(
            f"{path} is not the published file: md5 {given}, expected {TAR_MD5}; "
            f"{path.stat().st_size:,} bytes.\n{INSTRUCTIONS}"
        )
    found = []
    with tarfile.open(path) as archive:
        for name in BATCHES[part]:
            data = archive.extractfile(f"cifar-10-batches-bin/{name}").read()
            for record in np.frombuffer(data, np.uint8).reshape(-1, 1 + 3 * 32 * 32):
                image = np.ascontiguousarray(record[1:].reshape(3, 32, 32).transpose(1, 2, 0))
                found.append((encode_png(image), int(record[0])))
    return list(enumerate(found))


def _present(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.\n{INSTRUCTIONS}")
