"""A published model as a folder in Hugging Face's layout: config.json, safetensors, tokenizer.json.

Everything in it is read as data. Nothing of it is ever executed, whatever it is called, and pickles are not opened.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from vlm_jax.data.files import sha256
from vlm_jax.text.tokenizers import TokenizerFile

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
MAX_HEADER = 8_000_000  # bytes, for some 70,000 tensors; no honest file has a tenth of it
MAX_JSON = 50_000_000  # bytes; the largest tokenizers have 35 million


@dataclasses.dataclass(frozen=True)
class Folder:
    """The files in `path`. Each is read when it is asked for, tensors one at a time.

    Raises FileNotFoundError for what is not there, and ValueError for what is not what its name says: pickles and web
    pages called model.safetensors, truncated or damaged files, an index that names what is not there, `auto_map`.
    """

    path: str

    @functools.cached_property
    def config(self) -> Mapping[str, Any]:
        """What config.json says; refused where it asks for code of its own."""
        return read_json(self._file("config.json", "the model's sizes"))

    @property
    def preprocessor(self) -> Mapping[str, Any] | None:
        """What preprocessor_config.json says of pictures, or else processor_config.json; None without them."""
        found = self._if_there("preprocessor_config.json")
        if found is None:
            found = (self._if_there("processor_config.json") or {}).get("image_processor")
        return found if isinstance(found, Mapping) else None

    def tokenizer(self, **fields: Any) -> TokenizerFile:
        """tokenizer.json, with `fields` such as eos_token and, unless given, as many rows as it has tokens and the special
        tokens that tokenizer_config.json or special_tokens_map.json name."""
        path, number, known = self._listed
        fields = {**self._roles(known, fields.values()), **fields}
        if "vocab_size" not in fields:
            # Each of the four special tokens that the file lacks gets a row.
            fields["vocab_size"] = number + 4
            rows = TokenizerFile(file=str(path), **fields).rows_in_file()
            fields["vocab_size"] = len(rows)
        return TokenizerFile(file=str(path), **fields)

    def has_token(self, token: str) -> bool:
        """Whether tokenizer.json lists it."""
        return token in self._listed[2]

    @functools.cached_property
    def _listed(self) -> tuple[Path, int, set[str]]:
        """tokenizer.json, and of the tokens of its model and those that were added how many they are, and which."""
        path = self._file("tokenizer.json", "the tokenizer in the form of the tokenizers library")
        found = read_json(path)
        model = found.get("model")
        words = model.get("vocab", ()) if isinstance(model, dict) else ()
        added = found.get("added_tokens") or ()
        return path, len(words) + len(added), _tokens(words) | _tokens(added)

    def _roles(self, known: Collection[str], given: Collection[Any]) -> dict[str, str]:
        """Which of the `known` tokens has which role, where the files beside say; of two roles the first, and none of a
        token that has one already, among those `given`."""
        said = {
            **(self._if_there("special_tokens_map.json") or {}),
            **(self._if_there("tokenizer_config.json") or {}),
        }
        found: dict[str, str] = {}
        for role in ("eos_token", "bos_token", "unk_token", "pad_token"):
            name = said.get(role)
            name = name.get("content") if isinstance(name, Mapping) else name
            if isinstance(name, str) and name in known and name not in (*found.values(), *given):
                found[role] = name
        return found

    def _if_there(self, name: str) -> dict[str, Any] | None:
        path = Path(self.path) / name
        return read_json(path) if path.exists() else None

    def names(self) -> tuple[str, ...]:
        """Of all tensors, sorted."""
        return tuple(sorted(self._shards))

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor, from the header alone."""
        return _header(self._shard(name))[name].shape

    def blank(self, name: str) -> np.ndarray:
        """Zeros of the tensor's shape and dtype, which need no memory: to see what would become of it."""
        entry = _header(self._shard(name))[name]
        return np.broadcast_to(np.zeros((), DTYPES[entry.dtype]), entry.shape)

    def tensor(self, name: str) -> np.ndarray:
        """The tensor in the dtype of its file (bfloat16 is that of ml_dtypes), read now and not kept."""
        from safetensors import SafetensorError, safe_open

        path = self._shard(name)
        try:
            # pread and not mmap: a file that shrinks while it is read is an error, not a SIGBUS.
            with safe_open(path, framework="numpy", backend="pread") as file:
                return file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path}: {name} cannot be read: {error}") from None

    def check_sums(self, sums: tuple[str, ...]) -> None:
        """Raises ValueError where the files of weights, in the order of their names, have other sha256 sums: a number
        that has changed is seen by nothing else."""
        files = sorted(set(self._shards.values()))
        given = {file.name: sha256(file) for file in files}
        if tuple(given.values()) != tuple(sums):
            raise ValueError(
                f"{self.path}: expected files of weights with sha256 {', '.join(sums)}; found "
                f"{', '.join(f'{name} {value}' for name, value in given.items())}"
            )

    def _file(self, name: str, what: str) -> Path:
        path = Path(self.path) / name
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is not there; expected {what}. Give the folder of a published model "
                "(config.json, model.safetensors), or 'owner/name' with its revision"
            )
        return path

    def _shard(self, name: str) -> Path:
        if name not in self._shards:
            raise KeyError(
                f"{self.path} has no tensor {name!r}; it has {', '.join(self.names()[:8])} ..."
            )
        return self._shards[name]

    @functools.cached_property
    def _shards(self) -> dict[str, Path]:
        """Tensor -> the file that has it."""
        folder = Path(self.path)
        if (folder / INDEX).exists():
            return _indexed(folder)
        if not (folder / SINGLE).exists():
            others = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
            raise FileNotFoundError(
                f"{folder} has neither {SINGLE} nor {INDEX}; it has {others[:12]}. Weights are read from safetensors "
                "only: pickles (.bin, .pt, .pth, .ckpt, .npy) may run code when they are opened"
            )
        return dict.fromkeys(_header(folder / SINGLE), folder / SINGLE)


def open_folder(name: str, revision: str | None = None) -> Folder:
    """`name` is a folder, or 'owner/name' of the hub at the 40 digits of a commit, fetched by huggingface_hub."""
    if Path(name).is_dir():
        return Folder(name)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise FileNotFoundError(f"{name} is neither a folder nor a name such as 'owner/name'")
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ValueError(
            f"{name}: no such folder, and as a name of the hub it is given revision {revision!r}; expected the 40 "
            "digits of a commit, so that it is the same weights tomorrow"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ValueError(
            f"{name}: no such folder, and huggingface_hub, which would fetch it, is not installed; try "
            "pip install 'vlm_jax[hub]'"
        ) from None
    return Folder(
        snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors"])
    )


def _tokens(listed: Any) -> set[str]:
    """The tokens that tokenizer.json lists, whatever the form: a mapping, [token, score] or {"content": token}."""
    found = (x[0] if isinstance(x, list) and x else x for x in listed)
    found = (x.get("content") if isinstance(x, Mapping) else x for x in found)
    return {x for x in found if isinstance(x, str)}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. ValueError for what is no such object, or asks for code of its own."""
    try:
        if path.stat().st_size > MAX_JSON:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        found = _parsed(path.read_bytes())
        code = _asked_for(found)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected a JSON object: {error}") from None
    if code:
        raise ValueError(
            f"{path}: auto_map asks for code that comes with the weights ({_shown(code)}), which is never "
            "run here; expected one of the architectures that vlm_jax.pretrained has"
        )
    return found


def _asked_for(settings: Mapping[str, Any]) -> Any:
    """The code that a configuration, or one inside it such as text_config, asks for; None where it asks for none."""
    inner = [each for each in settings.values() if isinstance(each, Mapping)]
    return settings.get("auto_map") or next(filter(None, map(_asked_for, inner)), None)


# ---- headers


@dataclasses.dataclass(frozen=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]


@functools.lru_cache(maxsize=256)
def _header_at(path: Path, stamp: tuple[int, int]) -> dict[str, _Entry]:
    """name -> what the file says of the tensor, after a look at every claim that it makes."""
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(MAX_HEADER, stamp[1] - 8):
            raise ValueError(f"{path} is not a whole safetensors file: {_looks(path)}")
        head = file.read(length)
    try:
        found = _parsed(head)
        found.pop("__metadata__", None)
        entries = {name: _entry(name, claim) for name, claim in found.items()}
        # The library checks that the tensors lie one after another and fill the file.
        with safe_open(path, framework="numpy", backend="pread") as opened:
            names = set(opened.keys())
    except (ValueError, RecursionError, SafetensorError) as error:
        raise ValueError(f"{path} is not a sound safetensors file: {str(error)[:400]}") from None
    if names != set(entries):
        raise ValueError(f"{path} is not a sound safetensors file: its header reads in two ways")
    return entries


def _header(path: Path) -> dict[str, _Entry]:
    status = path.stat()
    return _header_at(path, (status.st_mtime_ns, status.st_size))


def _entry(name: str, claim: Any) -> _Entry:
    if not isinstance(claim, dict):
        raise ValueError(f"{name!r} is {_shown(claim)}, expected dtype, shape and data_offsets")
    dtype, shape = claim.get("dtype"), claim.get("shape")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{name!r} has dtype {_shown(dtype)}, expected one of {', '.join(DTYPES)}")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"{name!r} has shape {_shown(shape)}, expected whole numbers")
    return _Entry(dtype, tuple(shape))


def _indexed(folder: Path) -> dict[str, Path]:
    index = folder / INDEX
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(file, str) for file in named.values()):
        raise ValueError(f"{index}: expected weight_map, from each tensor to its file")
    files = sorted(set(named.values()))
    outside = [file for file in files if Path(file).name != file or file in ("", ".", "..")]
    if outside:
        raise ValueError(f"{index} names {_shown(outside[0])}; expected a file beside it")
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise ValueError(f"{index} names files that are not there: {', '.join(missing[:8])}")
    found = {file: set(_header(folder / file)) for file in files}
    absent = [name for name, file in named.items() if name not in found[file]]
    if absent:
        raise ValueError(
            f"{index}: {_shown(absent[0])} should be in {named[absent[0]]}, which has no such tensor"
        )
    unnamed = [
        f"{name} in {file}" for file in files for name in found[file] if named.get(name) != file
    ]
    if unnamed:
        raise ValueError(
            f"{index} does not name all tensors of its files: {', '.join(unnamed[:8])}"
        )
    return {name: folder / file for name, file in named.items()}


def _parsed(text: bytes) -> dict[str, Any]:
    def once(pairs):
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ValueError("a key stands twice in one object")
        return made

    found = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    if not isinstance(found, dict):
        raise ValueError(f"found {_shown(found)}")
    return found


def _looks(path: Path) -> str:
    """Size, and what the first bytes are of, for the reader who has downloaded something else."""
    with path.open("rb") as file:
        start = file.read(40)
    kinds = {
        b"\x80": "a pickle, which may run code when it is opened",
        b"PK\x03\x04": "a zip archive, as PyTorch's pickles are",
        b"\x93NUMPY": "a numpy array",
        b"\x89HDF": "an HDF5 file",
        b"version https://git-lfs": "a pointer of git-lfs in place of the file: try git lfs pull",
        b"<": "a web page",
    }
    kind = next((kind for magic, kind in kinds.items() if start.startswith(magic)), "unknown")
    return f"{path.stat().st_size:,} bytes that begin with {start!r} ({kind})"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
