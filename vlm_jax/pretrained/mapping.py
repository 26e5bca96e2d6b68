"""From a published folder into our variables and back, by the places that say which tensor is which parameter."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vlm_jax.pretrained.folder import INDEX, SINGLE, Folder
from vlm_jax.pretrained.places import Place, Tied, Unused
from vlm_jax.types import Variables

MAX_LISTED = 24


def fill(
    wanted: Variables,
    folder: Folder,
    places: Iterable[Place],
    *,
    left: Iterable[Place] = (),
    fresh: tuple[str, ...] = (),
) -> Variables:
    """`wanted` with every leaf taken from the folder, in the leaf's dtype and sharding.

    The leaves are arrays or jax.ShapeDtypeStruct. Every tensor of the file has to be used exactly once, by one of
    `places`, and every leaf filled exactly once, else one ValueError lists both sides before anything is read. What
    `left` takes stays in the file. Leaves whose names one of the regular expressions `fresh` finds keep their values,
    and the tensors of their places stay in the file too; each expression has to find one.

    Tensors are read one at a time: the host never holds more than one, and its copy in another dtype or, of a table of
    words, in the order of our tokens.
    """
    places, left, leaves = tuple(places), tuple(left), named(wanted)
    kept = matching(fresh, leaves, what="fresh")
    left += tuple(place for place in places if place.ours and kept.issuperset(place.ours))
    places = tuple(place for place in places if place not in left)
    _check(folder, places, left, {k: v for k, v in leaves.items() if k not in kept})
    filled = dict(leaves)
    for place in places:
        if isinstance(place, Tied):
            _check_tied(folder, place)
        if place.ours:
            filled |= _read(folder, place, leaves)
    return unnamed(filled)


def export(
    variables: Variables,
    places: Iterable[Place],
    path: Path | str,
    *,
    like: Folder,
    config: Mapping[str, Any] | None = None,
    shard_bytes: int = 4_000_000_000,
) -> Folder:
    """Writes our variables as safetensors under the hub's names, with the JSON files of `like`, and returns the folder.

    The inverse of `fill`: the hub's library loads the folder and computes the same. `config` takes the place of
    config.json where our model was made another (more classes, say). One file, or shards with an index.
    """
    path, leaves, places = Path(path), named(variables), tuple(places)
    sources = {name for place in places for name in place.ours}
    if sources != set(leaves):
        raise ValueError(
            f"{path} is not written: our parameters without a place in the file "
            f"{_listed(set(leaves) - sources)}, places without a parameter {_listed(sources - set(leaves))}"
        )
    path.mkdir(parents=True, exist_ok=True)
    for old in path.glob("*.safetensors*"):
        raise FileExistsError(f"{path} has {old.name} already; give a folder without weights")
    for file in sorted(Path(like.path).glob("*.json")):
        if file.name not in (INDEX, "config.json"):
            shutil.copyfile(file, path / file.name)
    found = {np.dtype(leaf.dtype).name for leaf in leaves.values()}
    config = {k: v for k, v in (config or like.config).items() if k != "torch_dtype"}
    config |= {"dtype": found.pop()} if len(found) == 1 else {}
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    _write_shards(path, [place for place in places if place.ours], leaves, shard_bytes)
    return Folder(str(path))


def named(variables: Variables) -> dict[str, Any]:
    """The leaves as places name them: 'block_0/mlp/kernel' of params, 'batch_stats:stem/norm/mean' of the others."""
    return {
        name if collection == "params" else f"{collection}:{name}": leaf
        for collection, tree in variables.items()
        for name, leaf in flatten_dict(dict(tree), sep="/").items()
    }


def unnamed(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The way back: collections of trees."""
    trees: dict[str, dict[str, Any]] = {}
    for key, leaf in leaves.items():
        collection, _, name = key.rpartition(":")
        trees.setdefault(collection or "params", {})[name] = leaf
    return {collection: unflatten_dict(tree, sep="/") for collection, tree in trees.items()}


def _read(folder: Folder, place: Place, leaves: Mapping[str, Any]) -> dict[str, jax.Array]:
    """The parameters of one place; what was read for them is forgotten when this returns."""
    arrays = place.to_ours(*(folder.tensor(name) for name in place.theirs))
    return {name: _placed(x, leaves[name]) for name, x in zip(place.ours, arrays, strict=True)}


def _placed(array: np.ndarray, leaf: Any) -> jax.Array:
    array = np.asarray(
        array, leaf.dtype
    )  # transposed ones stay views: the device transposes faster
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        return jax.device_put(array)
    # Each device is given its own part, of this process's devices only.
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def matching(rules: tuple[str, ...], names: Iterable[str], *, what: str) -> set[str]:
    """The names that one of the regular expressions finds; each has to find one."""
    found: set[str] = set()
    for rule in rules:
        some = {name for name in names if re.search(rule, name)}
        if not some:
            raise ValueError(
                f"{what}: the rule {rule!r} finds no parameter; expected a regular expression found in at least one of "
                f"{_listed(names)}"
            )
        found |= some
    return found


def _check(folder: Folder, places: tuple[Place, ...], left: tuple[Place, ...], wanted) -> None:
    """Both sides exactly once, and of one shape."""
    there = set(folder.names())
    uses = Counter(name for place in (*places, *left) for name in place.theirs)
    fills = Counter(name for place in places for name in place.ours)
    needed = {
        name for place in places if not isinstance(place, Tied | Unused) for name in place.theirs
    }
    problems = {
        "In the file, without a place in the model": {
            f"{name} {folder.shape(name)}" for name in there - set(uses)
        },
        "In the model, not filled by the file": {
            f"{name} {wanted[name].shape}" for name in set(wanted) - set(fills)
        },
        "Expected in the file, which has it not": needed - there,
        "To be filled, which the model has not": set(fills) - set(wanted),
        "Taken from the file more than once": {name for name, n in uses.items() if n > 1},
        "Filled more than once": {name for name, n in fills.items() if n > 1},
        "Of another shape": set(_misfits(folder, places, there, wanted)),
    }
    lines = [f"  {what}: {_listed(names)}" for what, names in problems.items() if names]
    if lines:
        raise ValueError("\n".join((f"{folder.path} does not fit this model.", *lines)))


def _misfits(folder: Folder, places: tuple[Place, ...], there: set[str], wanted):
    for place in places:
        if not place.ours or not there.issuperset(place.theirs):
            continue
        blanks = [folder.blank(name) for name in place.theirs]
        try:
            arrays = place.to_ours(*blanks)
        except ValueError as error:
            yield f"{', '.join(place.theirs)}: {error}"
            continue
        for name, array in zip(place.ours, arrays, strict=True):
            leaf = wanted.get(name)
            if leaf is not None and tuple(leaf.shape) != array.shape:
                yield f"{name}: file {array.shape}, model {tuple(leaf.shape)}"
            elif leaf is not None and (array.dtype.kind in "iub") != (
                np.dtype(leaf.dtype).kind in "iub"
            ):
                yield f"{name}: file {array.dtype}, model {leaf.dtype}"


def _check_tied(folder: Folder, place: Tied) -> None:
    for name in place.theirs:
        if name in folder.names() and not np.array_equal(
            folder.tensor(name), folder.tensor(place.to)
        ):
            raise ValueError(
                f"{folder.path}: {name} differs from {place.to}, which it is tied to by this configuration; expected "
                "it to be equal or absent. Try a config.json that says tie_word_embeddings: false"
            )


def _write_shards(path: Path, places: list[Place], leaves, shard_bytes: int) -> None:
    """One shard in memory at a time."""
    from safetensors.numpy import save_file

    shards: list[list[Place]] = [[]]
    size = 0
    for place in places:
        number = sum(np.dtype(leaves[n].dtype).itemsize * leaves[n].size for n in place.ours)
        if shards[-1] and size + number > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(place)
        size += number
    weight_map, total = {}, 0
    for i, shard in enumerate(shards):
        file = SINGLE if len(shards) == 1 else f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        tensors: dict[str, np.ndarray] = {}
        for place in shard:
            arrays = place.to_theirs(*(np.asarray(leaves[name]) for name in place.ours))
            # safetensors writes the memory as it lies: a transposed view would be written untransposed.
            arrays = (np.ascontiguousarray(array).reshape(array.shape) for array in arrays)
            tensors |= dict(zip(place.theirs, arrays, strict=True))
        save_file(tensors, path / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (path / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" ... and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"{', '.join(names[:MAX_LISTED])}{more}" if names else "none"
