"""AESLC (Zhang and Tetreault 2019, ACL, arXiv 1906.03497): e-mails of Enron with their subjects; 14,436 / 1,960 / 1,906.

For each e-mail of validation and test three people wrote another subject. Licence: the e-mails are public
records of an investigation; the annotations are given without one.
"""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vlm_jax.data.datasets.features import texts
from vlm_jax.data.files import manual_folder, well_formed

INSTRUCTIONS = """\
AESLC is placed by hand, in $VLM_JAX_DATA/aeslc or <data_dir>/downloads/manual/aeslc: train.jsonl, dev.jsonl and
test.jsonl, or each with .gz, one e-mail a line: {"id", "body", "subject"}, in dev and test also "ann0", "ann1" and
"ann2". Made of the folder enron_subject_line of https://github.com/ryanzhumich/AESLC, sorted by name.
A file that is refused was cut short or replaced on the way: make it again."""

SIZES = {"train": 14_436, "dev": 1_960, "test": 1_906}
SHA256 = {  # of the lines, uncompressed
    "train": "a4fc8955b5c74a7cbe01b81e410e0bb0869af1a8440025f2e8dbe1521bb20a49",
    "dev": "74280aa871935427b949cc0ea9bd7dddd42f419c137349e603f2086631603ba6",
    "test": "81d20d1a5249e4e87394e535b7cf7964fc90c0fea88bf7063dad84bf9ac9d5fe",
}
ANNOTATIONS = ("ann0", "ann1", "ann2")
NAMES = {"train": "train", "validation": "dev", "test": "test"}


class Aeslc(tfds.core.GeneratorBasedBuilder):
    """Examples: id (its place in train, dev, test as one list), name, body, subject, and annotations, in the file's
    order. What mailers left in a body of its transport is undone, see `readable`."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Scalar(np.int64),
                    "name": text,
                    "body": text,
                    "subject": text,
                    "annotations": texts(),
                }
            ),
            homepage="https://github.com/ryanzhumich/AESLC",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        folder = manual_folder("aeslc", self.data_dir_root, INSTRUCTIONS)
        read = {split: _read(folder, name) for split, name in NAMES.items()}
        first, found = 0, {}
        for split, rows in read.items():
            found[split] = self._generate_examples(rows, first)
            first += len(rows)
        return found

    def _generate_examples(self, rows: list[dict[str, str]], first: int) -> Iterator:
        for number, row in enumerate(rows):
            yield (
                number,
                {
                    "id": first + number,
                    "name": row["id"],
                    "body": readable(well_formed(row["body"])),
                    "subject": well_formed(row["subject"]),
                    "annotations": [well_formed(row[key]) for key in ANNOTATIONS if key in row],
                },
            )


def readable(body: str) -> str:
    """Without the marks of quoted-printable, which 2 % of the bodies have: "could really= =20 use" -> "could really use".

    A lone "=" before blanks is a line broken for transport, where the words on both sides are joined ("the fl= oor"):
    that line breaks became blanks happened before the set was published, so "we=  return" is joined as well. "=20"
    and "=09" are blanks, and of the other codes some are their character, such as "=3D".
    """
    body = re.sub(r"=[ \n]+(?==[0-9A-F]{2})", " ", body)
    body = re.sub(r"(?<=\w)= +(?=\w)", "", body)
    return re.sub(r"=(20|09|2C|2E|3D|92|93|94|96|97)", lambda m: _CODES.get(m[1], " "), body)


_CODES = {"2C": ",", "2E": ".", "3D": "=", "92": "'", "93": '"', "94": '"', "96": "-", "97": "-"}


def _read(folder: Path, name: str) -> list[dict[str, str]]:
    """The e-mails of a file, checked; every error names it."""
    import hashlib

    plain = folder / f"{name}.jsonl"
    path = plain if plain.exists() else folder / f"{name}.jsonl.gz"
    if not path.exists():
        raise FileNotFoundError(f"{plain} is missing, and so is {path.name}.\n{INSTRUCTIONS}")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ValueError(f"{path} is not whole gzip ({error}).\n{INSTRUCTIONS}") from None
    expected = {"id", "body", "subject", *(ANNOTATIONS if name != "train" else ())}
    rows = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(
                f"{path} line {number} is not JSON ({error}).\n{INSTRUCTIONS}"
            ) from None
        if not isinstance(row, dict) or row.keys() != expected:
            given = sorted(row) if isinstance(row, dict) else type(row).__name__
            raise ValueError(
                f"{path} line {number} has {given}, expected {sorted(expected)}.\n{INSTRUCTIONS}"
            )
        rows.append(row)
    if len(rows) != SIZES[name]:
        raise ValueError(
            f"{path} has {len(rows):,} e-mails, expected {SIZES[name]:,}.\n{INSTRUCTIONS}"
        )
    given = hashlib.sha256(data).hexdigest()
    if given != SHA256.get(name, given):
        raise ValueError(
            f"{path} is not the published file: sha256 of its lines {given}, expected {SHA256[name]}.\n{INSTRUCTIONS}"
        )
    return rows
