"""The list of answers that a classifier chooses from, found in the training questions."""

import collections
import dataclasses
import functools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

UNUSED = ""  # the name of a row that no answer has


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerList(Sequence):
    """`size` rows: the answers of `corpus` seen at least `min_count` times, the most frequent first, ties by alphabet.

    A sequence of names, so it may stand where `classes` are asked for. `size` is declared, for the model has it too:
    rarer answers than fit are left out, and rows left over are named "" and are no answer. Answers are read as they
    are spelled; `index` of one that is not in the list raises ValueError, as a tuple's does.

    corpus: any hashable object with `references`, a mapping id -> {texts: (answer, ...)}.
    file: what `save` wrote; the corpus is then not looked at.
    """

    corpus: Any = None
    size: int
    min_count: int = 1
    texts: str = "answers"
    file: str | None = None

    def __post_init__(self):
        if self.corpus is None and self.file is None:
            raise ValueError("AnswerList: give a corpus with references, or the file to read")
        if self.size < 2:
            raise ValueError(f"AnswerList: size is {self.size}, expected at least 2")

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each row."""
        return _names(self)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, row):
        return self.names[row]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def encode(self, text: str) -> list[int]:
        """The row of an answer, alone in a list; none of what is not in the list."""
        row = _rows(self).get(text)
        return [] if row is None else [row]

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(self.names[row] for row in ids)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the names, which `replace(answers, file=str(path))` reads back without the corpus."""
        path = Path(path)
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps({"answers": self.names}, ensure_ascii=False), encoding="utf-8")
        os.replace(part, path)


@functools.lru_cache(maxsize=16)
def _names(answers: AnswerList) -> tuple[str, ...]:
    if answers.file is not None:
        return _read(answers)
    references, counts = answers.corpus.references, collections.Counter()
    for texts in references.values():
        counts.update(texts.get(answers.texts, ()))
    counts.pop(UNUSED, None)
    if not counts:
        kinds = sorted({kind for texts in references.values() for kind in texts})
        raise ValueError(
            f"AnswerList: the corpus has no {answers.texts!r}; its references have {kinds}"
        )
    frequent = [answer for answer, count in counts.items() if count >= answers.min_count]
    frequent.sort(key=lambda answer: (-counts[answer], answer))
    kept = frequent[: answers.size]
    return (*kept, *(UNUSED,) * (answers.size - len(kept)))


@functools.lru_cache(maxsize=16)
def _rows(answers: AnswerList) -> dict[str, int]:
    return {name: row for row, name in enumerate(answers.names) if name != UNUSED}


def _read(answers: AnswerList) -> tuple[str, ...]:
    path = Path(answers.file)
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["answers"]
    except FileNotFoundError:
        raise FileNotFoundError(f"AnswerList: no file {path}; `save(path)` writes one") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no list of answers that `save` wrote ({error!r})") from None
    if len(names) != answers.size:
        raise ValueError(
            f"{path} has {len(names)} answers, expected {answers.size}: it is of another run"
        )
    return tuple(names)
