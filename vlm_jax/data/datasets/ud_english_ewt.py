"""The Universal Dependencies English Web Treebank (Silveira et al. 2014): weblogs, newsgroups, e-mails, reviews and
answers from the web, tagged and parsed; 12,544 / 2,001 / 2,077 sentences.

Licence: CC BY-SA 4.0.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vlm_jax.data.datasets.features import numbers, texts
from vlm_jax.data.files import manual_folder, read_text, well_formed
from vlm_jax.text.conllu import Sentence, read_conllu

INSTRUCTIONS = """\
UD English-EWT is placed by hand, in $VLM_JAX_DATA/ud_english_ewt or <data_dir>/downloads/manual/ud_english_ewt:
en_ewt-ud-train.conllu, en_ewt-ud-dev.conllu and en_ewt-ud-test.conllu, compressed (.gz) or plain, from
https://github.com/UniversalDependencies/UD_English-EWT.
A file that is refused was cut short, replaced on the way, or is of another release: download it again."""

FILES = {"train": "train", "validation": "dev", "test": "test"}
SIZES = {"train": 12_544, "validation": 2_001, "test": 2_077}
SHA256 = {  # of the plain texts
    "train": "3fb78e2b55482c8ee00caa653af436c88c9e5bc9a73ce26e4ae3ddc79d2b7e7b",
    "validation": "531a54ff90d6ab12201c5a50c3e78e6ddac4de69abc4bce5d275d3cd29efe2b6",
    "test": "e266e515a0a7547657ed3d90d9ba46487d6bd251f27ad4269d4e8a427c8555cd",
}


class UdEnglishEwt(tfds.core.GeneratorBasedBuilder):
    """Examples: id (the number of the sentence in its file), and for each word words, upos, xpos, heads, relations."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    def _info(self) -> tfds.core.DatasetInfo:
        columns = {name: texts() for name in Sentence._fields}
        columns["heads"] = numbers()
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict({"id": tfds.features.Scalar(np.int64), **columns}),
            homepage="https://universaldependencies.org/treebanks/en_ewt/",
            license="CC BY-SA 4.0",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        folder = manual_folder("ud_english_ewt", self.data_dir_root, INSTRUCTIONS)
        read = {split: _sentences(folder, split) for split in FILES}
        return {split: self._generate_examples(found) for split, found in read.items()}

    def _generate_examples(self, sentences: list[Sentence]) -> Iterator:
        for number, sentence in enumerate(sentences):
            columns = {
                name: [well_formed(v) if isinstance(v, str) else v for v in values]
                for name, values in sentence._asdict().items()
            }
            yield number, {"id": number, **columns}


def _sentences(folder: Path, split: str) -> list[Sentence]:
    path = folder / f"en_ewt-ud-{FILES[split]}.conllu"
    text = read_text(path, INSTRUCTIONS)
    try:
        found = list(read_conllu(io.StringIO(text), str(path)))
    except ValueError as error:
        raise ValueError(f"{error}\n{INSTRUCTIONS}") from None
    if len(found) != SIZES[split]:
        raise ValueError(
            f"{path} has {len(found):,} sentences, expected {SIZES[split]:,}.\n{INSTRUCTIONS}"
        )
    read_text(path, INSTRUCTIONS, sha256=SHA256.get(split))
    return found
