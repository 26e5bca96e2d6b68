"""Several short texts in one row, so that less of a batch is padding; a model sees each as if it stood alone.

    [BOS a b EOS BOS c EOS PAD]      target
    [ 0  0 0  0   1  1  1  -1 ]      segment

`TransformerDecoder` lets no token see another segment, and counts positions anew in each; `Generation` predicts no
token across a border. So loss and gradients are those of the same texts in rows of their own.
"""

import dataclasses
import functools
import heapq
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from vlm_jax.data.source import Description, Source
from vlm_jax.data.text_transforms import Tokenize
from vlm_jax.types import PAD, Example, References

NO_ROW = np.iinfo(np.int64).max


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packed(Description):
    """The texts of `source` in rows of `length` tokens, first fit: each goes, in the order of the source, into the first
    row that has room for it. An example is a row: `target` [length], `segment` [length], -1 at padding, and
    `predicted` [length-1] where `tokenize` writes it.

    The rows are the same in every epoch, which shuffles them. `tokenize` is the transform, without randomness, that
    writes `target`; texts longer than `length` are its to cut.
    """

    source: Source
    tokenize: Callable[..., Example]
    length: int

    @property
    def references(self) -> References:
        """None: a row is no example of the source."""
        return {}

    @functools.cached_property
    def rows(self) -> tuple[tuple[int, ...], ...]:
        """The examples of the source in each row."""
        sizes = [_size(self._row(index)["target"]) for index in range(len(self.source))]
        for index, size in enumerate(sizes):
            if size > self.length:
                raise ValueError(
                    f"Packed(length={self.length}): example id {int(self.source[index]['id'])} has {size} tokens; let "
                    f"{type(self.tokenize).__name__} cut texts to the length of a row"
                )
        return first_fit(sizes, self.length)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} rows")
        packed = pack([self._row(number) for number in self.rows[index]], self.length)
        return {"id": np.int64(index), **packed}

    def _row(self, index: int) -> Example:
        return self.tokenize(self.source[index])


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackTexts:
    """All texts at `key` in one row of `length` tokens, in a random order: a picture is encoded once for all of its
    captions. Of those that do not fit, others are left out each epoch.

        {"captions": ("a dog", "a black dog")} -> target [BOS a black dog EOS BOS a dog EOS PAD], and segment
    """

    tokenize: Tokenize
    length: int
    key: str = "captions"

    def __post_init__(self):
        if self.length < self.tokenize.max_length:
            raise ValueError(
                f"PackTexts(length={self.length}): expected at least the max_length {self.tokenize.max_length} of one text"
            )

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        texts = example[self.key]
        if isinstance(texts, str) or not len(texts):
            raise ValueError(
                f"PackTexts: {self.key!r} of example {example.get('id')} is {texts!r}, expected at least one text in a "
                "tuple"
            )
        kept, room = [], self.length
        for place in rng.permutation(len(texts)):
            row = self.tokenize({**example, self.tokenize.key: texts[place]})
            if _size(row["target"]) <= room:
                kept.append(row)
                room -= _size(row["target"])
        return {**example, **pack(kept, self.length)}


def first_fit(sizes: Iterable[int], length: int) -> tuple[tuple[int, ...], ...]:
    """What goes into each row: each in the first that has room.

    sizes [3, 3, 1, 2], length 5 -> ((0, 2), (1, 3))
    """
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(length + 1)]  # heaps of rows, by their room
    first = np.full(length + 1, NO_ROW)  # the first of each heap
    for number, size in enumerate(sizes):
        room = size + int(np.argmin(first[size:]))
        if first[room] == NO_ROW:
            room, row = length, len(rows)
            rows.append([])
        else:
            row = heapq.heappop(with_room[room])
            first[room] = with_room[room][0] if with_room[room] else NO_ROW
        rows[row].append(number)
        room -= size
        heapq.heappush(with_room[room], row)
        first[room] = with_room[room][0]
    return tuple(tuple(row) for row in rows)


def pack(rows: Sequence[Example], length: int) -> Example:
    """`target` and `segment` [length], and `predicted` [length-1] where the rows have it."""
    target, segment = np.full(length, PAD, np.int32), np.full(length, -1, np.int32)
    predicted, start = np.zeros(length - 1, bool), 0
    for number, row in enumerate(rows):
        size = _size(row["target"])
        target[start : start + size] = row["target"][:size]
        segment[start : start + size] = number
        if "predicted" in row:  # of the labels, which are one place behind
            predicted[start : start + size - 1] = row["predicted"][: size - 1]
        start += size
    packed = {"target": target, "segment": segment}
    return {**packed, "predicted": predicted} if rows and "predicted" in rows[0] else packed


def _size(target: np.ndarray) -> int:
    return int(np.count_nonzero(np.asarray(target) != PAD))
