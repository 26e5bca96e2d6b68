"""Fashion-MNIST and CIFAR-10: which picture is where, and files that are refused by name."""

import gzip
import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from vlm_jax.data.datasets import cifar10, fashion_mnist
from vlm_jax.data.image_transforms import Decode
from vlm_jax.data.source import Tfds

SPLITS = ("train", "validation", "test")


def folder_for(name, tmp_path, monkeypatch):
    monkeypatch.delenv("VLM_JAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    folder = tmp_path / "downloads" / "manual" / name
    folder.mkdir(parents=True)
    return folder


def picture(example) -> np.ndarray:
    return Decode(channels=1 if example["image"][25:26] == b"\0" else 3)(example)["image"]


# ---- Fashion-MNIST


@pytest.fixture
def clothes(tmp_path, monkeypatch):
    """Eight pictures and three, one pair of files plain; picture i is full of i, its label i % 10."""
    folder = folder_for("fashion_mnist", tmp_path, monkeypatch)
    monkeypatch.setattr(fashion_mnist, "SIZES", {"train": 8, "t10k": 3})
    monkeypatch.setattr(fashion_mnist, "NUM_VALIDATION", 2)
    content = {}
    for part, numbers in (("train", range(8)), ("t10k", range(100, 103))):
        images = np.array([np.full((28, 28), i) for i in numbers], np.uint8)
        labels = np.array([i % 10 for i in numbers], np.uint8)
        content[part] = fashion_mnist.content_of(images, labels)
        for what, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = np.array([0x800 + values.ndim, *values.shape], ">u4").tobytes()
            path, data = folder / f"{part}-{what}-ubyte", header + values.tobytes()
            if part == "train":
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(data))
            else:
                path.write_bytes(data)
    monkeypatch.setattr(fashion_mnist, "CONTENT", content)
    return folder


def test_validation_is_the_end_of_the_training_file_and_every_picture_has_its_label(clothes):
    parts = {split: Tfds("fashion_mnist", split) for split in (*SPLITS, "train+validation")}
    found = {split: [part[i] for i in range(len(part))] for split, part in parts.items()}
    ids = {split: [int(example["id"]) for example in examples] for split, examples in found.items()}
    assert ids["train"] == [0, 1, 2, 3, 4, 5] and ids["validation"] == [6, 7]
    assert ids["test"] == [8, 9, 10] and ids["train+validation"] == list(range(8))
    for split, first in (("train+validation", 0), ("test", 100)):
        for number, example in enumerate(found[split], first):
            image = picture(example)
            assert image.shape == (28, 28, 1) and (image == number).all()
            assert example["label"] == number % 10


@pytest.mark.parametrize(
    "name, damage, message",
    [
        ("t10k-labels-idx1-ubyte", lambda data: None, "t10k-labels-idx1-ubyte is missing.*zalando"),
        ("t10k-images-idx3-ubyte", lambda data: data[:-1], "t10k-images.* has 2,367 bytes"),
        ("train-labels-idx1-ubyte.gz", lambda data: data[:-9], "train-labels.*gz is not whole"),
        (
            "t10k-images-idx3-ubyte",
            lambda data: b"<html>404",
            "t10k-images.*beginning b'<html>404'",
        ),
        # The right pictures with the labels of others.
        ("t10k-labels-idx1-ubyte", lambda d: d[:-3] + d[:-4:-1], "t10k-images.*their labels"),
    ],
)
def test_files_that_are_missing_short_or_other_are_refused_by_name(clothes, name, damage, message):
    data = damage((clothes / name).read_bytes())
    (clothes / name).unlink() if data is None else (clothes / name).write_bytes(data)
    with pytest.raises((ValueError, FileNotFoundError), match=f"(?s){message}"):
        for part in ("train", "t10k"):
            fashion_mnist.read_pair(clothes, part)


def test_the_order_of_the_pictures_is_not_checked_but_their_labels_are():
    images, labels = np.arange(6, dtype=np.uint8).reshape(3, 2), np.array([1, 2, 3], np.uint8)
    given = fashion_mnist.content_of(images, labels)
    assert given == fashion_mnist.content_of(images[::-1], labels[::-1])
    assert given != fashion_mnist.content_of(images, labels[::-1])


@pytest.mark.skipif("VLM_JAX_DATA" not in os.environ, reason="VLM_JAX_DATA is not set")
def test_the_real_test_set_is_the_published_one():
    folder = fashion_mnist.manual_folder("fashion_mnist", "/nowhere", "")
    images, labels = fashion_mnist.read_pair(folder, "t10k")
    assert images.shape == (10_000, 28, 28) and (np.bincount(labels) == 1000).all()


# ---- CIFAR-10


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Four pictures of each class and one, in both forms; number j of class k is of colour (k, j, 0)."""
    folder = folder_for("cifar10", tmp_path, monkeypatch)
    for name, value in {
        "SIZES": {"train": 4, "test": 1},
        "NUM_VALIDATION": 1,
        "ZIP_SHA256": "",
        "TAR_MD5": "",
    }.items():
        monkeypatch.setattr(cifar10, name, value)
    with zipfile.ZipFile(folder / cifar10.ZIP, "w") as archive:
        for part, size in cifar10.SIZES.items():
            for k, name in enumerate(cifar10.CLASSES):
                for j in range(size):
                    file = io.BytesIO()
                    colour = (20 * k, 50 * j, 0)
                    Image.new("RGB", (32, 32), colour).save(file, "JPEG", quality=100)
                    archive.writestr(f"{part}/{name}/{j:04d}.jpg", file.getvalue())
    with tarfile.open(folder / cifar10.TAR, "w:gz") as archive:
        for batch, name in enumerate((*cifar10.BATCHES["train"], *cifar10.BATCHES["test"])):
            record = b"".join(
                bytes([k, *[k] * 1024, *[batch] * 1024, *[7] * 1024]) for k in range(10)
            )
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(record)
            archive.addfile(info, io.BytesIO(record))
    return folder


def test_validation_of_the_copies_has_the_last_of_each_class(photographs):
    parts = {split: Tfds("cifar10", split, config="jpeg") for split in SPLITS}
    assert [len(part) for part in parts.values()] == [30, 10, 10]
    for split, part in parts.items():
        for example in (part[i] for i in range(len(part))):
            number = 3 if split == "validation" else int(example["id"]) % 4
            colour = (20 * int(example["label"]), 0 if split == "test" else 50 * number, 0)
            assert np.abs(picture(example).astype(int) - colour).max() < 6
            assert split == "test" or int(example["id"]) // 4 == example["label"]


def test_the_published_records_are_planes_of_red_green_and_blue(photographs, monkeypatch):
    parts = {split: Tfds("cifar10", split, config="official") for split in SPLITS}
    assert [len(part) for part in parts.values()] == [40, 10, 10]
    example = parts["validation"][3]  # of the fifth file
    assert (example["id"], example["label"]) == (43, 3)
    assert (picture(example) == (3, 4, 7)).all()
    monkeypatch.setattr(cifar10, "TAR_MD5", "0" * 32)
    with pytest.raises(ValueError, match="(?s)cifar-10-binary.tar.gz is not the published.*kriz"):
        cifar10._official(photographs / cifar10.TAR, "test")


def test_an_archive_that_is_missing_short_or_another_is_refused_by_name(photographs, monkeypatch):
    path = photographs / cifar10.ZIP
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(ValueError, match="(?s)cifar10_jpeg.zip is not whole.*kriz"):
        cifar10._jpegs(path, "test")
    monkeypatch.setattr(cifar10, "ZIP_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="(?s)cifar10_jpeg.zip is not the published file.*kriz"):
        cifar10._jpegs(path, "test")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="(?s)cifar10_jpeg.zip is missing.*kriz"):
        cifar10._jpegs(path, "test")
