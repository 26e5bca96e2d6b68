"""Texts of like length in one batch, so that less of it is padding."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from vlm_jax.data.source import Source
from vlm_jax.types import PAD, Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class Buckets:
    """How a training pipeline groups its examples by the length of what stands at `keys`.

    A batch is cut to the least of `lengths` that holds all of it: [b 24] -> [b 13]. A length may be one number for all
    keys, or a number for each: keys ("text", "target") and lengths ((16, 8), (40, 20)). A step is compiled for each
    of `lengths`, so give a few; the last is what `measure` pads to. Keys without a length of their own to measure
    (a label for each word, the letters of each word [l c]) are cut as well where they are named.

    Each epoch stays a permutation. Without `tokens` all batches have the same number of rows: of every `window` batches
    the examples are sorted by length and cut into batches again, whose order is then shuffled (as Xu et al. 2015,
    section 4.3, who draw a length for each batch). With `tokens` a batch has as many rows as that many tokens of its
    longer text hold, padding counted (Vaswani et al. 2017, section 5.1):

        tokens 4096, lengths (16, 32, 64) -> [256 16], [128 32], [64 64]

    What does not fill a batch of its length joins the next longer; the longest batch that is left over at the end of an
    epoch is filled up with copies whose `valid` is False.

    `measure` is the transform, without randomness, that writes the keys, or several of them: `Tokenize(...)`.
    """

    lengths: tuple[int, ...] | tuple[tuple[int, ...], ...]
    measure: Callable[..., Example] | tuple[Callable[..., Example], ...]
    keys: tuple[str, ...] = ("target",)
    tokens: int | None = None
    window: int = 32

    def __post_init__(self):
        shapes = self.shapes
        rising = all(
            a != b and all(x <= y for x, y in zip(a, b)) for a, b in zip(shapes, shapes[1:])
        )
        if not shapes or not rising or any(len(shape) != len(self.keys) for shape in shapes):
            raise ValueError(
                f"Buckets(lengths={self.lengths}): expected rising lengths, each one number or one for each of "
                f"{self.keys}; try (12, 24)"
            )
        if self.window < 1:
            raise ValueError(f"Buckets(window={self.window}): expected at least 1 batch; try 32")
        if self.tokens is not None and self.tokens < max(shapes[-1]):
            raise ValueError(
                f"Buckets(tokens={self.tokens}): expected at least the {max(shapes[-1])} tokens of the longest text"
            )

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """`lengths` with a number for each key."""
        return tuple(n if isinstance(n, tuple) else (n,) * len(self.keys) for n in self.lengths)

    def rows(self, bucket: int, multiple: int) -> int:
        """The rows of a batch of `lengths[bucket]`: a multiple of `multiple`, within `tokens` where that can be."""
        fit = self.tokens // max(self.shapes[bucket])
        return max(fit // multiple, 1) * multiple

    def cut(self, batch: Example, bucket: int) -> Example:
        """The batch with every key cut to its length: [b l ...] -> [b lengths[bucket] ...]."""
        lengths = zip(self.keys, self.shapes[bucket])
        return {**batch, **{key: batch[key][:, :length].copy() for key, length in lengths}}

    def arrange(
        self,
        order: np.ndarray,
        lengths: np.ndarray,
        buckets: np.ndarray,
        batch_size: int,
        head: int,
        random: Callable[[int], np.ndarray],
    ) -> np.ndarray:
        """The permutation `order`, rearranged. Its first `head` examples end a batch that began in the epoch before,
        and stay where they are, as do those that are left over at the end. `random(n)` gives n random integers."""
        count = max(len(order) - head, 0) // batch_size
        body = order[head : head + count * batch_size]
        size = self.window * batch_size
        parts = [body[start : start + size] for start in range(0, len(body), size)]
        parts = [part[np.lexsort((lengths[part], buckets[part]))] for part in parts]
        if not parts:
            return order
        batches = np.concatenate(parts).reshape(count, batch_size)
        batches = batches[np.argsort(random(count), kind="stable")]
        return np.concatenate([order[:head], batches.ravel(), order[head + count * batch_size :]])

    def pack(
        self,
        order: np.ndarray,
        buckets: np.ndarray,
        multiple: int,
        random: Callable[[int], np.ndarray],
    ) -> list[tuple[int, np.ndarray]]:
        """The permutation `order` as (bucket, the examples of a batch), where `tokens` decides the rows.

        How many batches an epoch has does not depend on the order. One, at most, is not full.
        """
        batches, left = [], order[:0]
        for bucket in range(len(self.shapes)):
            # In the order of the epoch, so that it is chance which of them are left over.
            here = order[(buckets[order] == bucket) | np.isin(order, left)]
            rows = self.rows(bucket, multiple)
            full = len(here) // rows * rows
            batches += [(bucket, here[start : start + rows]) for start in range(0, full, rows)]
            left = here[full:]
        if len(left):
            batches.append((int(buckets[left].max()), left))
        return [batches[i] for i in np.argsort(random(len(batches)), kind="stable")]


class Measured:
    """The lengths of a source's texts, found by reading it once."""

    def __init__(self, source: Source, buckets: Buckets):
        found = np.zeros((len(source), len(buckets.keys)), np.int64)
        for index in range(len(source)):
            found[index] = _lengths(source[index], buckets)
        self.lengths = found.max(1)  # Int[examples]: the longest text of each, without padding
        fits = (found[:, None] <= np.array(buckets.shapes)).all(-1)  # [examples buckets]
        self.buckets = fits.argmax(1)  # Int[examples]: the least that holds each
        if not fits.any(1).all():
            index = int(np.argmin(fits.any(1)))
            column = int((found[index] > buckets.shapes[-1]).argmax())
            names = "+".join(type(transform).__name__ for transform in _transforms(buckets))
            raise ValueError(
                f"Buckets(lengths={buckets.lengths}): example id {int(source[index]['id'])}: a text has "
                f"{found[index, column]} tokens; let the last length be what {names} pads "
                f"{buckets.keys[column]!r} to"
            )


@functools.lru_cache(maxsize=8)
def measured(source: Source, buckets: Buckets) -> Measured:
    """Once in a process for equal descriptions."""
    return Measured(source, buckets)


def _lengths(example: Example, buckets: Buckets) -> list[int]:
    for transform in _transforms(buckets):
        example = transform(example)
    return [_length(np.asarray(example[key])) for key in buckets.keys]


def _length(values: np.ndarray) -> int:
    """How many places there are up to the last that is not padding: [5, 7, PAD] -> 2; -1 is padding of labels."""
    kept = np.flatnonzero((values > PAD).reshape(len(values), -1).any(1))
    return int(kept[-1]) + 1 if len(kept) else 0


def _transforms(buckets: Buckets) -> tuple[Any, ...]:
    return buckets.measure if isinstance(buckets.measure, tuple) else (buckets.measure,)
