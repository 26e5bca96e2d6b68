"""Sentences cut into words -> padded rows of numbers, a place for each word. Called with (example, rng).

("The", "dog", "runs"), max_length 4 ->  text        [4] rows of the words      the dog runs PAD
                                          characters  [4 c] rows of the letters
                                          label       [4] numbers of the tags    5   7   15  -1
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlm_jax.text.lexicon import Lexicon, letters
from vlm_jax.types import PAD, Example

NO_LABEL = (
    -1
)  # beyond the last word, and where the label has no number: neither taught nor ever predicted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Words:
    """The words at `key` as rows of the lexicon, `output`, and as letters, `characters` [max_length max_letters + 2].

    A text is cut at white space; a tuple of words is taken as it is. Words beyond `max_length`, and letters beyond
    `max_letters` of a word, are left out.
    """

    lexicon: Lexicon
    max_length: int
    max_letters: int = 18
    key: str = "words"
    output: str = "text"

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        words = _column(example, self.key, self)
        words = split_words(words)[: self.max_length]
        text = np.full(self.max_length, PAD, np.int32)
        characters = np.full((self.max_length, self.max_letters + 2), PAD, np.int32)
        for place, word in enumerate(words):
            text[place] = self.lexicon.row(word)
            row = letters(word, self.max_letters)
            characters[place, : len(row)] = row
        return {**example, self.output: text, "characters": characters}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordLabels:
    """The names at `key`, one a word, as their places in `names`. A name that is not there has no label."""

    names: tuple[str, ...]
    max_length: int
    key: str
    output: str = "label"

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        number = {name: place for place, name in enumerate(self.names)}
        found = [number.get(name, NO_LABEL) for name in _column(example, self.key, self)]
        return {**example, self.output: _padded(found, self.max_length)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordHeads:
    """The heads at `key`: 0 for the root, else the number of a word from 1. One that was left out is no label."""

    max_length: int
    key: str = "heads"
    output: str = "head"

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        heads = np.asarray(_column(example, self.key, self), np.int32)
        heads = np.where(heads <= self.max_length, heads, NO_LABEL)
        return {**example, self.output: _padded(heads, self.max_length)}


def split_words(words: str | Sequence[str]) -> list[str]:
    return words.split() if isinstance(words, str) else list(words)


def _padded(values: Sequence[int], length: int) -> np.ndarray:
    row = np.full(length, NO_LABEL, np.int32)
    row[: min(len(values), length)] = values[:length]
    return row


def _column(example: Example, key: str, transform: Any) -> Any:
    if key not in example:
        raise KeyError(
            f"{type(transform).__name__}: example {example.get('id')} has no {key!r}, only {sorted(example)}"
        )
    return example[key]
