"""`Encoded`: the features of a frozen encoder, computed once, kept on disk, read as a source."""

import dataclasses
import functools
import hashlib
import json
import logging
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vlm_jax import config
from vlm_jax.data.files import cache_dir, locked, sha256
from vlm_jax.data.pipeline import Pipeline, Transform
from vlm_jax.data.source import Description, Source
from vlm_jax.types import Example, References

FORMAT = 1  # part of every hash: raise it when the same description would give other numbers

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoded(Description):
    """The examples of `source`, with `image` replaced by its features, float32 [n d].

    `encoder(image, train=False) -> Features` runs over `transforms` of the pictures when the source is first read.
    The features go to `$VLM_JAX_CACHE` (default `~/.cache/vlm_jax`) as one `dtype` array under a hash of the
    encoder, its parameters, the transforms, and the source with its ids; whatever changes one of them computes anew.
    `init_params(variables) -> variables` gives the encoder its weights; None leaves those of `encoder.init`, key 0.

    In this order: `pool` keeps the mean over positions, [1 d]; `log1p` takes log(1 + x); `standardise` subtracts the
    mean and divides by the standard deviation that each feature has over the pictures of that source (the training
    pictures, whatever `source` is). A picture that cannot be decoded is left out, with a warning.

    `statistics` is a file of `save_statistics`, read instead of measuring: then the pictures of `standardise` need
    not be there. Where it does not have those of these transforms, they are measured.

    dtype "int32" is for encoders that give whole numbers, such as the codes of an image tokenizer, and leaves them so.

    A source without a `fingerprint` (`Pictures`, `InMemory`) is encoded in memory and leaves no file.
    Captions go outside: `EachCaption(Encoded(source=...))`, or each picture would be encoded five times.
    """

    source: Source
    encoder: Any  # a Linen module
    init_params: Callable[[Any], Any] | None = None
    transforms: tuple[Transform, ...] = ()
    batch_size: int = 32
    dtype: str = "float16"
    pool: bool = False
    log1p: bool = False
    standardise: Source | None = None
    statistics: str | None = None
    seed: int = 0  # of random transforms, which draw once for all

    def __post_init__(self):
        if self.dtype not in ("float16", "float32", "int32"):
            raise ValueError(
                f"dtype: given {self.dtype!r}, expected 'float16', 'float32', or 'int32' for whole numbers"
            )
        if self.dtype == "int32" and (self.pool or self.log1p or self.standardise is not None):
            raise ValueError(
                "dtype 'int32' keeps whole numbers, which pool, log1p and standardise would not; leave them out"
            )
        for source in (self.source, self.standardise):
            if hasattr(source, "needs_texts"):
                name, texts = type(source).__name__, source.needs_texts
                raise TypeError(
                    f"given Encoded(source={name}(...)), which would encode a picture once for each of its {texts}; "
                    f"try {name}(Encoded(source=...))"
                )

    @functools.cached_property
    def references(self) -> References:
        return self.source.references

    def __len__(self) -> int:
        return len(self._opened.examples)

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} examples")
        features = self._opened.features[index]
        if self.dtype == "int32":
            return {**self.example(index), "image": np.array(features)}
        features = _float32(features)
        if self._statistics is not None:
            features -= self._statistics.mean
            features *= self._statistics.scale
        return {**self.example(index), "image": features}

    def example(self, index: int) -> Example:
        """The example without its features, which then need not be read."""
        return self._opened.examples[index]

    @property
    def file(self) -> Path | None:
        """Where the features lie (None: in memory only)."""
        return self._opened.file

    def __getstate__(self) -> dict[str, Any]:
        # A worker process gets what was found out already, so that it does not start JAX on a device of its own.
        state, known = super().__getstate__(), self.__dict__
        state |= {name: known[name] for name in ("_statistics",) if name in known}
        if "_opened" in known:
            in_memory = self._opened.file is None
            state |= {"_opened": self._opened} if in_memory else {"_file": self._opened.file}
        return state

    @functools.cached_property
    def _opened(self) -> "_OpenedEncoded":
        known = self.__dict__.get("_file")
        if known is not None and (read := _read(known)) is not None:
            examples = [_without_picture(self.source[i]) for i in read[1]]
            return _OpenedEncoded(read[0], tuple(examples), known)
        return _open_encoded(dataclasses.replace(self, standardise=None, statistics=None))

    @functools.cached_property
    def _statistics(self) -> "_Statistics | None":
        if self.standardise is None:
            return None
        if self.statistics is not None:
            with np.load(self.statistics, allow_pickle=False) as saved:
                key = _statistics_key(self)
                if f"{key}.mean" in saved:
                    return _Statistics(saved[f"{key}.mean"], saved[f"{key}.scale"])
        measured = dataclasses.replace(
            self, source=self.standardise, standardise=None, statistics=None
        )
        return _statistics(measured)


class _OpenedEncoded(NamedTuple):
    features: np.ndarray  # [examples n d], a memory map where there is a file
    examples: tuple[Example, ...]  # without their pictures
    file: Path | None


class _Statistics(NamedTuple):
    mean: np.ndarray  # [d]
    scale: np.ndarray  # [d], 1 / standard deviation; 1 for a feature that never changes


@functools.lru_cache(maxsize=16)
def _open_encoded(encoded: Encoded) -> _OpenedEncoded:
    variables = _encoder_variables(encoded)
    examples = [_without_picture(encoded.source[i]) for i in range(len(encoded.source))]
    fingerprint = getattr(encoded.source, "fingerprint", None)
    if fingerprint is None or not examples:
        parts = list(_encode(encoded, variables))
        kept = [index for _, indices in parts for index in indices]
        rows = [rows for rows, _ in parts] or [np.zeros((0, 1, 1), encoded.dtype)]
        return _OpenedEncoded(np.concatenate(rows), tuple(examples[i] for i in kept), None)
    described = {
        "format": FORMAT,
        "encoder": config.to_json(encoded.encoder),
        "variables": _hash_of(variables),
        "transforms": config.to_json(encoded.transforms),
        "source": fingerprint,
        "ids": hashlib.sha256(
            np.array([example["id"] for example in examples], np.int64).tobytes()
        ).hexdigest(),
        "length": len(examples),
        "options": _options(encoded),
    }
    file = cache_dir() / f"{_key(described)}.npy"
    read = _read(file)
    if read is None:
        with locked(file.with_suffix(".lock")):
            read = _read(file)
            if read is None:
                _write(file, described, encoded, variables)
                read = _read(file)
    features, kept = read
    return _OpenedEncoded(features, tuple(examples[i] for i in kept), file)


def save_statistics(sources: Iterable[Encoded], path: Path) -> None:
    """Writes mean and scale of each source that standardises into one .npz, for `Encoded.statistics`."""
    arrays = {}
    for source in sources:
        if source._statistics is not None:
            for name, values in source._statistics._asdict().items():
                arrays[f"{_statistics_key(source)}.{name}"] = values
    with open(path, "wb") as stream:
        np.savez(stream, **arrays)


def _statistics_key(encoded: Encoded) -> str:
    """Names what was measured, but for the pictures."""
    parts = (encoded.encoder, encoded.init_params, encoded.transforms)
    return _key([[config.to_json(part) for part in parts], _options(encoded)])


def _options(encoded: Encoded) -> list[Any]:
    """What changes the features beside encoder, weights, transforms and pictures."""
    return [encoded.dtype, encoded.pool, encoded.log1p, encoded.seed]


def _key(described: Any) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]


@functools.lru_cache(maxsize=16)
def _statistics(encoded: Encoded) -> _Statistics:
    """Mean and standard deviation of each feature over all positions of all pictures, summed in float64."""
    opened = encoded._opened
    if not len(opened.features):
        raise ValueError(f"standardise: {encoded.source} has no pictures to take the mean over")
    beside = opened.file.with_suffix(".statistics.npz") if opened.file else None
    if beside and beside.exists() and beside.stat().st_mtime_ns >= opened.file.stat().st_mtime_ns:
        try:
            with np.load(beside, allow_pickle=False) as saved:
                return _Statistics(saved["mean"], saved["scale"])
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            log.warning("%s is damaged (%s); computing it again", beside, error)
    count, width = 0, opened.features.shape[-1]
    total, squares = np.zeros(width), np.zeros(width)
    shift = opened.features[0].astype(np.float64).mean(0)  # keeps the difference of squares exact
    for start in range(0, len(opened.features), 64):
        rows = opened.features[start : start + 64].reshape(-1, width).astype(np.float64) - shift
        count += len(rows)
        total += rows.sum(0)
        squares += np.square(rows).sum(0)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 1.0)
    statistics = _Statistics((mean + shift).astype(np.float32), scale.astype(np.float32))
    if beside:
        partial = beside.with_name(f"{beside.name}.{os.getpid()}.tmp")
        with open(partial, "wb") as stream:
            np.savez(stream, **statistics._asdict())
        os.replace(partial, beside)
    return statistics


# ---- the file: features in <hash>.npy; which examples they are, and the file's own sum, in <hash>.json


def _write(file: Path, described: dict, encoded: Encoded, variables: Any) -> None:
    # Written row by row rather than through a memory map, where a full disk would kill the process.
    partial, kept, shape = file.with_suffix(".partial"), [], ()
    with open(partial, "wb") as stream:
        for rows, indices in _encode(encoded, variables):
            if not kept:
                shape = rows.shape[1:]
                stream.seek(0)
                _write_header(stream, (len(encoded.source), *shape), encoded.dtype)
            stream.write(np.ascontiguousarray(rows))
            kept += indices
        stream.seek(0)  # numpy leaves room for any number of rows: the header keeps its length
        _write_header(stream, (len(kept), *shape), encoded.dtype)
        stream.flush()
        os.fsync(stream.fileno())
    meta = {
        "sha256": sha256(partial),
        "shape": [len(kept), *shape],
        "dtype": encoded.dtype,
        "kept": kept,
        "made_of": described,
    }
    beside = file.with_suffix(".json.partial")
    beside.write_text(json.dumps(meta))
    os.replace(partial, file)
    os.replace(beside, file.with_suffix(".json"))  # last: its presence says that all is there


def _write_header(stream: Any, shape: tuple[int, ...], dtype: str) -> None:
    described = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)


def _read(file: Path) -> tuple[np.ndarray, list[int]] | None:
    """The features and which examples they are of; None where there is no file, or a damaged one."""
    beside = file.with_suffix(".json")
    if not (file.exists() and beside.exists()):
        return None
    try:
        meta = json.loads(beside.read_text())
        features = np.load(file, mmap_mode="r", allow_pickle=False)
        kept = meta["kept"]
        if (list(features.shape), str(features.dtype)) != (meta["shape"], meta["dtype"]):
            raise ValueError(f"shape {features.shape}, expected {meta['shape']}")
        if sha256(file) != meta["sha256"]:
            raise ValueError("its bytes have changed since it was written")
        return np.asarray(features), kept  # without memmap's own overhead at each row
    except (ValueError, KeyError, OSError, EOFError) as error:
        log.warning("%s is damaged (%s); computing it again", file, error)
        return None


# ---- the encoder


def _encode(encoded: Encoded, variables: Any) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Features [rows n d] of the good pictures, batch by batch, and the pictures' indices in the source."""
    encode = _jitted(encoded.encoder)
    progress = _Progress(len(encoded.source))
    for position, batch in _pipeline(encoded).batches():
        values, whole = encode(variables, batch["image"])
        if not whole:
            raise ValueError(
                f"{type(encoded.encoder).__name__} masks some of its positions; Encoded keeps no mask"
            )
        rows = _finished(np.asarray(values, np.float32), encoded, batch)[batch["valid"]]
        start = (position - 1) * encoded.batch_size
        yield rows, (start + np.flatnonzero(batch["valid"])).tolist()
        progress(min(position * encoded.batch_size, len(encoded.source)))


@functools.lru_cache(maxsize=4)
def _jitted(encoder: Any) -> Callable:
    import jax

    @jax.jit
    def encode(variables, image):
        found = encoder.apply(variables, image, train=False)
        return found.values, found.mask.all()

    return encode


def _pipeline(encoded: Encoded) -> Pipeline:
    return Pipeline(
        source=encoded.source,
        transforms=encoded.transforms,
        batch_size=encoded.batch_size,
        train=False,
        seed=encoded.seed,
        num_workers=1,
    )


def _finished(values: np.ndarray, encoded: Encoded, batch: dict) -> np.ndarray:
    if encoded.pool:
        values = values.mean(axis=1, keepdims=True)
    if encoded.log1p:
        if values.min() <= -1:
            raise ValueError(
                f"log1p: {type(encoded.encoder).__name__} gives {values.min()}, expected values "
                "above -1 (the output of a ReLU); try standardise without log1p"
            )
        values = np.log1p(values)
    with np.errstate(over="ignore"):
        values = values.astype(encoded.dtype)
    good = np.isfinite(values).reshape(len(values), -1).all(1)
    if not good[batch["valid"]].all():
        ids = batch["id"][batch["valid"] & ~good].tolist()
        raise ValueError(
            f"the features of example id {ids[0]} are not finite in {encoded.dtype}; try dtype='float32'"
        )
    return values


def _encoder_variables(encoded: Encoded) -> Any:
    one = dataclasses.replace(_pipeline(encoded), batch_size=1, num_workers=0)
    _, batch = next(one.batches(), (0, None))
    if batch is None:
        return {}
    return _variables(encoded.encoder, encoded.init_params, batch["image"].shape)


@functools.lru_cache(maxsize=4)  # the sources of one experiment share one encoder
def _variables(encoder: Any, init_params: Callable | None, shape: tuple[int, ...]) -> Any:
    """The encoder's variables. Where the weights come from a file, nothing is initialised: that saves a compilation."""
    import jax

    def init():
        return encoder.init(jax.random.key(0), np.zeros(shape, np.float32), train=False)

    if init_params is None:
        return jax.jit(init)()
    try:
        variables = init_params(jax.eval_shape(init))
    except TypeError:  # it computes with the values
        return init_params(jax.jit(init)())
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(variables)):
        return init_params(jax.jit(init)())  # it leaves some as they were
    return variables


def _hash_of(variables: Any) -> str:
    import jax

    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        value = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def _float32(values: np.ndarray) -> np.ndarray:
    """A float32 copy of finite float16 or float32 values."""
    if values.dtype != np.float16:
        return values.astype(np.float32)
    # Three times faster than numpy's astype: the bits of a half, put where those of a float lie, are the same number
    # times 2^-112. The shift drags copies of the sign bit along, which the mask clears.
    bits = values.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= np.int32(-0x70000001)
    result = bits.view(np.float32)
    result *= np.float32(2.0**112)
    return result


def _without_picture(example: Example) -> Example:
    return {key: value for key, value in example.items() if key != "image"}


class _Progress:
    """A line every ten seconds, and none for what is done before the first."""

    def __init__(self, size: int):
        self.size = size
        self.start = self.last = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self.last >= 10:
            self.last = now
            rate = done / (now - self.start)
            left = (self.size - done) / rate
            print(
                f"encoding {done:,} of {self.size:,} pictures, {rate:.0f} a second, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
