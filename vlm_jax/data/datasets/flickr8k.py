"""Flickr8k (Hodosh et al. 2013, JAIR 47): 8,000 photographs with five captions each; 6,000 / 1,000 / 1,000.

Licence: for non-commercial research and education; the photographs belong to their authors on Flickr.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from vlm_jax.data.datasets.features import texts
from vlm_jax.data.files import (
    check_pictures,
    check_sha256,
    manual_folder,
    read_json,
    well_formed,
)

INSTRUCTIONS = """\
Flickr8k is placed by hand, in $VLM_JAX_DATA/flickr8k or <data_dir>/downloads/manual/flickr8k, in either layout:
  Images/*.jpg and captions.txt (Kaggle, adityajn105/flickr8k), with dataset_flickr8k.json from Karpathy's
    caption_datasets.zip (https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip); or
  Flicker8k_Dataset/*.jpg (Flickr8k_Dataset.zip) with Flickr8k.token.txt, Flickr_8k.trainImages.txt,
    Flickr_8k.devImages.txt and Flickr_8k.testImages.txt (Flickr8k_text.zip), also in Flickr8k_text/.
A file that is refused was cut short or replaced on the way: download it again."""

SIZES = {"train": 6000, "validation": 1000, "test": 1000}
SHA256 = {
    "captions.txt": "e6cf5e8d8025d25b50a4945c38580d96a940b78644f31a90368dfcdca3c7e036",
    "dataset_flickr8k.json": "ce467057af54e8a8b7078fa6000c15cb3605dbfb36c3cc6a202cca90e8a9741e",
}
_PICTURE_FOLDERS = ("Images", "Flicker8k_Dataset", "Flickr8k_Dataset")


class Flickr8k(tfds.core.GeneratorBasedBuilder):
    """Examples: id (Karpathy's imgid), image, image_name, captions, in the order of the split's file."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=captioning_features(),
            homepage="https://hockenmaier.cs.illinois.edu/Framing_Image_Description/",
            license="non-commercial research and education",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        folder = manual_folder("flickr8k", self.data_dir_root, INSTRUCTIONS)
        splits = _read_splits(folder)
        pictures = _picture_folder(folder)
        names = [picture.name for split in splits.values() for picture in split]
        check_pictures(pictures, names, INSTRUCTIONS)
        _check_jpegs(pictures, names)
        return {split: self._generate_examples(pictures, rows) for split, rows in splits.items()}

    def _generate_examples(self, folder: Path, pictures: list["Captioned"]) -> Iterator:
        yield from captioning_examples(folder, pictures)


class Captioned(NamedTuple):
    id: int
    name: str  # relative to the folder of pictures
    captions: tuple[str, ...]


def captioning_features() -> tfds.features.FeaturesDict:
    """What every captioning builder stores. Pictures are copied as they are, encoded."""
    return tfds.features.FeaturesDict(
        {
            "id": tfds.features.Scalar(np.int64),
            "image": tfds.features.Image(shape=(None, None, 3)),
            "image_name": tfds.features.Text(),
            "captions": texts(),
        }
    )


def captioning_examples(folder: Path, pictures: list[Captioned]) -> Iterator[tuple[int, dict]]:
    for number, (id, name, captions) in enumerate(pictures):
        image = (folder / name).read_bytes()
        captions = [well_formed(caption) for caption in captions]
        yield number, {"id": id, "image": image, "image_name": name, "captions": captions}


# ---- the two layouts


def _read_splits(folder: Path) -> dict[str, list[Captioned]]:
    for text_folder in (folder, folder / "Flickr8k_text"):
        if (text_folder / "dataset_flickr8k.json").exists():
            splits = _read_karpathy(text_folder)
            break
        if (text_folder / "Flickr8k.token.txt").exists():
            splits = _read_original(text_folder)
            break
    else:
        raise FileNotFoundError(
            f"{folder} has neither dataset_flickr8k.json nor Flickr8k.token.txt.\n{INSTRUCTIONS}"
        )
    for split, size in SIZES.items():
        if len(splits[split]) != size:
            raise ValueError(
                f"{text_folder}: split {split} has {len(splits[split]):,} pictures, expected {size:,}.\n"
                f"{INSTRUCTIONS}"
            )
    return splits


def _read_karpathy(folder: Path) -> dict[str, list[Captioned]]:
    for name, expected in SHA256.items():
        if (folder / name).exists():
            check_sha256(folder / name, expected, INSTRUCTIONS)
    splits = {split: [] for split in SIZES}
    for image in read_json(folder / "dataset_flickr8k.json", INSTRUCTIONS)["images"]:
        split = "validation" if image["split"] == "val" else image["split"]
        captions = tuple(sentence["raw"] for sentence in image["sentences"])
        splits[split].append(Captioned(image["imgid"], image["filename"], captions))
    return splits


def _read_original(folder: Path) -> dict[str, list[Captioned]]:
    """The files have no published sums, so they are checked by counts. Ids number the pictures over the splits."""
    captions = defaultdict(list)
    for number, line in enumerate(_lines(folder / "Flickr8k.token.txt"), start=1):
        name, tab, caption = line.partition("\t")
        if not tab or "#" not in name:
            raise ValueError(
                f"{folder}/Flickr8k.token.txt line {number}: given {line[:80]!r}, "
                f"expected 'name.jpg#0<tab>caption'.\n{INSTRUCTIONS}"
            )
        captions[name.rpartition("#")[0]].append(caption)
    splits, id = {}, 0
    for split, short in (("train", "train"), ("validation", "dev"), ("test", "test")):
        splits[split] = []
        for name in _lines(folder / f"Flickr_8k.{short}Images.txt"):
            splits[split].append(Captioned(id, name, tuple(captions[name])))
            id += 1
    pictures = [picture for split in splits.values() for picture in split]
    short = [picture.name for picture in pictures if len(picture.captions) != 5]
    twice = [name for name, count in Counter(p.name for p in pictures).items() if count > 1]
    for what, names in (("without five captions", short), ("named twice", twice)):
        if names:
            raise ValueError(
                f"{folder}: {len(names)} pictures {what}: {', '.join(names[:10])}.\n{INSTRUCTIONS}"
            )
    return splits


def _lines(path: Path) -> list[str]:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing.\n{INSTRUCTIONS}")
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [line.rstrip("\r") for line in lines if line.strip()]


def _picture_folder(folder: Path) -> Path:
    for name in _PICTURE_FOLDERS:
        if (folder / name).is_dir():
            return folder / name
    raise FileNotFoundError(
        f"{folder} has no folder {' or '.join(_PICTURE_FOLDERS)}.\n{INSTRUCTIONS}"
    )


def _check_jpegs(folder: Path, names: list[str]) -> None:
    """Refuses by name what is no JPEG, or ends early: a JPEG begins FF D8 and ends FF D9."""
    bad = []
    for name in names:
        image = (folder / name).read_bytes()
        if image[:2] != b"\xff\xd8":
            bad.append(f"{name} (begins {image[:20]!r})")
        elif b"\xff\xd9" not in image[-64:]:
            bad.append(f"{name} (cut short at {len(image):,} bytes)")
    if bad:
        more = f" and {len(bad) - 10:,} more" if len(bad) > 10 else ""
        raise ValueError(
            f"{len(bad):,} of {len(names):,} pictures in {folder} are not whole JPEG files: "
            f"{', '.join(bad[:10])}{more}.\n{INSTRUCTIONS}"
        )
