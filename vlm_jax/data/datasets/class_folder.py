"""Your own pictures sorted into classes: a folder with a folder for each class, read in place.

pictures/cat/01.jpg                       pictures/train/cat/01.jpg
pictures/cat/02.jpg              or       pictures/validation/cat/02.jpg
pictures/dog/a.png                        pictures/test/dog/a.png
"""

import dataclasses
import functools
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vlm_jax.data.datasets.image_folder import fingerprint_of, in_split, split_of
from vlm_jax.data.source import Description
from vlm_jax.types import Example, References

SPLITS = ("train", "validation", "test")
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm")


@dataclasses.dataclass(frozen=True)
class ClassFolder(Description):
    """The pictures of `folder` in `split` ("all": every one), with `label`, the number of its folder in `classes`.

    Without folders train, validation and test, a picture's split follows from its name alone, so it stays when others
    are added: about 8 of 10 in train, 1 in validation, 1 in test. Ids number the pictures over all splits, by name.
    """

    folder: str
    split: str = "train"
    classes: tuple[str, ...] = ()

    @functools.cached_property
    def references(self) -> References:
        return {row.id: {"image_name": (row.name,)} for row in self._rows}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        row = self._rows[index]
        return {
            "id": np.int64(row.id),
            "image": (Path(self.folder).expanduser() / row.name).read_bytes(),
            "image_name": row.name,
            "label": np.int64(self.classes.index(row.class_name)),
        }

    @property
    def fingerprint(self) -> str:
        """A hash of the pictures' names, sizes and times of change."""
        return fingerprint_of(Path(self.folder).expanduser(), self._rows)

    @functools.cached_property
    def _rows(self) -> tuple["_Picture", ...]:
        pictures = _read(Path(self.folder).expanduser())
        unknown = sorted({p.class_name for p in pictures} - set(self.classes))
        if unknown:
            raise ValueError(
                f"{self.folder} has folders of the classes {unknown}, expected only those of {self.classes}; a class "
                "that was added changes the model: train again in another workdir"
            )
        return in_split(pictures, self.split, self.folder)


def classes_of(folder: str | os.PathLike) -> tuple[str, ...]:
    """The names of the classes in alphabetical order. Raises for a folder without at least two of them."""
    names = sorted({picture.class_name for picture in _read(Path(folder).expanduser())})
    if len(names) < 2:
        raise ValueError(f"{folder} has the classes {names}, expected at least two.\n{__doc__}")
    return tuple(names)


class _Picture(NamedTuple):
    id: int
    name: str  # relative to the folder
    class_name: str
    split: str


def _read(folder: Path) -> list[_Picture]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder}; expected a folder for each class.\n{__doc__}"
        )
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    parts = [path.relative_to(folder).parts for path in found]
    split = bool(parts) and all(len(p) > 2 and p[0] in SPLITS for p in parts)
    pictures = []
    for number, (path, place) in enumerate(zip(found, parts)):
        if len(place) < 2:
            raise ValueError(
                f"{path} lies in no folder of a class; a picture belongs into one.\n{__doc__}"
            )
        name = "/".join(place)
        pictures.append(_Picture(number, name, place[split], place[0] if split else split_of(name)))
    if not pictures:
        raise ValueError(f"{folder} has no pictures ({', '.join(SUFFIXES)}).\n{__doc__}")
    return pictures
