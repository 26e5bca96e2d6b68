"""How often words stand near each other, counted once, as batches of (word, context, count) for GloVe."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from vlm_jax.data.source import Source
from vlm_jax.data.word_windows import EncodedText, encoded_text, rows_of_host

CHUNK = 1 << 18  # words whose pairs are counted at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoOccurrences:
    """The cells of the matrix of co-occurrences that are not zero, in an order shuffled by (seed, epoch).

        word, context  Int[b]
        count          Float[b]   a pair d words apart in a sentence counts 1 / d, up to `window` words

    (Pennington et al. 2014, section 4.2.) The matrix is symmetric and both halves are read. The whole state is one
    integer, the position of the next batch; the last batch of an epoch is filled up with rows that are not valid.
    """

    source: Source
    tokenizer: Any
    batch_size: int
    train: bool = True
    seed: int = 0
    texts: str = "sentence"
    window: int = 10

    def __post_init__(self):
        for name in ("batch_size", "window"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"CoOccurrences: {name} is {getattr(self, name)}, expected at least 1"
                )

    @property
    def num_batches(self) -> int:
        return -(-len(self._cells.count) // self.batch_size)

    @property
    def num_words(self) -> int:
        """Words of the text that have a row of their own."""
        return len(self._text.ids)

    def batches(
        self, position: int = 0, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """(next position, batch) from the batch at `position` on; without `train`, one epoch."""
        mine, num_batches = rows_of_host(self.batch_size, shard), self.num_batches
        rows = mine.stop - mine.start
        while self.train or position < num_batches:
            epoch, step = divmod(position, num_batches)
            order = _order(self, epoch)
            start = step * self.batch_size + mine.start
            chosen = order[start : min(start + rows, len(order))]
            cells, rest = self._cells, (0, rows - len(chosen))
            position += 1
            yield (
                position,
                {
                    "word": np.pad(cells.word[chosen], rest),
                    "context": np.pad(cells.context[chosen], rest),
                    "count": np.pad(cells.count[chosen], rest, constant_values=1.0),
                    "valid": np.arange(rows) < len(chosen),
                    "id": np.pad(chosen.astype(np.int32), rest, constant_values=-1),
                },
            )

    @functools.cached_property
    def _text(self) -> EncodedText:
        return encoded_text(self.source, self.tokenizer, self.texts)

    @functools.cached_property
    def _cells(self) -> "Cells":
        return count_pairs(self._text, self.window)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


class Cells(NamedTuple):
    """The cells that are not zero, sorted by word and context."""

    word: np.ndarray  # Int32[cells]
    context: np.ndarray  # Int32[cells]
    count: np.ndarray  # Float32[cells]


def count_pairs(text: EncodedText, window: int, chunk: int = CHUNK) -> Cells:
    """The text is read `chunk` words at a time: memory grows with the cells, not with the pairs."""
    size = len(text.counts)
    sentence = np.repeat(np.arange(len(text.lengths)), text.lengths)
    keys, sums = np.zeros(0, np.int64), np.zeros(0, np.float64)
    for start in range(0, len(text.ids), chunk):
        found, weights = [keys], [sums]
        for away in range(1, window + 1):
            left = np.arange(start, min(start + chunk, len(text.ids) - away))
            left = left[sentence[left] == sentence[left + away]]
            a, b = text.ids[left].astype(np.int64), text.ids[left + away].astype(np.int64)
            found += [np.minimum(a, b) * size + np.maximum(a, b)]
            weights.append(np.full(len(left), 1.0 / away))
        keys, where = np.unique(np.concatenate(found), return_inverse=True)
        sums = np.bincount(where, np.concatenate(weights), len(keys))
    low, high = np.divmod(keys, size)
    twice = low != high  # of a word beside itself both halves are one cell, with both in it
    word = np.concatenate([low, high[twice]]).astype(np.int32)
    context = np.concatenate([high, low[twice]]).astype(np.int32)
    count = np.concatenate([np.where(twice, sums, 2 * sums), sums[twice]]).astype(np.float32)
    order = np.lexsort((context, word))
    return Cells(word=word[order], context=context[order], count=count[order])


@functools.lru_cache(maxsize=2)
def _order(pairs: CoOccurrences, epoch: int) -> np.ndarray:
    count = len(pairs._cells.count)
    if not pairs.train:
        return np.arange(count)
    rng = np.random.Generator(np.random.Philox(key=[pairs.seed, epoch]))
    return rng.permutation(count)
