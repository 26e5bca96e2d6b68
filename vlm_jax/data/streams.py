"""One long text, read on from batch to batch, for language models that carry their state (truncated backpropagation)."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from vlm_jax.data.source import Source
from vlm_jax.data.text_transforms import text_at
from vlm_jax.data.word_windows import rows_of_host
from vlm_jax.types import BOS, EOS, PAD


@dataclasses.dataclass(frozen=True, kw_only=True)
class Streams:
    """Windows of the texts of a source, put one behind the other with EOS after each; a pipeline like any other.

    The tokens are cut into `batch_size` rows of equal length, read side by side, `length` tokens a batch. A row of
    `target` [b length+1] begins with the last token of the window before, or with BOS where a row begins: there a
    decoder that carries its state starts anew.

        a b . c d e f . g h     2 rows, length 3:
        [[BOS a b .], [BOS e f .]]    [[. c d PAD], [. g h PAD]]

    Every token of the source is predicted exactly once an epoch. train=True: endless, always in this order. `bytes`
    [b] is how many bytes of UTF-8 the texts have that end in a window, the line break after each counted: divide by
    their sum for bits per byte. With `context`, for decoders without a state, a window also has so many tokens of the
    text before it, or as many as there are and padding before them; they are read and not predicted (`predicted`
    [b context+length] is False). `length` is then the stride of a sliding window.
    """

    source: Source
    tokenizer: Any
    batch_size: int
    length: int
    train: bool
    key: str = "text"
    context: int = 0
    seed: int = 0  # the order of a text is that of the text

    def __post_init__(self):
        if self.batch_size < 1 or self.length < 1 or self.context < 0:
            raise ValueError(
                f"Streams(batch_size={self.batch_size}, length={self.length}, context={self.context}): expected at "
                "least 1, 1 and 0"
            )

    @property
    def num_examples(self) -> int:
        return len(self.source)

    @property
    def row_length(self) -> int:
        """The tokens of a row; the last rows may have fewer."""
        return -(-len(_tokens(self.source, self.tokenizer, self.key).ids) // self.batch_size)

    @property
    def num_batches(self) -> int:
        """Batches of an epoch."""
        return -(-self.row_length // self.length)

    def batches(
        self, position: int = 0, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Iterates over (next position, batch), from the batch at `position` on; `shard` as in Pipeline.batches."""
        if position < 0:
            raise ValueError(f"given position {position}, expected 0 or more")
        mine = rows_of_host(self.batch_size, shard)
        return self._from(position, np.arange(mine.start, mine.stop))

    def _from(self, position: int, rows: np.ndarray) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        while self.train or position < self.num_batches:
            batch = self._batch(position % self.num_batches, rows)
            position += 1
            yield position, batch

    def _batch(self, window: int, rows: np.ndarray) -> dict[str, np.ndarray]:
        text, row_length = _tokens(self.source, self.tokenizer, self.key), self.row_length
        starts, ends = rows * row_length, np.minimum((rows + 1) * row_length, len(text.ids))
        first = starts + window * self.length  # the first that is predicted
        columns = np.arange(-self.context - 1, self.length)
        places = first[:, None] + columns
        valid = first < ends
        inside = (places >= -1) & (places < ends[:, None]) & valid[:, None]
        predicted = inside & (columns >= 0)
        # With a context a row sees the row before it, and only the text has a beginning.
        begins = places == (-1 if self.context else starts[:, None] - 1)
        places = np.clip(places, 0, len(text.ids) - 1)
        target = np.where(inside, np.where(begins, BOS, text.ids[places]), PAD)
        batch = {
            "id": np.where(valid, window * self.batch_size + rows, -1).astype(np.int32),
            "target": target.astype(np.int32),
            "valid": valid,
            "bytes": np.where(predicted, text.bytes[places], 0).sum(1).astype(np.int32),
        }
        return {**batch, "predicted": predicted[:, 1:]} if self.context else batch


@dataclasses.dataclass(frozen=True)
class _Text:
    ids: np.ndarray  # Int[n]
    bytes: np.ndarray  # Int[n], at the end of each text its bytes, 0 elsewhere


@functools.lru_cache(maxsize=8)
def _tokens(source: Source, tokenizer: Any, key: str) -> _Text:
    """All texts of the source, read once in a process."""
    ids, sizes = [], []
    for index in range(len(source)):
        text = text_at(source[index], key, "Streams")
        found = [*tokenizer.encode(text), EOS]
        ids += found
        sizes += [0] * (len(found) - 1) + [len(text.encode("utf-8", "replace")) + 1]
    if not ids:
        raise ValueError(f"{source} has no text")
    return _Text(np.array(ids, np.int32), np.array(sizes, np.int64))
