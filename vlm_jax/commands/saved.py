"""What of its data a run needs again, saved in its workdir: tokenizers, mean and deviation of cached features."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlm_jax import config

STATISTICS = "statistics.npz"  # mean and deviation of cached features


def tokenizers(experiment: Any) -> list[Any]:
    """The different tokenizers in the tree, in the order in which they come."""
    found = {}

    def note(node):
        if _is_tokenizer(node):
            found.setdefault(node)
        return node

    config.transform(experiment, note)
    return list(found)


def save_tokenizers(experiment: Any, workdir: Path) -> None:
    """Writes tokenizer.json (tokenizer-2.json ...): the corpus is not needed to use what was trained.

    Raises ValueError where a run would go on with rows that mean other words than before.
    """
    for number, tokenizer in enumerate(tokenizers(experiment), 1):
        path = _tokenizer_path(workdir, number)
        _save_same(
            path,
            tokenizer.save,
            lambda old, new: old.read_bytes() == new.read_bytes(),
            f"{path} has another vocabulary than {type(tokenizer).__name__} builds now: its corpus has changed "
            "since this run began; bring the old data back, or choose another --workdir",
        )


def with_saved_tokenizers(experiment: Any, workdir: Path) -> Any:
    """The experiment with every tokenizer read from the workdir."""
    found = tokenizers(experiment)
    paths = {t: _tokenizer_path(workdir, number) for number, t in enumerate(found, 1)}

    def read(node):
        if _is_tokenizer(node) and paths[node].exists():
            return dataclasses.replace(node, file=str(paths[node]))
        return node

    return config.transform(experiment, read)


def save_statistics(experiment: Any, workdir: Path) -> None:
    """Writes statistics.npz, where an evaluation standardises cached features: predict needs no training picture.

    Raises ValueError where a run would go on with features of another scale than before.
    """
    import numpy as np

    from vlm_jax.data.encoded import save_statistics as save

    sources = _standardised(experiment.evaluations)
    if not sources:
        return

    def same(old, new):
        with np.load(old) as before, np.load(new) as now:
            return all(np.allclose(before[k], now[k]) for k in before.keys() & now.keys())

    path = workdir / STATISTICS
    _save_same(
        path,
        lambda file: save(sources, file),
        same,
        f"{path}: the training pictures have another mean and deviation than when this run began; bring the "
        "old pictures back, or choose another --workdir",
    )


def with_saved_statistics(experiment: Any, workdir: Path) -> Any:
    """The experiment with mean and deviation of cached features read from the workdir."""
    path = workdir / STATISTICS
    if not path.is_file():
        return experiment

    def read(node):
        if getattr(node, "standardise", None) is not None:
            return dataclasses.replace(node, statistics=str(path))
        return node

    return config.transform(experiment, read)


def _save_same(
    path: Path,
    save: Callable[[Path], None],
    same: Callable[[Path, Path], bool],
    refusal: str,
) -> None:
    """Saves a file of a workdir. Once the run has a checkpoint, raises ValueError where it is not the same as before."""
    from vlm_jax.train import checkpoints

    new = path.with_name(f"{path.name}.new")
    save(new)
    begun = checkpoints.steps(path.parent / "checkpoints")
    if begun and path.exists() and not same(path, new):
        new.unlink()
        raise ValueError(refusal)
    os.replace(new, path)


def _standardised(node: Any) -> list[Any]:
    """The sources of cached features under `node` that are standardised, each view of one by itself."""
    found = {}

    def note(node):
        if getattr(node, "standardise", None) is not None:
            found.setdefault(node)
        elif hasattr(node, "views"):
            found.pop(node.source, None)
            found.update(dict.fromkeys(node.views))
        return node

    config.transform(node, note)
    return list(found)


def _is_tokenizer(node: Any) -> bool:
    methods = all(callable(getattr(node, name, None)) for name in ("encode", "decode", "save"))
    return methods and "file" in {field.name for field in config.fields(node)}


def _tokenizer_path(workdir: Path, number: int) -> Path:
    return workdir / ("tokenizer.json" if number == 1 else f"tokenizer-{number}.json")
