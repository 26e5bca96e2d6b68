"""Tests of word vectors: Google's analogies (Mikolov et al. 2013, arXiv 1301.3781) and people's similarity scores.

Licences: as of each list; most are for research.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vlm_jax.data.files import check_sha256, manual_folder

INSTRUCTIONS = """\
word_eval is placed by hand, in $VLM_JAX_DATA/word_eval or <data_dir>/downloads/manual/word_eval:
  question-data/*.txt   Google's analogies, a file a section, as in https://github.com/stanfordnlp/GloVe (eval/)
  word-sim/EN-*.txt     word, word, score, as in https://github.com/mfaruqui/eval-word-vectors (data/word-sim)
A file that is refused was cut short or replaced on the way: download it again."""

ANALOGIES = {  # split -> section -> its sha256
    "semantic": {
        "capital-common-countries": "e7327a1cd0b79da1644b8fd422b0b1f56aad9aba011e4d18035700257ad72010",
        "capital-world": "d148049b13030522bcc985f3af36224027a1fe46df0c39a1f4e8041b4517a0a2",
        "city-in-state": "9369b1f39cc987fe50a17cc4e390f42027ab301ec9cec2d9d883f5edfadd10eb",
        "currency": "eb213f430ef60085e99358dad92cb196959452109e371902db76323a44ec61a4",
        "family": "ec4d151da592b533ec927887baa69c072d336aecbf4bf293a9ca930d286d0ea0",
    },
    "syntactic": {
        "gram1-adjective-to-adverb": "3ab98fefcf131adc4f4ff489aaef6433fc72fdbce94028a0da1eb2638272d72c",
        "gram2-opposite": "e468c349272062d59d3b73eb0f40128c2873f0eed724ef9b92129aa6e86eb837",
        "gram3-comparative": "65297594c90d6814c8d30ad0cfe795b95dc9d9e7c0d322434b77645c87440da9",
        "gram4-superlative": "ec90e07fdfbac8d3459a0000b87b62e4b7ff6dc2acfb357a096a7fe138a6759a",
        "gram5-present-participle": "a4cc19a16a7b47899bba149210f3018669379df30aa3c6ab877ad167193481fc",
        "gram6-nationality-adjective": "5d327bd1bfdd64f4b408cd33a4b4b898b8ea6830113289cc79fcca2967270c47",
        "gram7-past-tense": "f956efe4525de66c27a65c715002bc945b15359ae4d4d3c2770ef16bc3de2126",
        "gram8-plural": "50527c8515f385a32e127bc49a82c1665030db6bb6bf7c5a72b04c3719a78b4c",
        "gram9-plural-verbs": "94c326b836d3eff285f9ae286a6304fd117215d2957e6684921d639f76c57ffd",
    },
}
SIMILARITY = {  # split -> file, its sha256
    "ws353": (
        "EN-WS-353-ALL.txt",
        "ce12919b240af45bdf46d243601eaca2b6212b159b5e7e9b435ee7ee40c5619c",
    ),
    "simlex999": (
        "EN-SIMLEX-999.txt",
        "405394ffb7d25f6d0e3c041f87c9f27d29dc6b047506769953e85c4523b11685",
    ),
    "men": (
        "EN-MEN-TR-3k.txt",
        "888b13580faa362c7b11da0a670258cf1b1eb4bf0ecbcd418918729a3bd3f43a",
    ),
    "mturk771": (
        "EN-MTurk-771.txt",
        "04dc297c9e86b6fa7cf8ef0e4ba2e2c8d3399ec68d92fb7a53c0b4aae27198b5",
    ),
}


class WordEval(tfds.core.GeneratorBasedBuilder):
    """`analogies`, splits semantic and syntactic: id, query ("greece - athens + baghdad"), answer ("iraq"), section.
    `similarity`, splits ws353, simlex999, men and mturk771: id, first, second, score."""

    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("analogies", "similarity")]
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        if self.builder_config.name == "analogies":
            features = {"id": np.int64, "query": text, "answer": text, "section": text}
        else:
            features = {"id": np.int64, "first": text, "second": text, "score": np.float32}
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(features),
            homepage="https://github.com/mfaruqui/eval-word-vectors",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        folder = manual_folder("word_eval", self.data_dir_root, INSTRUCTIONS)
        if self.builder_config.name == "similarity":
            return {
                split: self._generate_examples(pairs(folder / "word-sim" / name, expected))
                for split, (name, expected) in SIMILARITY.items()
            }
        return {
            split: self._generate_examples(
                question
                for section, expected in sections.items()
                for question in questions(folder / "question-data" / f"{section}.txt", expected)
            )
            for split, sections in ANALOGIES.items()
        }

    def _generate_examples(self, examples: Iterable[dict[str, Any]]) -> Iterator:
        for number, example in enumerate(examples):
            yield number, {"id": number, **example}


def questions(path: Path, expected: str | None = None) -> Iterator[dict[str, Any]]:
    """The analogies of a file: four words a line, "a b c d" for a is to b as c is to d."""
    for number, line in _lines(path, expected):
        words = line.split()
        if len(words) != 4:
            raise ValueError(f"{path} line {number}: given {line!r}, expected four words")
        a, b, c, d = words
        yield {"query": f"{b} - {a} + {c}", "answer": d, "section": path.stem}


def pairs(path: Path, expected: str | None = None) -> Iterator[dict[str, Any]]:
    """The pairs of a file: two words and a score a line."""
    for number, line in _lines(path, expected):
        words = line.split()
        try:
            first, second, score = words[0], words[1], float(words[2])
        except (IndexError, ValueError):
            raise ValueError(
                f"{path} line {number}: given {line!r}, expected two words and a number"
            ) from None
        yield {"first": first, "second": second, "score": score}


def _lines(path: Path, expected: str | None) -> Iterator[tuple[int, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.\n{INSTRUCTIONS}")
    if expected is not None:
        check_sha256(path, expected, INSTRUCTIONS)
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line.strip()
