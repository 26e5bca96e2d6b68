"""Files on disk: where they are looked for, whether they are whole, and who may write."""

import contextlib
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def default_data_dir(data_dir: str | os.PathLike | None = None) -> str:
    """Where prepared records lie: the argument, else `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return str(Path(chosen).expanduser().absolute())


def cache_dir() -> Path:
    """Where computed features lie: `$VLM_JAX_CACHE`, else `~/.cache/vlm_jax`."""
    return Path(os.environ.get("VLM_JAX_CACHE") or "~/.cache/vlm_jax").expanduser().absolute()


def manual_folder(name: str, data_dir: str | os.PathLike, instructions: str) -> Path:
    """The folder with files placed by hand: `$VLM_JAX_DATA/<name>`, else `<data_dir>/downloads/manual/<name>`.

    Raises FileNotFoundError with the instructions where there is neither.
    """
    candidates = [Path(data_dir) / "downloads" / "manual" / name]
    if os.environ.get("VLM_JAX_DATA"):
        candidates.insert(0, Path(os.environ["VLM_JAX_DATA"]) / name)
    for folder in candidates:
        if folder.is_dir():
            return folder
    looked = " nor ".join(map(str, candidates))
    raise FileNotFoundError(f"{name}: there is no folder {looked}.\n{instructions}")


def sha256(path: str | os.PathLike) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, expected: str, instructions: str) -> None:
    """Raises ValueError naming the file, both sums, its size and how it begins (a web page, perhaps)."""
    given = sha256(path)
    if given != expected:
        raise ValueError(
            f"{path} is not the published file: sha256 {given}, expected {expected}; {_looks(path)}\n"
            f"{instructions}"
        )


def read_text(path: Path, instructions: str, *, sha256: str | None = None) -> str:
    """The UTF-8 text of `path`, or of `<path>.gz`, where it lies compressed; the sum is that of the plain text.

    Raises FileNotFoundError, or ValueError for a file that is cut short, is no UTF-8, or has another sum.
    """
    packed = path.with_name(f"{path.name}.gz")
    found = path if path.exists() else packed
    try:
        data = found.read_bytes() if found == path else gzip.decompress(found.read_bytes())
        text = data.decode("utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing, and so is {packed.name}.\n{instructions}"
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise ValueError(
            f"{found} is not whole ({error}); {_looks(found)}\n{instructions}"
        ) from None
    given = hashlib.sha256(data).hexdigest()
    if sha256 is not None and given != sha256:
        raise ValueError(
            f"{found} is not the published file: sha256 of its text {given}, expected {sha256}; {_looks(found)}\n"
            f"{instructions}"
        )
    return text


def read_json(path: Path, instructions: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing.\n{instructions}") from None
    except ValueError as error:
        raise ValueError(
            f"{path} is not whole JSON ({error}); {_looks(path)}\n{instructions}"
        ) from None


def check_pictures(
    folder: Path, names: Iterable[str], instructions: str, *, min_bytes: int = 1
) -> None:
    """Raises FileNotFoundError naming the pictures that are missing from `folder`, or smaller than `min_bytes`."""
    names, sizes = list(names), {}
    for parent in {Path(name).parent for name in names}:
        if (folder / parent).is_dir():
            with os.scandir(folder / parent) as entries:
                for entry in entries:
                    if entry.is_file():
                        sizes[str(parent / entry.name)] = entry.stat().st_size
    found = [sizes.get(str(Path(name)), -1) for name in names]
    bad = [(name, size) for name, size in zip(names, found) if size < min_bytes]
    if bad:
        shown = [
            f"{name} ({'missing' if size < 0 else f'{size} bytes'})" for name, size in bad[:10]
        ]
        more = f" and {len(bad) - 10:,} more" if len(bad) > 10 else ""
        raise FileNotFoundError(
            f"{len(bad):,} of {len(names):,} pictures are not whole in {folder}: {', '.join(shown)}{more}.\n"
            f"{instructions}"
        )


def well_formed(text: str) -> str:
    """`text` as it can be stored in UTF-8: a lone surrogate, which cannot be, becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@contextlib.contextmanager
def locked(path: str | os.PathLike) -> Iterator[None]:
    """Holds the file `path` locked; a second process waits here. The kernel frees the lock of one that dies."""
    import fcntl

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _looks(path: Path) -> str:
    with open(path, "rb") as file:
        return f"{path.stat().st_size:,} bytes, beginning {file.read(80)!r}."
