"""Published models made small: folders with a config.json of tests/pretrained/stored and weights that a seed gives.

The weights are not stored: each tensor is drawn from its name, so that whoever knows the names and shapes of a folder
has the same numbers. make_outputs.py lets the reference implementation read such a folder, and stores what it computes.
"""

import dataclasses
import functools
import importlib
import json
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.pretrained import mapping, weights
from vlm_jax.pretrained.folder import Folder
from vlm_jax.pretrained.places import Unused
from vlm_jax.pretrained.settings import Family, Settings

STORED = Path(__file__).parent / "stored"
INPUTS = ("image", "tokens", "text")  # names of stored arrays that are inputs


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of a size at which every layer matters: nothing near 0, no bias 0, no scale 1."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = np.asarray(rng.standard_normal(shape, np.float32))
    if name.endswith("running_var"):
        return np.exp(0.3 * values)
    if len(shape) == 1:
        return 0.2 * values + (1.0 if name.endswith("weight") else 0.0)
    return np.asarray(values / np.float32(np.sqrt(np.prod(shape[1:]) if shape else 1.0)))


def tensors(family: Family) -> dict[str, np.ndarray]:
    """Those of the file, by the names and shapes that the places say it has; the reference checks that they are right."""
    leaves = mapping.named(weights.shapes(family))
    found = {}
    for place in family.places:
        if place.ours:
            blanks = [np.zeros(leaves[name].shape, np.float32) for name in place.ours]
            for name, blank in zip(place.theirs, place.to_theirs(*blanks), strict=True):
                found[name] = drawn(name, blank.shape)
    return found


def write(path: Path, config: dict[str, Any], changes: dict[str, np.ndarray | None] | None = None):
    """The folder of a configuration; `changes` are other tensors, None to leave one out."""
    from safetensors.numpy import save_file

    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    family = family_of(config)
    found = {**tensors(family), **unused(config), **(changes or {})}
    found = {name: x for name, x in found.items() if x is not None}
    save_file(found, path / "model.safetensors", metadata={"format": "pt"})
    return Folder(str(path))


def unused(config: dict[str, Any]) -> dict[str, np.ndarray]:
    """Tensors that published files have and we leave there."""
    counters = [
        name
        for place in family_of(config).places
        for name in (place.theirs if isinstance(place, Unused) else ())
        if name.endswith("num_batches_tracked")
    ]
    found = {name: np.array(3, np.int64) for name in counters}
    shapes = {}
    poolers = {"ViTModel": "", "BertModel": "", "VisionEncoderDecoderModel": "encoder."}
    start = poolers.get(config["architectures"][0])
    if start is not None:
        width = config.get("encoder", config)["hidden_size"]
        shapes = {f"{start}pooler.dense.weight": (width, width)}
        shapes[f"{start}pooler.dense.bias"] = (width,)
    if config["architectures"] == ["ConvNextModel"]:
        width = config["hidden_sizes"][-1]
        shapes = {"layernorm.weight": (width,), "layernorm.bias": (width,)}
    if config["architectures"] == ["LlavaForConditionalGeneration"]:
        shapes = _last_block(config)
    return found | {name: drawn(name, shape) for name, shape in shapes.items()}


def _last_block(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Of CLIP in LLaVA, with the norm after it: shaped as those of its first block."""
    family, vision = family_of(config), config["vision_config"]
    known = tensors(family)
    first, last = ".layers.0.", f".layers.{vision['num_hidden_layers'] - 1}."
    unused = [place for place in family.places if isinstance(place, Unused)]
    left = [name for place in unused for name in place.theirs if "vision" in name]
    shapes = {name: known[name.replace(last, first)].shape for name in left if last in name}
    width = (vision["hidden_size"],)
    return shapes | {name: width for name in left if "post_layernorm" in name}


def family_of(config: dict[str, Any]) -> Family:
    readers = {
        name: reader for module in weights.FAMILIES for name, reader in module.READERS.items()
    }
    return readers[config["architectures"][0]](Settings(config))


@dataclasses.dataclass(frozen=True)
class Stored:
    """One of tests/pretrained/stored: a configuration, inputs, and what the reference computes from them."""

    name: str

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        return json.loads((STORED / self.name / "config.json").read_text())

    @property
    def family(self) -> str:
        """The module of tests.pretrained.references that made it."""
        return self.name.partition("_")[0]

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(STORED / self.name / "outputs.npz", allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


def loaded(name: str, folder: Path) -> weights.Published:
    """A stored configuration with its weights, read by our code from what is written to folder / name."""
    path = folder / name
    write(path, Stored(name).config)
    return weights.load(str(path))


def compare(given: "Stored", found: weights.Published) -> dict[str, float]:
    """Name of a stored output -> the largest difference of ours from it, by the family's way of saying what is what."""
    ours = reference_module(given.family).ours(found, given.arrays)
    return {
        name: largest_difference(ours[name], array)
        for name, array in given.arrays.items()
        if name in ours
    }


def reference(path: Path, given: "Stored", left: Collection[str] = ()) -> dict[str, np.ndarray]:
    """What transformers computes with the folder; `left` are tensors that may be missing in it."""
    model = read_by_reference(path, given.config, left)
    return reference_module(given.family).outputs(model, given.config)


def read_by_reference(path: Path, config: dict[str, Any], left: Collection[str] = ()) -> Any:
    """transformers' model of a folder, in float32, for evaluation; refuses what it does not use or does not find."""
    import torch
    import transformers

    architecture = getattr(transformers, config["architectures"][0])
    model, info = architecture.from_pretrained(
        path, output_loading_info=True, attn_implementation="eager", dtype=torch.float32
    )
    # It calls vision_tower.vision_model.encoder... of a LLaVA's file model.vision_tower.encoder...
    ends = tuple(name.rpartition("vision_model.")[2] for name in left)
    wrong = {
        key: {name for name in names if not str(name).endswith(ends)} if ends else names
        for key, names in info.items()
    }
    if any(wrong.values()):
        raise ValueError(f"{config['architectures'][0]}: {wrong}")
    return model.eval()


def reference_module(family: str) -> Any:
    return importlib.import_module(f"tests.pretrained.references.{family}")


def computed(model: Any, variables: Any, inputs: tuple[Any, ...], method: str):
    """(what the method returns, the output of every module by its path 'block_0/attention')."""

    @jax.jit
    def run(variables, inputs):
        return model.apply(
            variables,
            *inputs,
            train=False,
            method=method,
            capture_intermediates=lambda module, name: name == "__call__",
            mutable="intermediates",
        )

    out, seen = run(variables, inputs)
    return out, _outputs(seen["intermediates"])


def _outputs(tree: Any, prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, value in tree.items():
        if name == "__call__":
            found[prefix.rstrip("/")] = value[0]
        elif hasattr(value, "items"):
            found |= _outputs(value, f"{prefix}{name}/")
    return found


def torch_outputs(model: Any, image: np.ndarray, **inputs: Any) -> Any:
    """What the reference gives for pictures [b h w c], with every hidden state."""
    import torch

    with torch.no_grad():
        pixels = torch.tensor(image.transpose(0, 3, 1, 2))
        return model(pixel_values=pixels, output_hidden_states=True, **inputs)


def last_axis(x: Any) -> np.ndarray:
    """[b c h w] -> [b h w c]."""
    return np.asarray(x).transpose(0, 2, 3, 1)


def picture(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """[b h w c] as it comes out of the processor."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def largest_difference(ours: Any, theirs: np.ndarray) -> float:
    ours = np.asarray(jnp.asarray(ours, jnp.float32))
    assert ours.shape == theirs.shape, f"{ours.shape}, expected {theirs.shape}"
    return float(np.abs(ours - theirs).max())
