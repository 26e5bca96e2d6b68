"""Where examples come from: `Tfds` (record files, no TensorFlow), `Rows`, `InMemory`, `Pictures`.

A source is a description; it opens its files when first read, so it can stand in a configuration, be hashed,
and be sent to another process.

    Tfds("flickr8k", "train")[17]
    {"id": 17, "image": b"...", "image_name": "2513260012_03d33305cf.jpg", "captions": ("A black dog ...", ...)}
"""

import collections.abc
import contextlib
import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from vlm_jax.data.files import default_data_dir, locked
from vlm_jax.types import Example, References

T = TypeVar("T")


@runtime_checkable
class Source(Protocol):
    """A list of examples. Each has an `id` (an integer, one a picture); texts are `str` and tuples of `str`.

    `references` are the texts by id, in the order of the examples: `{17: {"captions": ("A black dog ...", ...)}}`.
    """

    @property
    def references(self) -> References: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Example: ...


class BadExample(Exception):
    """An example that must be left out: `name` says which, `reason` why. The pipeline skips and counts it."""

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class Description:
    """A frozen dataclass that keeps what it opened. Only the description itself goes to another process."""

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclasses.dataclass(frozen=True)
class Tfds(Description):
    """A split of one of our builders (`datasets/<name>.py`) or of the TFDS catalogue.

    The first use prepares the record files under `data_dir` (default `$TFDS_DATA_DIR`, else
    `~/tensorflow_datasets`). Splits are sliced as TFDS does: `"train[:100]"`, `"train[90%:]"`. Pictures stay encoded
    bytes; decoding is a transform, which knows what to do with a bad one.
    """

    name: str
    split: str
    _: dataclasses.KW_ONLY
    config: str | None = None
    data_dir: str | None = None

    @property
    def references(self) -> References:
        return self._opened.references

    def __len__(self) -> int:
        return len(self._opened.records)

    def __getitem__(self, index: int) -> Example:
        return self._opened[index]

    @property
    def fingerprint(self) -> str:
        """A hash of name, version, slice and the records' sizes: what cached features of this source depend on."""
        return self._opened.fingerprint

    @functools.cached_property
    def _opened(self) -> "_OpenedTfds":
        return _open_tfds(self.name, self.split, self.config, default_data_dir(self.data_dir))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows(Description):
    """A few examples written down in the configuration itself: texts from a command line, the data of a `smoke`.

        Rows(names=("text", "label"), rows=(("a fine film", 1), ("a dull one", 0)))[1]
        {"id": 1, "text": "a dull one", "label": 0}

    Values are texts, numbers, and tuples of them; the id is the number of the row.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __post_init__(self):
        for number, row in enumerate(self.rows):
            if len(row) != len(self.names):
                raise ValueError(
                    f"Rows: row {number} has {len(row)} values, expected one for each of {self.names}"
                )

    @functools.cached_property
    def references(self) -> References:
        return references_of(self[index] for index in range(len(self)))

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self.names, self.rows)).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        return {"id": np.int64(index), **dict(zip(self.names, self.rows[index]))}


@dataclasses.dataclass(frozen=True, eq=False)
class InMemory:
    """Examples that are already here: for tests, notebooks and tiny sets.

    Equal only to itself, and `config.to_json` refuses it: what lies in memory cannot be written down.
    """

    examples: Sequence[Example]

    def __post_init__(self):
        object.__setattr__(self, "examples", _Held(self.examples))

    @property
    def references(self) -> References:
        return references_of(self.examples)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
    """Picture files given by path: what `predict IMAGE...` looks at. Ids are 0, 1, 2 ...

    Nobody has described them. So that the transforms of a captioning pipeline run on them all the same, an empty text
    stands where they expect a caption; `references`, which scores are computed from, have none. With a `question`, each
    is asked it.
    """

    paths: tuple[str, ...]
    question: str | None = None

    @property
    def references(self) -> References:
        return {index: {"image_name": (path,)} for index, path in enumerate(self.paths)}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Example:
        path = self.paths[index]
        asked = {} if self.question is None else {"question": self.question}
        return {
            **asked,
            "id": np.int64(index),
            "image": Path(path).read_bytes(),
            "image_name": str(path),
            "captions": ("",),
            "caption": "",
        }


def replace_source(holder: T, new: Source) -> T:
    """`holder` (a pipeline or a source that wraps another) with its innermost source replaced by `new`.

    The same preprocessing then runs on other pictures: `replace_source(pipeline, Pictures(paths=...))`.
    A wrapper whose attribute `needs_texts` names texts (`EachCaption`: "captions") is taken out where `new` has none.
    """
    inner = getattr(holder, "source", None)
    if not (dataclasses.is_dataclass(holder) and isinstance(inner, Source)):
        return new if isinstance(holder, Source) else _no_source(holder)
    replaced = replace_source(inner, new)
    needed = getattr(holder, "needs_texts", None)
    if needed is not None and not _has_texts(new, needed):
        return replaced
    return dataclasses.replace(holder, source=replaced)


def _no_source(holder: Any):
    raise TypeError(
        f"given {type(holder).__name__}, expected a Source or something with a field `source` "
        "(Pipeline, Encoded, EachCaption)"
    )


def _has_texts(source: Source, name: str) -> bool:
    return any(name in texts for texts in source.references.values())


def references_of(examples: Iterable[Example]) -> References:
    """Every text of the examples by id: `str` and tuples of `str`, each as a tuple."""
    references = {}
    for example in examples:
        texts = {}
        for key, value in example.items():
            if isinstance(value, str):
                texts[key] = (value,)
            elif isinstance(value, tuple | list) and all(isinstance(text, str) for text in value):
                texts[key] = tuple(value)
        references[int(example["id"])] = texts
    return references


# ---- TFDS


class _OpenedTfds:
    """The record files of one split, open for reading."""

    def __init__(self, builder: Any, split: str):
        import tensorflow_datasets as tfds

        features = builder.info.features
        pictures = {k for k, v in features.items() if isinstance(v, tfds.features.Image)}
        self.records = builder.as_data_source(
            split=split, decoders={key: tfds.decode.SkipDecoding() for key in pictures}
        )
        self._keep = pictures
        described = {
            "name": builder.info.full_name,
            "split": split,
            "lengths": {name: info.shard_lengths for name, info in builder.info.splits.items()},
            "bytes": {name: info.num_bytes for name, info in builder.info.splits.items()},
        }
        self.fingerprint = hashlib.sha256(json.dumps(described).encode()).hexdigest()

    def __getitem__(self, index: int) -> Example:
        if not -len(self.records) <= index < len(self.records):
            raise IndexError(f"index {index} of {len(self.records)} examples")
        index %= len(self.records)
        record = self.records[int(index)]
        example = {k: v if k in self._keep else _plain(v) for k, v in record.items()}
        return {**example, "id": np.int64(example.get("id", index))}

    @functools.cached_property
    def references(self) -> References:
        return references_of(self[index] for index in range(len(self.records)))


def _plain(value: Any) -> Any:
    """Texts, which TFDS gives as bytes, as `str`; lists of texts as tuples; the rest as it is."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype == object):
        return tuple(_plain(item) for item in value)
    return value


@functools.cache
def _open_tfds(name: str, split: str, config: str | None, data_dir: str) -> _OpenedTfds:
    builder = _prepared(name, config, data_dir)
    try:
        return _OpenedTfds(builder, split)
    except ValueError as error:
        if "nknown split" not in str(error):
            raise
        known = ", ".join(builder.info.splits)
        raise ValueError(f"{name} has no split {split!r}; it has {known}") from error


def _prepared(name: str, config: str | None, data_dir: str) -> Any:
    """The builder, its record files written. Two processes that come here at once prepare once."""
    builder = _builder(name, config, data_dir)
    done = Path(builder.data_path) / "dataset_info.json"  # TFDS renames the folder when it is whole
    if done.exists():
        return builder
    with locked(Path(data_dir) / f".{name}.lock"):
        if not done.exists():
            print(f"preparing {name} in {builder.data_path}, once", file=sys.stderr, flush=True)
            with contextlib.redirect_stdout(io.StringIO()), _without_progress_bars():
                builder.download_and_prepare()
    return _builder(name, config, data_dir)


def _builder(name: str, config: str | None, data_dir: str) -> Any:
    import tensorflow_datasets as tfds

    options = dict(config=config, data_dir=data_dir, file_format="array_record")
    path = f"vlm_jax.data.datasets.{name}"
    if importlib.util.find_spec(path) is None:
        return tfds.builder(name, **options)
    for value in vars(importlib.import_module(path)).values():
        ours = isinstance(value, type) and issubclass(value, tfds.core.DatasetBuilder)
        if ours and value.__module__ == path and value.name == name:
            if config is not None and config not in value.builder_configs:
                known = ", ".join(value.builder_configs) or "none"
                raise ValueError(f"{name} has no config {config!r}; it has {known}")
            return value(**options)
    raise TypeError(f"{path} holds no TFDS builder named {name!r}")


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    try:
        yield
    finally:
        tfds.enable_progress_bar()


class _Held(collections.abc.Sequence):
    """A sequence shown by its length only, and no tuple: a configuration refuses it by name."""

    def __init__(self, items: Iterable[Any]):
        self._items = tuple(items)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index):
        return self._items[index]

    def __repr__(self) -> str:
        return f"<{len(self)} examples in memory>"
