"""Captions -> padded ids, and checks of what may enter a batch. Transforms are called with (example, rng)."""

import dataclasses
import functools
from collections.abc import Collection
from typing import Any

import numpy as np

from vlm_jax.text.tokenizers import Tokenizer
from vlm_jax.types import BOS, EOS, PAD, Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokenize:
    """The text at `key` -> Int32[max_length] at `output`: BOS, ids, EOS, then PAD. The text stays where it is.

        "a dog runs", max_length 8 -> [BOS, a, dog, runs, EOS, PAD, PAD, PAD]
        "a dog runs", max_length 4 -> [BOS, a, dog, EOS]

    `max_length` counts BOS and EOS. A longer text loses its last words and keeps its EOS, so that the model still
    learns to stop; an empty one is [BOS, EOS]. So every row has at least one token to predict. With `keep_end` a
    longer text loses its first words: a prompt, which is gone on from where it ends.
    """

    tokenizer: Tokenizer
    max_length: int
    key: str = "caption"
    output: str = "target"
    keep_end: bool = False

    def __post_init__(self):
        if self.max_length < 2:
            raise ValueError(
                f"Tokenize: max_length is {self.max_length}, expected at least 2 for BOS and EOS"
            )

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        text = text_at(example, self.key, self)
        ids, room = self.tokenizer.encode(text), self.max_length - 2
        ids = ids[max(len(ids) - room, 0) :] if self.keep_end else ids[:room]
        row = np.full(self.max_length, PAD, np.int32)
        row[: len(ids) + 2] = [BOS, *ids, EOS]
        return {**example, self.output: row}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
    """The place that the text at `key` has among `classes` -> Int at `output`; -1 where it is none of them.

    `classes` is a tuple of names, or an `AnswerList`. With -1 an evaluation counts the example as wrong; training refuses
    it (`Classification.check`), so leave such examples out there: `Answered(source, classes)`.
    """

    classes: Collection[str]
    key: str = "answer"
    output: str = "label"

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        label = self._labels.get(text_at(example, self.key, self), -1)
        return {**example, self.output: np.int32(label)}

    @functools.cached_property
    def _labels(self) -> dict[str, int]:
        return {name: label for label, name in enumerate(self.classes) if name}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChooseCaption:
    """One of the `captions` at random, as `caption`: for training, a new draw each epoch."""

    key: str = "captions"
    output: str = "caption"

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        captions = _captions(example, self.key, self)
        return {**example, self.output: _text(captions[int(rng.integers(len(captions)))])}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstCaption:
    """The first of the `captions`, as `caption`: for evaluation."""

    key: str = "captions"
    output: str = "caption"

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        return {**example, self.output: _text(_captions(example, self.key, self)[0])}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keep:
    """Only these keys, and `id`: Keep(keys=("image", "target"))."""

    keys: tuple[str, ...]

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        for key in self.keys:
            _value(example, key, self)
        return {key: value for key, value in example.items() if key in self.keys or key == "id"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drop:
    """All but these keys: Drop(keys=("scene",)). A key that is not there is no error."""

    keys: tuple[str, ...]

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        return {key: value for key, value in example.items() if key not in self.keys}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckLabels:
    """Refuses an example whose integers at `key` are not all in [0, num_classes), naming its id.

    JAX would not: an index of -1 is the last class, one too large is NaN or the last row. Also for tokens, against
    the rows of the embedding: `CheckLabels(num_classes=model.vocab_size, key="target")`.
    """

    num_classes: int
    key: str = "label"

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        values = np.asarray(_value(example, self.key, self))
        if values.dtype.kind not in "iu":
            raise TypeError(
                f"CheckLabels: {self.key!r} of example {_id(example)} is {values.dtype}, expected integers"
            )
        wrong = values[(values < 0) | (values >= self.num_classes)]
        if wrong.size:
            raise ValueError(
                f"CheckLabels: {self.key!r} of example {_id(example)} has {wrong.flat[0]}, expected 0 to "
                f"{self.num_classes - 1}; check num_classes (vocab_size) and the file that the label comes from"
            )
        return dict(example)


def text_at(example: Example, key: str, transform: Any) -> str:
    """The text that an example has at `key`. Raises KeyError, naming transform and example, where there is none."""
    return _text(_value(example, key, transform))


def _value(example: Example, key: str, transform: Any) -> Any:
    if key not in example:
        raise KeyError(
            f"{type(transform).__name__}: example {_id(example)} has no {key!r}, only {sorted(example)}"
        )
    return example[key]


def _captions(example: Example, key: str, transform: Any) -> Any:
    captions = _value(example, key, transform)
    if isinstance(captions, str | bytes) or not len(captions):
        raise ValueError(
            f"{type(transform).__name__}: {key!r} of example {_id(example)} is {captions!r}, "
            "expected at least one caption in a tuple"
        )
    return captions


def _text(value: Any) -> str:
    """A str of what a source may hold: str, UTF-8 bytes (as TFDS returns text), or a NumPy scalar of either."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.item()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise TypeError(f"expected a text, given {type(value).__name__}")
    return value


def _id(example: Example) -> Any:
    return int(example["id"]) if "id" in example else "without id"
