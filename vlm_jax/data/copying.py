"""Texts in the extended vocabulary of a model that copies words which it does not know.

"ask krista about krista's deal", of which "ask", "about" and "deal" are rows 7, 8 and 9 of 100:

text      [7, 100, 8, 101, 9]       the unknown words have rows of their own, in this text alone
spelling  [b"krista", b"krista's"]  UInt8[num_slots MAX_BYTES], so that what is copied can be read again
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from vlm_jax.data.text_transforms import text_at
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.types import BOS, EOS, PAD, UNK, Example

MAX_BYTES = 32  # of a word's UTF-8; longer ones are not copied


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtendedText:
    """The text at `key` -> Int32[max_length] at `output` and the spelling of its unknown words at "spelling".

    The first `max_length` words, then PAD; no BOS and no EOS. The n-th different unknown word has row
    `tokenizer.vocab_size + n`; beyond `num_slots` of them, and of more than MAX_BYTES, unknown words are UNK.
    """

    tokenizer: WordTokenizer
    max_length: int
    num_slots: int
    key: str = "body"
    output: str = "text"

    def __post_init__(self):
        if self.max_length < 1 or self.num_slots < 0:
            raise ValueError(
                f"ExtendedText: given max_length={self.max_length}, num_slots={self.num_slots}; expected "
                "max_length of at least 1 and num_slots of at least 0"
            )

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        text = text_at(example, self.key, self)
        slots: dict[str, int] = {}
        row = np.full(self.max_length, PAD, np.int32)
        pairs = zip(self.tokenizer.encode(text), self.tokenizer.words(text))
        for place, (token, word) in zip(range(self.max_length), pairs):
            fits = len(slots) < self.num_slots and len(word.encode()) <= MAX_BYTES
            if token == UNK and (word in slots or fits):
                token = self.tokenizer.vocab_size + slots.setdefault(word, len(slots))
            row[place] = token
        spelling = np.zeros((self.num_slots, MAX_BYTES), np.uint8)
        for word, slot in slots.items():
            letters = word.encode()
            spelling[slot, : len(letters)] = list(letters)
        return {**example, self.output: row, "spelling": spelling}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtendedTarget:
    """The text at `key` -> Int32[max_length] at `output`: BOS, rows, EOS, PAD, as `Tokenize` does.

    A word that only the text knows has the row that `ExtendedText`, which comes before, gave it.
    """

    tokenizer: WordTokenizer
    max_length: int
    key: str = "subject"
    output: str = "target"

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        text = text_at(example, self.key, self)
        if "spelling" not in example:
            raise KeyError("ExtendedTarget: no 'spelling'; put ExtendedText before it")
        slots = {word: slot for slot, word in spelled(example["spelling"]).items()}
        rows = [
            self.tokenizer.vocab_size + slots[word] if token == UNK and word in slots else token
            for token, word in zip(self.tokenizer.encode(text), self.tokenizer.words(text))
        ]
        rows = [BOS, *rows[: self.max_length - 2], EOS]
        target = np.full(self.max_length, PAD, np.int32)
        target[: len(rows)] = rows
        return {**example, self.output: target}


def spelled(spelling: np.ndarray) -> Mapping[int, str]:
    """The words of UInt8[num_slots MAX_BYTES] by slot; empty slots are left out."""
    words = (bytes(letters).rstrip(b"\0").decode() for letters in np.asarray(spelling))
    return {slot: word for slot, word in enumerate(words) if word}
