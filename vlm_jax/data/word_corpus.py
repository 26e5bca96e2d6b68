"""Running text of several data sets together, a sentence an example: what word vectors are learned from."""

import csv
import dataclasses
import functools
import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from vlm_jax.data.files import read_json
from vlm_jax.data.source import Description
from vlm_jax.types import Example, References

INSTRUCTIONS = """\
WordCorpus reads files placed by hand under $VLM_JAX_DATA:
  flickr8k/captions.txt and dataset_flickr8k.json   captions of the training pictures
  aeslc/train.jsonl or train.jsonl.gz               bodies of e-mails, a line a sentence
  ptb/ptb.train.txt                                 the Wall Street Journal, its rare words already <unk>
Name fewer of them in WordCorpus(parts=...) to do without."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordCorpus(Description):
    """The training parts of Flickr8k's captions, AESLC's e-mails and the Penn Treebank: {"id": 0, "sentence": "A child ..."}.

    Only texts that those data sets train on are read, so that vectors learned here may go into models that are tested
    on the rest. `folder` is $VLM_JAX_DATA where it is not given.
    """

    parts: tuple[str, ...] = ("flickr8k", "aeslc", "ptb")
    folder: str | None = None

    def __post_init__(self):
        unknown = [part for part in self.parts if part not in _READERS]
        if unknown or not self.parts:
            raise ValueError(
                f"WordCorpus: given parts {self.parts}, expected some of {tuple(_READERS)}"
            )

    @functools.cached_property
    def sentences(self) -> tuple[str, ...]:
        folder = self.folder or os.environ.get("VLM_JAX_DATA")
        if folder is None:
            raise FileNotFoundError(f"WordCorpus: VLM_JAX_DATA is not set.\n{INSTRUCTIONS}")
        return tuple(text for part in self.parts for text in _READERS[part](Path(folder) / part))

    @functools.cached_property
    def references(self) -> References:
        return {index: {"sentence": (text,)} for index, text in enumerate(self.sentences)}

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256("\n".join(self.sentences).encode("utf-8", "replace")).hexdigest()

    def __len__(self) -> int:
        return len(self.sentences)

    def __getitem__(self, index: int) -> Example:
        return {"id": np.int64(index), "sentence": self.sentences[index]}


def _flickr8k(folder: Path) -> Iterator[str]:
    listed = read_json(folder / "dataset_flickr8k.json", INSTRUCTIONS)
    train = {image["filename"] for image in listed["images"] if image["split"] == "train"}
    with _opened(folder / "captions.txt", newline="") as file:
        yield from (row[1] for row in csv.reader(file) if len(row) == 2 and row[0] in train)


def _aeslc(folder: Path) -> Iterator[str]:
    path = folder / "train.jsonl"
    with _opened(path if path.exists() else folder / "train.jsonl.gz") as file:
        for number, line in enumerate(file, 1):
            try:
                body = json.loads(line)["body"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path} line {number}: {error!r}.\n{INSTRUCTIONS}") from None
            yield from (part for part in body.split("\n") if part.strip())


def _ptb(folder: Path) -> Iterator[str]:
    with _opened(folder / "ptb.train.txt") as file:
        yield from (line for line in file.read().split("\n") if line.strip())


def _opened(path: Path, **options):
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.\n{INSTRUCTIONS}")
    open_text = gzip.open if path.suffix == ".gz" else open
    return open_text(path, "rt", encoding="utf-8", errors="replace", **options)


_READERS: dict[str, Callable[[Path], Iterator[str]]] = {
    "flickr8k": _flickr8k,
    "aeslc": _aeslc,
    "ptb": _ptb,
}
