"""Multi30k, task 1 (Elliott et al. 2016, arXiv 1605.00459): captions of Flickr30k in English, translated into German
and French; 29,000 / 1,014 / 1,000 (test 2016).

Licence: for non-commercial research.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vlm_jax.data.files import manual_folder, read_text, well_formed

INSTRUCTIONS = """\
Multi30k is placed by hand, in $VLM_JAX_DATA/multi30k or <data_dir>/downloads/manual/multi30k: the raw texts
train.en, val.en, test_2016_flickr.en and the same with .de and .fr, compressed (.gz) or plain, from
https://github.com/multi30k/dataset (data/task1/raw).
A file that is refused was cut short or replaced on the way: download it again."""

LANGUAGES = ("en", "de", "fr")
FILES = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
SIZES = {"train": 29_000, "validation": 1_014, "test": 1_000}
SHA256 = {  # of the plain texts
    "train.en": "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
    "train.de": "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
    "train.fr": "5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d",
    "val.en": "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
    "val.de": "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
    "val.fr": "5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc",
    "test_2016_flickr.en": "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
    "test_2016_flickr.de": "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
    "test_2016_flickr.fr": "cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6",
}


class Multi30k(tfds.core.GeneratorBasedBuilder):
    """Examples: id (the number of the line), and its text in each language: en, de, fr."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    def _info(self) -> tfds.core.DatasetInfo:
        texts = {language: tfds.features.Text() for language in LANGUAGES}
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict({"id": tfds.features.Scalar(np.int64), **texts}),
            homepage="https://github.com/multi30k/dataset",
            license="non-commercial research",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        folder = manual_folder("multi30k", self.data_dir_root, INSTRUCTIONS)
        texts = {
            split: {language: _lines(folder, split, language) for language in LANGUAGES}
            for split in FILES
        }
        return {split: self._generate_examples(found) for split, found in texts.items()}

    def _generate_examples(self, texts: dict[str, list[str]]) -> Iterator:
        for number, lines in enumerate(zip(*texts.values(), strict=True)):
            translations = {language: well_formed(line) for language, line in zip(texts, lines)}
            yield number, {"id": number, **translations}


def _lines(folder: Path, split: str, language: str) -> list[str]:
    name = f"{FILES[split]}.{language}"
    lines = read_text(folder / name, INSTRUCTIONS).split("\n")
    lines = [line.rstrip("\r") for line in (lines if lines[-1] else lines[:-1])]
    if len(lines) != SIZES[split]:
        raise ValueError(
            f"{folder / name} has {len(lines):,} lines, expected {SIZES[split]:,}.\n{INSTRUCTIONS}"
        )
    read_text(folder / name, INSTRUCTIONS, sha256=SHA256.get(name))
    return lines
