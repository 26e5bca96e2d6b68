"""Words that stand by themselves <-> rows of a table, and the letters of each: for texts that are cut into words already.

PAD  BOS  EOS  UNK  words seen at least min_count times ...      unused rows
0    1    2    3    4 ...                         num_tokens     vocab_size
"""

import collections
import dataclasses
import functools
import json
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vlm_jax.types import BOS, EOS, NUM_SPECIAL, UNK

NUM_LETTERS = NUM_SPECIAL + 256  # PAD, BOS, EOS, UNK, then a row for each byte


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lexicon:
    """The words of `corpus`, in lower case and NFC, by falling count and then by alphabet; all others are UNK.

    Nothing is cut and nothing dropped: "," and ":-)" are words. A text is cut at white space. No word is one of the
    four specials, whatever its spelling.

    corpus: any hashable object with `references`, a mapping id -> {texts: (word, word, ...)}.
    file: what `save` wrote; the corpus is then not looked at.
    """

    corpus: Any = None
    vocab_size: int
    min_count: int = 1
    texts: str = "words"
    file: str | None = None

    def __post_init__(self):
        if self.corpus is None and self.file is None:
            raise ValueError(
                "Lexicon: give a corpus (a Source with references), or the file to read"
            )
        if self.vocab_size <= NUM_SPECIAL:
            raise ValueError(
                f"Lexicon: vocab_size is {self.vocab_size}, expected more than {NUM_SPECIAL}"
            )

    @property
    def num_tokens(self) -> int:
        """Rows in use, specials among them."""
        return NUM_SPECIAL + len(self._words)

    def row(self, word: str) -> int:
        return self._rows.get(_normalised(word), UNK)

    def encode(self, text: str) -> list[int]:
        return [self.row(word) for word in text.split()]

    def decode(self, ids: Iterable[int]) -> str:
        """The words up to the first EOS; the other specials and unused rows leave nothing behind."""
        kept = []
        for row in map(int, ids):
            if row == EOS:
                break
            if NUM_SPECIAL <= row < self.num_tokens:
                kept.append(self._words[row - NUM_SPECIAL])
        return " ".join(kept)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the words as JSON, which `replace(lexicon, file=str(path))` reads back without the corpus."""
        part = Path(path).with_name(Path(path).name + ".part")
        part.write_text(json.dumps({"lexicon": list(self._words)}, ensure_ascii=False), "utf-8")
        os.replace(part, path)

    @property
    def _words(self) -> tuple[str, ...]:
        return _built(self)[0]

    @property
    def _rows(self) -> dict[str, int]:
        return _built(self)[1]


def letters(word: str, max_letters: int) -> list[int]:
    """BOS, a row for each UTF-8 byte of the word (NFC), EOS; a word of more bytes keeps its first `max_letters`."""
    data = unicodedata.normalize("NFC", word).encode("utf-8", "replace")[:max_letters]
    return [BOS, *(NUM_SPECIAL + byte for byte in data), EOS]


def _normalised(word: str) -> str:
    return unicodedata.normalize("NFC", word.lower())


@functools.lru_cache(maxsize=8)  # a memo of pure values: equal descriptions have the same words
def _built(lexicon: Lexicon) -> tuple[tuple[str, ...], dict[str, int]]:
    words = _read(Path(lexicon.file)) if lexicon.file is not None else _count(lexicon)
    if NUM_SPECIAL + len(words) > lexicon.vocab_size:
        raise ValueError(
            f"Lexicon: vocab_size is {lexicon.vocab_size} but {NUM_SPECIAL + len(words)} rows are needed; declare as "
            "many, here and in the model, or raise min_count"
        )
    return words, {word: row for row, word in enumerate(words, start=NUM_SPECIAL)}


def _count(lexicon: Lexicon) -> tuple[str, ...]:
    counts = collections.Counter()
    for texts in lexicon.corpus.references.values():
        counts.update(map(_normalised, texts.get(lexicon.texts, ())))
    if not counts:
        raise ValueError(f"Lexicon: the corpus has no {lexicon.texts!r}")
    kept = [word for word, count in counts.items() if count >= lexicon.min_count]
    return tuple(sorted(kept, key=lambda word: (-counts[word], word)))


def _read(path: Path) -> tuple[str, ...]:
    try:
        words = json.loads(path.read_text("utf-8"))["lexicon"]
    except FileNotFoundError:
        raise FileNotFoundError(
            f"Lexicon: no file {path}; `save(path)` of a lexicon writes one"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path}: expected a JSON object with a list 'lexicon'") from None
    return tuple(words)
