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
    """How a training pipeline groups its examples by the length of the text at `key`.

    Each epoch stays a permutation. Of every `window` batches of it the examples are sorted by length and cut into
    batches again, whose order is then shuffled (as Xu et al. 2015, section 4.3, who draw a length for each batch). A
    batch is cut to the least of `lengths` that holds its longest text: [b 24] -> [b 13]. A step is compiled for each
    of `lengths`, so give a few; the last is what `measure` pads to.

    `measure` is the transform, without randomness, that writes `key`: `Tokenize(...)`.
    """

    lengths: tuple[int, ...]
    measure: Callable[..., Example]
    key: str = "target"
    window: int = 32

    def __post_init__(self):
        if not self.lengths or list(self.lengths) != sorted(set(self.lengths)):
            raise ValueError(
                f"Buckets(lengths={self.lengths}): expected rising lengths; try (12, 24)"
            )
        if self.window < 1:
            raise ValueError(f"Buckets(window={self.window}): expected at least 1 batch; try 32")

    def cut(self, longest: int) -> int:
        """The least of `lengths` that holds `longest` tokens."""
        for length in self.lengths:
            if length >= longest:
                return length
        raise ValueError(
            f"Buckets(lengths={self.lengths}): a text has {longest} tokens; let the last length be what "
            f"{type(self.measure).__name__} pads {self.key!r} to"
        )

    def arrange(
        self, order: np.ndarray, lengths: np.ndarray, batch_size: int, head: int, random: Any
    ) -> np.ndarray:
        """The permutation `order`, rearranged. Its first `head` examples end a batch that began in the epoch before,
        and stay where they are, as do those that are left over at the end. `random(n)` gives n random integers."""
        count = max(len(order) - head, 0) // batch_size
        body = order[head : head + count * batch_size]
        size = self.window * batch_size
        parts = [body[start : start + size] for start in range(0, len(body), size)]
        parts = [part[np.argsort(lengths[part], kind="stable")] for part in parts]
        if not parts:
            return order
        batches = np.concatenate(parts).reshape(count, batch_size)
        batches = batches[np.argsort(random(count), kind="stable")]
        return np.concatenate([order[:head], batches.ravel(), order[head + count * batch_size :]])


@functools.lru_cache(maxsize=8)
def lengths_of(source: Source, buckets: Buckets) -> np.ndarray:
    """Int[examples]: the tokens of each, without padding. Reads the whole source once."""
    return np.array([_length(source[index], buckets) for index in range(len(source))], np.int64)


def _length(example: Example, buckets: Buckets) -> int:
    return int(np.count_nonzero(buckets.measure(example)[buckets.key] != PAD))
