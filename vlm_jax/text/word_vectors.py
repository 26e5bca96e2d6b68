"""Files of word vectors: word2vec's .txt and .bin, GloVe's .txt, read and written.

    word2vec .txt   "18328 100\\n", then a line a word: "dog 0.1 -0.2 ...\\n"
    word2vec .bin   the same first line, then for each word its bytes, a space and float32, little endian
    GloVe .txt      as word2vec's .txt, without the first line

A file that is not whole is refused with the line, or in a .bin the byte, where it goes wrong.
"""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

MAX_WORD_BYTES = 2000
MAX_WIDTH = 100_000
FLOAT = np.dtype("<f4")


class WordVectorFile(NamedTuple):
    words: tuple[str, ...]
    vectors: np.ndarray  # Float32[words d]


def read_vectors(
    path: str | os.PathLike, *, wanted: Collection[str] | None = None
) -> WordVectorFile:
    """The words of a file, in its order, and their vectors; of `wanted` words only, where those are given.

    A name that ends in .bin is word2vec's binary form; a text whose first line is two numbers is word2vec's, any other
    GloVe's. The whole file is checked, wanted or not. Raises ValueError, naming the line or the byte, where a number is
    missing, or is none, or not finite, where a word comes twice, and where the file ends early or too late.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there; expected a file of word vectors, word2vec's .txt or .bin or GloVe's .txt"
        )
    entries = _binary(path) if path.suffix == ".bin" else _text(path)
    width = next(entries)
    places: dict[str, str] = {}
    words, vectors = [], []
    for place, word, vector in entries:
        if word in places:
            raise ValueError(f"{path} {place}: the word {word!r} was there already, {places[word]}")
        places[word] = place
        if not np.isfinite(vector).all():
            bad = int(np.flatnonzero(~np.isfinite(vector))[0])
            raise ValueError(
                f"{path} {place}: number {bad + 1} of {word!r} is {vector[bad]}, expected a finite one"
            )
        if wanted is None or word in wanted:
            words.append(word)
            vectors.append(vector)
    if not places:
        raise ValueError(f"{path} has no word vector in it")
    return WordVectorFile(tuple(words), np.array(vectors, np.float32).reshape(-1, width))


def write_word2vec_text(path: str | os.PathLike, words: Sequence[str], vectors: np.ndarray) -> None:
    vectors = _checked(words, vectors)
    _write(path, f"{len(words)} {vectors.shape[1]}\n".encode(), words, vectors, _text_entry)


def write_glove(path: str | os.PathLike, words: Sequence[str], vectors: np.ndarray) -> None:
    _write(path, b"", words, _checked(words, vectors), _text_entry)


def write_word2vec_binary(
    path: str | os.PathLike, words: Sequence[str], vectors: np.ndarray
) -> None:
    """`path` has to end in .bin: that is what tells it from a text."""
    if Path(path).suffix != ".bin":
        raise ValueError(f"{path}: expected a name that ends in .bin")
    vectors = _checked(words, vectors)
    _write(path, f"{len(words)} {vectors.shape[1]}\n".encode(), words, vectors, _binary_entry)


# ---- reading: first the width, then (place, word, vector)


def _text(path: Path) -> Iterator:
    with open(path, "rb") as file:
        first = file.readline()
        count = None
        if len(first.split()) == 2 and all(part.isdigit() for part in first.split()):
            count, width = map(int, first.split())
            _check_width(path, width)
            number, first = 1, file.readline()
        else:
            number, width = 0, len(first.split()) - 1
            if width < 1:
                raise ValueError(
                    f"{path} line 1: given {first[:60]!r}, expected a word and its numbers, or two whole numbers"
                )
        yield width
        line, seen = first, 0
        while line.strip():
            number, seen = number + 1, seen + 1
            # From the right: some published files have words with a space in them.
            word, *numbers = line.rstrip().rsplit(b" ", width)
            try:
                if len(numbers) != width or _is_number(word.rpartition(b" ")[2], b" " in word):
                    raise ValueError
                with np.errstate(over="ignore"):  # too large is not finite, which is refused below
                    vector = np.array(numbers, np.bytes_).astype(np.float32)
            except ValueError:
                raise ValueError(
                    f"{path} line {number}: given {_shown(line)}, expected a word and {width} numbers"
                ) from None
            yield f"line {number}", _decoded(word), vector
            line = file.readline()
        if file.read(1).strip():
            raise ValueError(f"{path} line {number + 1}: an empty line, expected a word")
        if count is not None and seen != count:
            raise ValueError(
                f"{path} line {number}: the file ends after {seen:,} words, its first line says {count:,}"
            )


def _binary(path: Path) -> Iterator:
    size = path.stat().st_size
    with open(path, "rb") as file:
        first = file.readline(100)
        parts = first.split()
        if len(parts) != 2 or not all(part.isdigit() for part in parts):
            raise ValueError(
                f"{path} byte 0: begins {first[:60]!r}, expected the numbers of words and of dimensions, and a "
                "line break"
            )
        count, width = map(int, parts)
        _check_width(path, width)
        least = len(first) + count * (4 * width + 2)
        if size < least:
            raise ValueError(
                f"{path}: {size:,} bytes, expected at least {least:,} for {count:,} words of {width} numbers; "
                "the file was cut short"
            )
        yield width
        for _ in range(count):
            start = file.tell()
            place = f"byte {start:,}"
            chunk = file.read(MAX_WORD_BYTES)
            word, space, _ = chunk.partition(b" ")
            name = _decoded(word.removeprefix(b"\n"))
            if not space:
                what = "the file ends" if start + len(chunk) >= size else "no space"
                raise ValueError(f"{path} {place}: {what} within a word, {chunk[:40]!r} ...")
            file.seek(start + len(word) + 1)
            numbers = file.read(4 * width)
            if len(numbers) != 4 * width:
                raise ValueError(f"{path} {place}: the file ends within the numbers of {name!r}")
            yield place, name, np.frombuffer(numbers, FLOAT)
        place, rest = file.tell(), file.read(2)
        if rest.strip(b"\n"):
            raise ValueError(
                f"{path} byte {place:,}: more than the {count:,} words of its first line"
            )


def _check_width(path: Path, width: int) -> None:
    if not 1 <= width <= MAX_WIDTH:
        raise ValueError(
            f"{path}: its first line says {width} numbers a word, expected 1 to {MAX_WIDTH:,}"
        )


def _decoded(word: bytes) -> str:
    """Bytes that are no UTF-8 stay apart from each other, as \\xff."""
    return word.decode("utf-8", "backslashreplace")


def _is_number(part: bytes, asked: bool) -> bool:
    """Whether what should end a word with a space in it is one more number."""
    try:
        return asked and float(part) is not None
    except ValueError:
        return False


def _shown(line: bytes) -> str:
    return f"{line[:60]!r}{' ...' if len(line) > 60 else ''} with {len(line.split()) - 1} numbers"


# ---- writing


def _checked(words: Sequence[str], vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2 or len(vectors) != len(words) or not vectors.shape[1]:
        raise ValueError(
            f"given {len(words)} words and vectors of shape {vectors.shape}, expected [{len(words)} d]"
        )
    if len(set(words)) != len(words):
        raise ValueError("given a word twice, expected each once")
    for word in words:
        if not word or len(word.split()) != 1 or word != word.strip():
            raise ValueError(
                f"the word {word!r} is empty or has a space in it: no file can hold it"
            )
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(1))[0])
        raise ValueError(f"the vector of {words[row]!r} is not finite")
    return vectors


def _write(
    path: str | os.PathLike,
    first: bytes,
    words: Sequence[str],
    vectors: np.ndarray,
    entry: Callable[[str, np.ndarray], bytes],
) -> None:
    part = Path(f"{path}.part")
    with open(part, "wb") as file:
        file.write(first)
        for word, vector in zip(words, vectors):
            file.write(entry(word, vector))
    os.replace(part, path)


def _text_entry(word: str, vector: np.ndarray) -> bytes:
    return f"{word} {' '.join(map(str, vector))}\n".encode()  # the shortest that reads back equal


def _binary_entry(word: str, vector: np.ndarray) -> bytes:
    return word.encode() + b" " + vector.astype(FLOAT).tobytes() + b"\n"
