"""COCO captions (Chen et al. 2015, arXiv:1504.00325): 123,287 photographs of 2014, five captions each or more.

Configurations: `karpathy` (Karpathy & Fei-Fei 2015: train 82,783, restval 30,504, validation 5,000, test 5,000;
papers train on "train+restval") and `official` (train 82,783, validation 40,504).

Licence: annotations CC BY 4.0; the photographs belong to their authors on Flickr.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from vlm_jax.data.datasets.flickr8k import (
    Captioned,
    captioning_examples,
    captioning_features,
)
from vlm_jax.data.files import check_pictures, manual_folder, read_json

INSTRUCTIONS = """\
COCO is placed by hand, in $VLM_JAX_DATA/coco_captions or <data_dir>/downloads/manual/coco_captions, unpacked from
http://images.cocodataset.org/zips/{train2014,val2014}.zip and .../annotations/annotations_trainval2014.zip:
  train2014/*.jpg  val2014/*.jpg  annotations/captions_train2014.json  annotations/captions_val2014.json
and, for the Karpathy split, dataset_coco.json from
https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip. It needs as much room again as the zips."""

_KARPATHY = {"train": "train", "restval": "restval", "val": "validation", "test": "test"}
_OFFICIAL = {"train": "train2014", "validation": "val2014"}


@dataclasses.dataclass
class CocoConfig(tfds.core.BuilderConfig):
    """Which split of the same photographs."""


# Not registered: TFDS has a coco_captions of its own, which needs TensorFlow.
class CocoCaptions(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Examples: id (COCO's image id), image, image_name, captions."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    BUILDER_CONFIGS = [
        CocoConfig(name="karpathy", description="dataset_coco.json"),
        CocoConfig(name="official", description="captions_{train,val}2014.json"),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=captioning_features(),
            homepage="https://cocodataset.org",
            license="annotations CC BY 4.0",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        folder = manual_folder("coco_captions", self.data_dir_root, INSTRUCTIONS)
        read = {"karpathy": read_karpathy, "official": read_official}[self.builder_config.name]
        splits = read(folder)
        names = [picture.name for split in splits.values() for picture in split]
        check_pictures(folder, names, INSTRUCTIONS)
        return {split: self._generate_examples(folder, rows) for split, rows in splits.items()}

    def _generate_examples(self, folder: Path, pictures: list[Captioned]) -> Iterator:
        yield from captioning_examples(folder, pictures)


def read_karpathy(folder: Path) -> dict[str, list[Captioned]]:
    splits = {split: [] for split in _KARPATHY.values()}
    for image in read_json(folder / "dataset_coco.json", INSTRUCTIONS)["images"]:
        name = f"{image['filepath']}/{image['filename']}"
        captions = tuple(sentence["raw"] for sentence in image["sentences"])
        splits[_KARPATHY[image["split"]]].append(Captioned(image["cocoid"], name, captions))
    return {split: pictures for split, pictures in splits.items() if pictures}


def read_official(folder: Path) -> dict[str, list[Captioned]]:
    """Captions in the order of their annotation ids; pictures in that of the file."""
    splits = {}
    for split, year in _OFFICIAL.items():
        path = folder / "annotations" / f"captions_{year}.json"
        annotated = read_json(path, INSTRUCTIONS)
        captions = {image["id"]: [] for image in annotated["images"]}
        for annotation in sorted(annotated["annotations"], key=lambda a: a["id"]):
            if annotation["image_id"] not in captions:
                raise ValueError(
                    f"{path}: annotation {annotation['id']} is of picture {annotation['image_id']}, "
                    f"which the file does not list.\n{INSTRUCTIONS}"
                )
            captions[annotation["image_id"]].append(annotation["caption"])
        splits[split] = [
            Captioned(image["id"], f"{year}/{image['file_name']}", tuple(captions[image["id"]]))
            for image in annotated["images"]
        ]
    return splits
