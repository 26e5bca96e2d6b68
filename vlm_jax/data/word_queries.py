"""Questions to word vectors as rows of a tokenizer's table. Transforms are called with (example, rng)."""

import dataclasses
from typing import Any

import numpy as np

from vlm_jax.data.text_transforms import text_at
from vlm_jax.types import PAD, UNK, Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadQuery:
    """Words added and subtracted -> `text` Int[max_words] and `sign` Float[max_words]: 1 or -1, 0 at PAD.

        "king - man + woman" -> [king, man, woman, PAD], [1, -1, 1, 0]

    A sign stands alone and holds until the next one. Words after `max_words` are left out.
    """

    tokenizer: Any
    max_words: int = 8
    key: str = "query"
    output: str = "text"

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        found, sign = [], 1.0
        for part in text_at(example, self.key, self).split():
            if part in ("+", "-"):
                sign = 1.0 if part == "+" else -1.0
            else:
                found += [(row, sign) for row in self.tokenizer.encode(part)]
        text = np.full(self.max_words, PAD, np.int32)
        signs = np.zeros(self.max_words, np.float32)
        for place, (row, sign) in enumerate(found[: self.max_words]):
            text[place], signs[place] = row, sign
        return {**example, self.output: text, "sign": signs}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordRow:
    """The row of the one word at `key`; UNK where it has none, or the text is not one word."""

    tokenizer: Any
    key: str = "answer"
    output: str = "label"

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        rows = self.tokenizer.encode(text_at(example, self.key, self))
        return {**example, self.output: np.int32(rows[0] if len(rows) == 1 else UNK)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordRows:
    """The rows of the words at several keys, as Int[len(keys)]."""

    tokenizer: Any
    keys: tuple[str, ...] = ("first", "second")
    output: str = "text"

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        words = [WordRow(tokenizer=self.tokenizer, key=key)(example)["label"] for key in self.keys]
        return {**example, self.output: np.array(words, np.int32)}
