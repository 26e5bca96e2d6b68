"""Source -> transforms -> batches. The whole state of a pipeline is one integer, the position of the next batch."""

import dataclasses
import functools
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vlm_jax.data.buckets import Buckets, measured
from vlm_jax.data.class_sampling import Sampling, labels_of, sampled_order
from vlm_jax.data.source import BadExample, Source
from vlm_jax.types import Example

Transform = Callable[[Example, np.random.Generator], Example]
MAX_SKIPPED = 0.01  # of the examples; one picture alone never stops a run
# These set the random numbers of the shuffle, and of other orders, apart from those of the transforms.
_ORDER, _BUCKETS, _SAMPLING = 1 << 63, 1 << 62, 1 << 61

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Batches of a source's examples, as numpy arrays, on this host.

    train=True: endless; every epoch is a whole permutation, shuffled by (seed, epoch). A batch may end one epoch
    and begin the next, so a source smaller than a batch is repeated within it.
    train=False: in order, once; the last batch is filled up with copies whose `valid` is False.

    A transform gets a generator that depends on (seed, epoch, index of the example) only. Keys that are not numbers
    are dropped after the transforms. Batches are float32, int32, uint8 and bool; they always have `valid` Bool[b]
    and `id` Int[b] (-1 where there is no example).

    With `buckets`, in training, texts of like length come together and batches are cut to a few lengths. Where
    `buckets.tokens` says how much a batch holds, its rows are a multiple of `batch_size` (so give what devices, hosts
    and micro-batches divide, such as 8), and every epoch has batches of its own.

    With `sampling`, in training, an epoch draws some classes more often than others. An example that is drawn again has
    new random numbers for its transforms, those of (seed, epoch, place in the epoch).

    The work is done by `num_workers` background threads (0: by the caller, when asked) or, where `num_processes` is
    given, by so many processes. Neither changes a batch.
    """

    source: Source
    transforms: tuple[Transform, ...] = ()
    batch_size: int  # global, over all devices and hosts
    train: bool
    seed: int = 0
    num_workers: int = 0
    num_processes: int = 0
    buckets: Buckets | None = None
    sampling: Sampling | None = None

    def __post_init__(self):
        if self.buckets is not None and not self.train:
            raise ValueError(
                "Pipeline(train=False, buckets=...): an evaluation reads its examples in order; leave buckets out"
            )
        if self.sampling is not None and (self.buckets is not None or not self.train):
            other = "buckets=..." if self.train else "train=False"
            raise ValueError(
                f"Pipeline({other}, sampling=...): sampling is for training, without buckets; leave one of them out"
            )
        if self.batch_size < 1:
            raise ValueError(f"batch_size: given {self.batch_size}, expected at least 1")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed: given {self.seed}, expected 0 to 2**64 - 1")
        if min(self.num_workers, self.num_processes) < 0:
            raise ValueError(
                f"given num_workers={self.num_workers}, num_processes={self.num_processes}; "
                "expected 0 or more"
            )

    @property
    def num_examples(self) -> int:
        return len(self.source)

    @property
    def num_batches(self) -> int:
        """Batches until every example has been seen at least once."""
        if self.buckets is not None and self.buckets.tokens is not None:
            return len(_packed(self.seed, 0, self.source, self.batch_size, self.buckets))
        return -(-len(self.source) // self.batch_size)

    def batches(self, position: int = 0, shard: tuple[int, int] = (0, 1)) -> "Batches":
        """Iterates over (next position, batch), from the batch at `position` on.

        Going on at the position that came with a batch gives the batch after it. `shard` is (index, count) of this
        host: it gets its contiguous share of the rows of each global batch.
        """
        return Batches(self, position, shard)


class Batches:
    """The iterator that `Pipeline.batches` returns. `skipped` holds the bad examples met so far: name -> reason."""

    def __init__(self, pipeline: Pipeline, position: int, shard: tuple[int, int]):
        import grain

        index, count = shard
        if not 0 <= index < count:
            raise ValueError(f"shard: given {shard}, expected (index, count) with index < count")
        if pipeline.batch_size % count:
            raise ValueError(
                f"a batch of {pipeline.batch_size} examples cannot be divided among {count} hosts; "
                f"try batch_size {pipeline.batch_size // count * count or count}"
            )
        if position < 0:
            raise ValueError(f"position: given {position}, expected 0 or more")
        self.skipped: dict[str, str] = {}
        self._bad_indices: set[int] = set()
        self._num_examples = len(pipeline.source)
        self._position = position
        self._buckets = pipeline.buckets
        self._spec = None
        if pipeline.train and not self._num_examples:
            raise ValueError(f"{pipeline.source} has no examples to train on")
        grain.config.update("py_traceback_filtering", "off")  # it rewrites the errors' texts
        stop = sys.maxsize // 2 if pipeline.train else pipeline.num_batches
        dataset = grain.MapDataset.range(min(position, stop), stop)
        dataset = dataset.map(_MakeBatch(pipeline, index, count))
        # Few threads: grain's default of 16 costs ten times as much per element on a small machine.
        threads = pipeline.num_workers
        dataset = dataset.to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
        )
        if pipeline.num_processes:
            from absl import flags

            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()  # grain's worker processes insist on it
            dataset = dataset.mp_prefetch(
                grain.MultiprocessingOptions(
                    num_workers=pipeline.num_processes, per_worker_buffer_size=2
                )
            )
        self._iterator = iter(dataset)

    def __iter__(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        return self

    def __next__(self) -> tuple[int, dict[str, np.ndarray]]:
        made = next(self._iterator)
        for bad in made.bad:
            self._bad_indices.add(bad.index)
            if bad.name not in self.skipped:
                self.skipped[bad.name] = bad.reason
                log.warning("skipped %s: %s", bad.name, bad.reason)
        _check_skipped(self.skipped, len(self._bad_indices), self._num_examples)
        self._check_spec(made.batch)
        self._position += 1
        return self._position, made.batch

    def close(self) -> None:
        """Ends the background work. An iterator that is no longer referenced is closed as well."""
        self._iterator.close()

    def _check_spec(self, batch: Mapping[str, np.ndarray]) -> None:
        spec = {key: (value.shape, value.dtype) for key, value in batch.items()}
        if self._buckets is not None:  # lengths change, as they should, and with them the rows
            rows = slice(1 if self._buckets.tokens is not None else 0, 1)
            for key, (shape, dtype) in spec.items():
                places = 2 if key in self._buckets.keys else 1
                spec[key] = (shape[rows] + shape[places:], dtype)
        self._spec = self._spec or spec
        if spec != self._spec:
            ids = batch["id"][batch["valid"]]
            raise ValueError(
                f"the batch with the example ids {ids[:3].tolist()} ... has {_differing(spec, self._spec)}; {_ADVICE}"
            )


class _Bad(NamedTuple):
    name: str
    reason: str
    index: int  # of the example in the source
    id: int


class _Made(NamedTuple):
    batch: dict[str, np.ndarray]
    bad: tuple[_Bad, ...]


class _Pick(NamedTuple):
    epoch: int
    index: int  # of the example in the source
    counts: bool = True  # False: a copy that fills the batch
    draw: int | None = None  # whose random numbers the transforms get; None: the example's


@dataclasses.dataclass(frozen=True)
class _MakeBatch:
    """position -> this host's rows of the global batch there: a pure function, so it may run anywhere, in any order."""

    pipeline: Pipeline
    index: int
    count: int

    def __call__(self, position: int) -> _Made:
        if not self.pipeline.train:
            rows = self.pipeline.batch_size // self.count
            start = position * self.pipeline.batch_size + self.index * rows
            return self._in_order(range(start, start + rows))
        picks, bucket = self._picks(position)
        rows = len(picks) // self.count
        mine = picks[self.index * rows : (self.index + 1) * rows]
        if bucket is None:
            return self._train(mine)
        # All hosts cut alike, so the length is that of the global batch.
        bucket_of = measured(self.pipeline.source, self.pipeline.buckets).buckets
        made = self._train(mine, lambda index: bucket_of[index] <= bucket)
        return made._replace(batch=self.pipeline.buckets.cut(made.batch, bucket))

    def _picks(self, position: int) -> tuple[list[_Pick], int | None]:
        """What stands in the rows of the global batch, and its bucket."""
        pipeline, size = self.pipeline, len(self.pipeline.source)
        buckets, rows = pipeline.buckets, pipeline.batch_size
        if buckets is not None and buckets.tokens is not None:
            epoch, number = divmod(position, pipeline.num_batches)
            packed = _packed(pipeline.seed, epoch, pipeline.source, rows, buckets)
            bucket, examples = packed[number]
            picks = [_Pick(epoch, int(index)) for index in examples]
            copies = buckets.rows(bucket, rows) - len(picks)
            return picks + [picks[0]._replace(counts=False)] * copies, bucket
        slots = (divmod(slot, size) for slot in range(position * rows, (position + 1) * rows))
        picks = [self._pick(epoch, step) for epoch, step in slots]
        if buckets is None:
            return picks, None
        bucket_of = measured(pipeline.source, buckets).buckets
        return picks, int(max(bucket_of[pick.index] for pick in picks))

    def _pick(self, epoch: int, step: int) -> _Pick:
        """What stands there in the endless stream of epochs."""
        pipeline, size = self.pipeline, len(self.pipeline.source)
        if pipeline.sampling is not None:
            order = _sampled_order(pipeline.seed, epoch, pipeline.source, pipeline.sampling)
            return _Pick(epoch, int(order[step]), draw=step)
        if pipeline.buckets is None:
            return _Pick(epoch, int(_order(pipeline.seed, epoch, size)[step]))
        order = _bucketed_order(
            pipeline.seed, epoch, pipeline.source, pipeline.batch_size, pipeline.buckets
        )
        return _Pick(epoch, int(order[step]))

    def _train(
        self, picks: Sequence[_Pick], fits: Callable[[int], bool] = lambda index: True
    ) -> _Made:
        size = len(self.pipeline.source)
        examples, bad = [], {}
        for pick in picks:
            draw = pick.index if pick.draw is None else pick.draw
            # A bad picture is replaced by the next good one in the source: the batch stays full, and what
            # stands there is still a function of (seed, epoch, index).
            for index in ((pick.index + offset) % size for offset in range(size)):
                if not fits(index):
                    continue
                example = bad.get(index) or self._example(index, pick.epoch, draw)
                if not isinstance(example, _Bad):
                    examples.append(example)
                    break
                bad[index] = example
                _check_skipped({b.name: b.reason for b in bad.values()}, len(bad), size)
            else:
                raise _none_good(self.pipeline.source, bad.values())
        batch = _stack(examples)
        batch["valid"] = np.array([pick.counts for pick in picks])
        batch["id"][~batch["valid"]] = -1
        return _Made(batch, tuple(bad.values()))

    def _in_order(self, slots: range) -> _Made:
        size = len(self.pipeline.source)
        results = [self._example(slot, 0, slot) for slot in slots if slot < size]
        bad = [result for result in results if isinstance(result, _Bad)]
        good = [result for result in results if not isinstance(result, _Bad)]
        # Rows without an example are copies of a good one: finite, of the right shape, and not counted.
        filler = good[0] if good else self._any_example(bad)
        examples = [filler if isinstance(result, _Bad) else result for result in results]
        examples += [filler] * (len(slots) - len(results))
        batch = _stack(examples)
        batch["valid"] = np.zeros(len(slots), bool)
        batch["valid"][: len(results)] = [not isinstance(result, _Bad) for result in results]
        batch["id"][len(results) :] = -1
        for row, result in enumerate(results):
            if isinstance(result, _Bad):
                batch["id"][row] = result.id
        return _Made(batch, tuple(bad))

    def _any_example(self, bad: Sequence[_Bad]) -> Example:
        bad = list(bad)
        for index in range(len(self.pipeline.source)):
            example = self._example(index, 0, index)
            if not isinstance(example, _Bad):
                return example
            bad.append(example)
            names = {b.name: b.reason for b in bad}
            _check_skipped(names, len({b.index for b in bad}), len(self.pipeline.source))
        raise _none_good(self.pipeline.source, bad)

    def _example(self, index: int, epoch: int, draw: int) -> Example | _Bad:
        """The example at `index` after the transforms, whose random numbers are those of (seed, epoch, draw)."""
        example = {}
        try:
            example = self.pipeline.source[index]
            if "id" not in example:
                raise KeyError(
                    f"{self.pipeline.source}[{index}] has no 'id'; it has {list(example)}"
                )
            before = example["id"]
            rng = _generator(self.pipeline.seed, (epoch << 40) | draw)
            for transform in self.pipeline.transforms:
                example = transform(example, rng)
        except BadExample as error:
            return _Bad(error.name, error.reason, index, int(example.get("id", -1)))
        numbers = {key: value for key, value in example.items() if _is_number(value)}
        return numbers if "id" in numbers else {**numbers, "id": before}


def _generator(seed: int, stream: int) -> np.random.Generator:
    # Philox is a function of its key: there is no state to carry.
    return np.random.Generator(np.random.Philox(_Key(seed, stream)))


class _Key(np.random.bit_generator.ISeedSequence):
    """Gives Philox its key: the same numbers as Philox(key=...), which asks the system for entropy each time."""

    def __init__(self, *words: int):
        self._words = np.array(words, np.uint64)

    def generate_state(self, n_words, dtype=np.uint32):
        return self._words


@functools.lru_cache(maxsize=8)
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    """Int[size]: the permutation of an epoch. From raw random bits, which numpy keeps the same in every version."""
    raw = np.random.Philox(_Key(seed, _ORDER | epoch)).random_raw(size)
    return np.argsort(raw, kind="stable")


@functools.lru_cache(maxsize=8)
def _sampled_order(seed: int, epoch: int, source: Source, sampling: Sampling) -> np.ndarray:
    """Int[size]: the examples of an epoch, some classes more often than others."""
    random = np.random.Philox(_Key(seed, _SAMPLING | epoch)).random_raw
    return sampled_order(sampling, labels_of(source), epoch, random)


@functools.lru_cache(maxsize=8)
def _bucketed_order(
    seed: int, epoch: int, source: Source, batch_size: int, buckets: Buckets
) -> np.ndarray:
    """Int[size]: the permutation of an epoch with texts of like length together."""
    size, found = len(source), measured(source, buckets)
    return buckets.arrange(
        _order(seed, epoch, size),
        found.lengths,
        found.buckets,
        batch_size,
        head=min(-epoch * size % batch_size, size),
        random=np.random.Philox(_Key(seed, _BUCKETS | epoch)).random_raw,
    )


@functools.lru_cache(maxsize=8)
def _packed(
    seed: int, epoch: int, source: Source, multiple: int, buckets: Buckets
) -> list[tuple[int, np.ndarray]]:
    """The batches of an epoch, (bucket, Int[rows]), each within the tokens that a batch holds."""
    return buckets.pack(
        _order(seed, epoch, len(source)),
        measured(source, buckets).buckets,
        multiple,
        random=np.random.Philox(_Key(seed, _BUCKETS | epoch)).random_raw,
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "biuf"
    return isinstance(value, bool | int | float)


_ADVICE = "pad texts to one length and resize pictures to one size in the transforms"


def _stack(examples: Sequence[Example]) -> dict[str, np.ndarray]:
    """Examples with the same keys and shapes -> arrays with a leading axis b, in the types that devices take."""
    first = {key: np.asarray(value) for key, value in examples[0].items()}
    batch = {}
    for key, value in first.items():
        dtype = np.float32 if value.dtype.kind == "f" else value.dtype
        batch[key] = np.empty((len(examples), *value.shape), dtype)
    for row, example in enumerate(examples):
        if example.keys() != first.keys() or any(
            np.shape(value) != first[key].shape for key, value in example.items()
        ):
            given, expected = (
                {key: (np.shape(value), None) for key, value in one.items()}
                for one in (example, first)
            )
            raise ValueError(
                f"example id {int(example['id'])} has {_differing(given, expected)} as "
                f"id {int(first['id'])} has; {_ADVICE}"
            )
        for key, value in example.items():
            batch[key][row] = value
    return {key: _int32(key, value, batch) for key, value in batch.items()}


def _int32(key: str, values: np.ndarray, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """JAX computes in 32 bits and cuts off what is longer; here, that is an error."""
    if values.dtype not in (np.int64, np.uint64):
        return values
    cast = values.astype(np.int32)
    wrong = np.argwhere(cast != values)
    if len(wrong):
        raise ValueError(
            f"example id {int(batch['id'][wrong[0][0]])}: {key!r} holds {values[tuple(wrong[0])]}, "
            "which does not fit 32 bits"
        )
    return cast


def _differing(given: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    for key in (*expected, *given):
        if given.get(key) != expected.get(key):
            has, wants = (
                f"no {key!r}" if spec.get(key) is None else f"{key!r} of shape {spec[key][0]}"
                for spec in (given, expected)
            )
            return f"{has}, expected {wants}"
    raise AssertionError("nothing differs")


def _check_skipped(skipped: Mapping[str, str], num_bad: int, num_examples: int) -> None:
    if len(skipped) > 1 and num_bad > MAX_SKIPPED * num_examples:
        listed = "".join(f"\n  {name}: {reason}" for name, reason in list(skipped.items())[:20])
        more = f"\n  ... and {len(skipped) - 20} more" if len(skipped) > 20 else ""
        raise TooManyBadPictures(
            f"{num_bad} of {num_examples} examples cannot be used, more than {MAX_SKIPPED:.0%}; mend them or take "
            f"them out of the set:{listed}{more}"
        )


def _none_good(source: Source, bad: Any) -> "TooManyBadPictures":
    listed = "".join(f"\n  {b.name}: {b.reason}" for b in list(bad)[:20])
    return TooManyBadPictures(f"{source} has no example that can be used:{listed}")


class TooManyBadPictures(ValueError):
    """More than 1 % of the examples were skipped."""
