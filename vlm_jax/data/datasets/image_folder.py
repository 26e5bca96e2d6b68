"""Your own pictures: a folder with `captions.csv` or `captions.jsonl`, read in place.

    image,caption,split                     {"image": "a.jpg", "caption": "A dog .", "split": "train"}
    a.jpg,A dog .,train                     {"image": "sub/b.png", "caption": "Two, dogs ."}
    a.jpg,"A brown dog, running .",train
    sub/b.png,Two dogs .,test

A picture with several captions has several rows. `split` may be left out.
"""

import csv
import dataclasses
import functools
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.data.files import check_pictures, well_formed
from vlm_jax.data.source import Description
from vlm_jax.types import Example, References

_ADVICE = "Names in the column `image` are relative to the folder."
_LONGEST_FIELD = 1 << 24


@dataclasses.dataclass(frozen=True)
class ImageFolder(Description):
    """The pictures of `folder` that `captions.csv` or `captions.jsonl` puts into `split` ("all": every one).

    Without a column `split`, a picture's split follows from its name alone, so it stays when others are added: about
    8 of 10 in train, 1 in validation, 1 in test. Ids number the pictures over all splits, in the order of the file.
    """

    folder: str
    split: str = "train"

    @functools.cached_property
    def references(self) -> References:
        return {row.id: {"image_name": (row.name,), "captions": row.captions} for row in self._rows}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        row = self._rows[index]
        return {
            "id": np.int64(row.id),
            "image": (Path(self.folder).expanduser() / row.name).read_bytes(),
            "image_name": row.name,
            "captions": row.captions,
        }

    @property
    def fingerprint(self) -> str:
        """A hash of the pictures' names, sizes and times of change."""
        return fingerprint_of(Path(self.folder).expanduser(), self._rows)

    @functools.cached_property
    def _rows(self) -> tuple["_Picture", ...]:
        folder = Path(self.folder).expanduser()
        pictures = _read(folder)
        names = [picture.name for picture in pictures]
        check_pictures(folder, names, _ADVICE, min_bytes=0)  # an empty one is skipped when decoded
        return in_split(pictures, self.split, folder)


@dataclasses.dataclass(frozen=True)
class _Picture:
    id: int
    name: str
    split: str
    captions: tuple[str, ...]


def _read(folder: Path) -> list[_Picture]:
    for name, read in (("captions.csv", _csv_rows), ("captions.jsonl", _jsonl_rows)):
        if (folder / name).exists():
            return _gathered(folder / name, read(folder / name))
    raise FileNotFoundError(
        f"{folder} holds neither captions.csv (columns image, caption) nor captions.jsonl "
        '({"image": "a.jpg", "caption": "A dog ."} on each line)'
    )


def _gathered(path: Path, rows: Iterator[tuple[int, Mapping[str, str]]]) -> list[_Picture]:
    captions, splits = {}, {}
    for line, row in rows:
        name, caption = row.get("image"), row.get("caption")
        if not (isinstance(name, str) and name and isinstance(caption, str)):
            raise ValueError(
                f"{path} line {line}: given {dict(row)}, expected a text for image and one for caption"
            )
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{path} line {line}: {name!r} lies outside the folder. {_ADVICE}")
        name = well_formed(name)
        split = row.get("split") or split_of(name)
        if splits.setdefault(name, split) != split:
            raise ValueError(
                f"{path} line {line}: {name} is in split {split!r} here, and in {splits[name]!r} above"
            )
        captions.setdefault(name, []).append(well_formed(caption))
    return [
        _Picture(i, name, splits[name], tuple(captions[name])) for i, name in enumerate(captions)
    ]


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    before = csv.field_size_limit(_LONGEST_FIELD)  # the default refuses a caption of 10,000 words
    try:
        text = path.read_bytes().decode("utf-8-sig", "replace")
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [name.strip() for name in next(rows, [])]
        if not {"image", "caption"} <= set(header):
            raise ValueError(f"{path}: the first line is {header}, expected image,caption[,split]")
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise ValueError(
                    f"{path} line {rows.line_num}: {len(row)} columns, expected {len(header)}; put double "
                    f'quotes round a caption with commas: {row[0]},"{",".join(row[1:])[:60]}"'
                )
            yield rows.line_num, dict(zip(header, row))
    except csv.Error as error:
        raise ValueError(f"{path} line {rows.line_num}: {error}") from error
    finally:
        csv.field_size_limit(before)


def _jsonl_rows(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    lines = path.read_bytes().decode("utf-8-sig", "replace").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(
                f"{path} line {number}: {error}; expected one JSON object a line"
            ) from None
        if not isinstance(row, dict):
            raise ValueError(f"{path} line {number}: given {line[:60]!r}, expected a JSON object")
        yield number, row


def split_of(name: str) -> str:
    """The split of a picture that nobody has put into one: it follows from its name."""
    tenth = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 10
    return {8: "validation", 9: "test"}.get(tenth, "train")


def in_split(pictures: Sequence[Any], split: str, folder: str | os.PathLike) -> tuple[Any, ...]:
    """Those of the split, or with "all" every one. Raises ValueError, with the splits that there are, for none."""
    kept = tuple(p for p in pictures if split in ("all", p.split))
    if not kept:
        counts = Counter(picture.split for picture in pictures)
        known = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
        raise ValueError(
            f"{folder} has no picture in split {split!r}; it has {known or 'none at all'}; 'all' takes every one"
        )
    return kept


def fingerprint_of(folder: Path, pictures: Iterable[Any]) -> str:
    """A hash of the pictures' ids, names, sizes and times of change."""
    digest = hashlib.sha256()
    for row in pictures:
        stat = os.stat(folder / row.name)
        digest.update(f"{row.id} {row.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
