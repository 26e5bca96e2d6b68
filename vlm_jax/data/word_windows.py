"""Running text -> words with the words around them, for Word2Vec. The whole state is one integer."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from vlm_jax.data.source import Source
from vlm_jax.types import NUM_SPECIAL, PAD


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordWindows:
    """Rows of `centers` words that follow each other, the words around them, and negatives drawn for the row.

        text       Int[b window+centers+window]   centers in the middle; sentences one after another
        left       Int[b centers]                 how many words before each centre are its context
        right      Int[b centers]                 and after it
        negatives  Int[b negatives]               drawn by count^power, for all centers of the row

    A context stays in its sentence and is at most a number drawn from 1 ... window wide (Mikolov et al. 2013, arXiv
    1301.3781, section 3.2). Before that, words are left out at random as in the authors' code: a word of frequency f
    is kept with probability `sqrt(t / f) + t / f`, t = `subsample` (arXiv 1310.4546, section 2.3, has the first
    term alone), and so are words that the tokenizer does not know.

    Each epoch shuffles the sentences and draws anew, by (seed, epoch) alone. All epochs have the same number of
    batches: the last is filled up with PAD.
    """

    source: Source
    tokenizer: Any
    batch_size: int  # rows
    train: bool = True
    seed: int = 0
    texts: str = "sentence"
    centers: int = 32
    window: int = 5
    negatives: int = 32
    subsample: float = 1e-3
    power: float = 0.75

    def __post_init__(self):
        for name in ("batch_size", "centers", "window", "negatives"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"WordWindows: {name} is {getattr(self, name)}, expected at least 1"
                )
        if self.subsample <= 0:
            raise ValueError(
                f"WordWindows: subsample is {self.subsample}, expected above 0; try 1e-3"
            )

    @property
    def num_batches(self) -> int:
        """Batches an epoch: room for the words that are kept on average and four standard deviations more."""
        kept = self._kept[self._text.ids]
        room = kept.sum() + 4 * np.sqrt((kept * (1 - kept)).sum()) + 1
        return -(-int(room) // (self.batch_size * self.centers))

    @property
    def num_words(self) -> int:
        """Words of the text that have a row of their own, before any is left out."""
        return len(self._text.ids)

    def batches(
        self, position: int = 0, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """(next position, batch) from the batch at `position` on; without `train`, one epoch."""
        mine, num_batches = rows_of_host(self.batch_size, shard), self.num_batches
        while self.train or position < num_batches:
            batch = self._batch(*divmod(position, num_batches))
            position += 1
            yield position, {k: v[mine] for k, v in batch.items()}

    def _batch(self, epoch: int, step: int) -> dict[str, np.ndarray]:
        stream = _epoch(self, epoch)
        size = self.batch_size * self.centers
        where = slice(step * size, (step + 1) * size)
        halo = stream.ids[where.start : where.stop + 2 * self.window]
        text = np.lib.stride_tricks.sliding_window_view(halo, self.centers + 2 * self.window)
        rng = _generator(self.seed, (1 << 62) | epoch << 40 | step)
        first = np.arange(self.batch_size) + step * self.batch_size
        return {
            "text": np.ascontiguousarray(text[:: self.centers]),
            "left": stream.left[where].reshape(-1, self.centers),
            "right": stream.right[where].reshape(-1, self.centers),
            "negatives": self._noise.draw(rng, (self.batch_size, self.negatives)),
            "valid": first * self.centers < stream.length,
            "id": first.astype(np.int32),
        }

    @functools.cached_property
    def _text(self) -> "EncodedText":
        return encoded_text(self.source, self.tokenizer, self.texts)

    @functools.cached_property
    def _kept(self) -> np.ndarray:
        """Float[v]: the probability with which a word is kept."""
        ratio = self.subsample * self._text.counts.sum() / np.maximum(self._text.counts, 1)
        return np.minimum(np.sqrt(ratio) + ratio, 1.0)

    @functools.cached_property
    def _noise(self) -> "Noise":
        return Noise(self._text.counts.astype(np.float64) ** self.power * (self._text.counts > 0))

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


class Noise:
    """Draws n with a probability proportional to weights[n], in constant time: Walker's alias method (Vose 1991).

    Each of v equally likely cells holds one number up to a threshold and another one above it.
    """

    def __init__(self, weights: np.ndarray):
        size = len(weights)
        level = weights * (size / weights.sum())
        self._threshold, self._other = np.ones(size), np.arange(size, dtype=np.int32)
        low, high = [list(np.flatnonzero(mask)) for mask in (level < 1.0, level >= 1.0)]
        while low and high:
            short, long = low.pop(), high[-1]
            self._threshold[short], self._other[short] = level[short], long
            level[long] -= 1.0 - level[short]
            if level[long] < 1.0:
                low.append(high.pop())

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Int32[shape]"""
        place = rng.random(shape) * len(self._threshold)
        cell = place.astype(np.int32)
        return np.where(place - cell < self._threshold[cell], cell, self._other[cell])


def rows_of_host(batch_size: int, shard: tuple[int, int]) -> slice:
    """The rows of a global batch that are host `index`'s, of `shard` (index, count)."""
    index, count = shard
    if not 0 <= index < count or batch_size % count:
        raise ValueError(
            f"shard: given {shard}, expected (index, count) with index < count and a count that divides the "
            f"batch_size {batch_size}"
        )
    rows = batch_size // count
    return slice(index * rows, (index + 1) * rows)


class EncodedText(NamedTuple):
    """A text as rows of the tokenizer's table; unknown words are left out."""

    ids: np.ndarray  # Int32[words]
    lengths: np.ndarray  # Int64[sentences]
    counts: np.ndarray  # Int64[v]


@functools.lru_cache(maxsize=2)
def encoded_text(source: Source, tokenizer: Any, texts: str) -> EncodedText:
    """Every text of the source under `texts`, in the order of its ids."""
    references = source.references
    sentences = [
        np.array(tokenizer.encode(text), np.int32)
        for key in sorted(references)
        for text in references[key].get(texts, ())
    ]
    sentences = [ids[ids >= NUM_SPECIAL] for ids in sentences]
    if not sum(map(len, sentences)):
        raise ValueError(
            f"{type(source).__name__} has no known word under {texts!r}; expected texts to learn words from"
        )
    ids = np.concatenate(sentences)
    return EncodedText(
        ids=ids,
        lengths=np.array([len(s) for s in sentences], np.int64),
        counts=np.bincount(ids, minlength=tokenizer.vocab_size),
    )


class _Stream(NamedTuple):
    """What is left of the text in one epoch, in its order."""

    ids: np.ndarray  # Int32[window + room + window], PAD around the words
    left: np.ndarray  # Int32[room]
    right: np.ndarray  # Int32[room]
    length: int


@functools.lru_cache(maxsize=2)
def _epoch(windows: WordWindows, epoch: int) -> _Stream:
    text, rng = windows._text, _generator(windows.seed, epoch)
    order = rng.permutation(len(text.lengths)) if windows.train else np.arange(len(text.lengths))
    lengths = text.lengths[order]
    starts = (np.cumsum(text.lengths) - text.lengths)[order]
    places = np.arange(len(text.ids)) - np.repeat(np.cumsum(lengths) - lengths - starts, lengths)
    ids, sentence = text.ids[places], np.repeat(np.arange(len(order)), lengths)
    kept = rng.random(len(ids)) < windows._kept[ids]
    ids, sentence = ids[kept], sentence[kept]
    room = windows.num_batches * windows.batch_size * windows.centers
    ids, sentence = ids[:room], sentence[:room]
    count = np.bincount(sentence, minlength=len(order))
    before = np.arange(len(ids)) - np.repeat(np.cumsum(count) - count, count)
    after = np.repeat(count, count) - 1 - before
    reach = rng.integers(1, windows.window + 1, len(ids))
    rest = room - len(ids)

    def padded(values, before, after):
        return np.pad(values.astype(np.int32), (before, after), constant_values=PAD)

    return _Stream(
        ids=padded(ids, windows.window, rest + windows.window),
        left=padded(np.minimum(reach, before), 0, rest),
        right=padded(np.minimum(reach, after), 0, rest),
        length=len(ids),
    )


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, stream]))
