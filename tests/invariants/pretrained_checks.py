"""Published weights: that they are read as their own implementation reads them, and that what does not fit is refused."""

import functools
import json
import pickle
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from tests.pretrained import processed, published
from vlm_jax.pretrained import processors, weights
from vlm_jax.pretrained.folder import Folder
from vlm_jax.pretrained.mapping import export, fill
from vlm_jax.pretrained.places import Linear, Rows, Same, Tied, Unused
from vlm_jax.pretrained.settings import Settings
from vlm_jax.pretrained.weights import PublishedWeights

BOUND = 1e-4


class Folders:
    """Folders of the stored configurations, in a temporary one."""

    def __init__(self):
        self._kept = tempfile.TemporaryDirectory()
        self.root = Path(self._kept.name)

    def of(self, name: str) -> Folder:
        path = self.root / name
        if path.exists():
            return Folder(str(path))
        return published.write(path, published.Stored(name).config)

    def small(self, name: str, tensors: dict[str, np.ndarray], config: str = "{}") -> Folder:
        from safetensors.numpy import save_file

        path = self.root / name
        path.mkdir(exist_ok=True)
        (path / "config.json").write_text(config)
        save_file(tensors, path / "model.safetensors")
        return Folder(str(path))


@functools.cache
def folders() -> Folders:
    """Written once, by the project without a bug."""
    return Folders()


def refused(what: str, call, *arguments, **fields) -> None:
    """The call raises ValueError with these words."""
    try:
        call(*arguments, **fields)
    except ValueError as error:
        assert what in str(error), error
        return
    raise AssertionError(f"not refused: {what}")


# ---- the same numbers


def _parity(folders: Folders, name: str) -> None:
    with jax.disable_jit():  # what one bug compiled serves the next
        found = weights.load(folders.of(name).path)
        differences = published.compare(published.Stored(name), found)
    assert differences and max(differences.values()) < BOUND, differences


def check_vit_is_the_reference_s(folders):
    _parity(folders, "vit_a")
    _parity(folders, "vit_b")


def check_convnext_is_the_reference_s(folders):
    _parity(folders, "convnext_a")


def check_resnet_is_the_reference_s(folders):
    _parity(folders, "resnet_a")


def check_clip_is_the_reference_s(folders):
    _parity(folders, "clip_a")


def check_siglip_is_the_reference_s(folders):
    _parity(folders, "siglip_a")


def check_siglip_2_is_the_reference_s(folders):
    _parity(folders, "siglip2_a")


def check_mobilenet_v2_is_the_reference_s(folders):
    _parity(folders, "mobilenet_a")


# ---- every tensor once, every parameter once

TENSORS = {"l.weight": np.arange(6, dtype=np.float32).reshape(3, 2), "l.bias": np.ones(3, "f4")}
PLACES = (Linear(ours="kernel", theirs="l.weight"), Same(ours="bias", theirs="l.bias"))


def _wanted(**more):
    leaves = {"kernel": (2, 3), "bias": (3,), **more}
    return {"params": {k: jax.ShapeDtypeStruct(shape, "f4") for k, shape in leaves.items()}}


def check_a_tensor_without_a_place_is_an_error(folders):
    folder = folders.small("more", {**TENSORS, "stranger": np.ones(1, "f4")})
    refused("stranger", fill, _wanted(), folder, PLACES)
    fill(_wanted(), folder, (*PLACES, Unused(theirs="stranger")))


def check_a_parameter_without_a_tensor_is_an_error(folders):
    folder = folders.small("fewer", {"l.weight": TENSORS["l.weight"]})
    refused("l.bias", fill, _wanted(), folder, PLACES)
    refused("empty", fill, _wanted(empty=(1,)), folders.small("plain", TENSORS), PLACES)


def check_nothing_is_used_or_filled_twice(folders):
    folder = folders.small("plain", TENSORS)
    twice = (*PLACES, Same(ours="again", theirs="l.bias"))
    refused("more than once: l.bias", fill, _wanted(again=(3,)), folder, twice)
    folder = folders.small("more", {**TENSORS, "other": np.ones(3, "f4")})
    twice = (*PLACES, Same(ours="bias", theirs="other"))
    refused("more than once: bias", fill, _wanted(), folder, twice)


def check_shapes_are_compared(folders):
    folder = folders.small("plain", TENSORS)
    wrong = (Same(ours="kernel", theirs="l.weight"), PLACES[1])
    refused("file (3, 2), model (2, 3)", fill, _wanted(), folder, wrong)


def check_tied_tensors_are_equal_or_refused(folders):
    places = (*PLACES, Tied(theirs="head", to="l.weight"))
    fill(_wanted(), folders.small("plain", TENSORS), places)
    folder = folders.small("tied", {**TENSORS, "head": TENSORS["l.weight"] + 1})
    refused("head differs from l.weight", fill, _wanted(), folder, places)


def check_a_fresh_head_keeps_what_was_drawn(folders):
    wanted = jax.tree.map(lambda x: np.full(x.shape, 7.0, "f4"), _wanted())
    filled = fill(wanted, folders.small("plain", TENSORS), PLACES, fresh=("bias",))["params"]
    assert (np.asarray(filled["bias"]) == 7).all() and filled["kernel"][0, 1] == 2


def check_running_statistics_come_too(folders):
    family, _ = weights.read(folders.of("resnet_a"))
    drawn = jax.tree.map(lambda x: np.full(x.shape, 7.0, x.dtype), weights.shapes(family))
    init = PublishedWeights(folder=folders.of("resnet_a").path)
    found = init.collections({"batch_stats": drawn["batch_stats"]})
    assert not any((np.asarray(x) == 7).any() for x in jax.tree.leaves(found))
    assert not any((np.asarray(x) == 7).any() for x in jax.tree.leaves(init(drawn["params"])))


# ---- files


def check_numbers_are_read_in_the_dtype_of_the_file_and_come_in_ours(folders):
    tensors = {
        "half": np.array([1.5, -0.25], np.float16),
        "brain": np.array([1.5, 3.0], ml_dtypes.bfloat16),
    }
    places = [Same(ours=name, theirs=name) for name in tensors]
    wanted = {"params": {name: jax.ShapeDtypeStruct((2,), jnp.float32) for name in tensors}}
    found = fill(wanted, folders.small("dtypes", tensors), places)["params"]
    for name, tensor in tensors.items():
        assert found[name].dtype == jnp.float32
        np.testing.assert_array_equal(found[name], tensor.astype(np.float32))


def check_what_is_exported_is_what_was_read(folders):
    for name in ("vit_a", "siglip_a"):
        folder = folders.of(name)
        found = weights.load(folder.path)
        with tempfile.TemporaryDirectory() as path:
            back = export(found.variables, found.family.places, Path(path) / "m", like=folder)
            for tensor in back.names():
                np.testing.assert_array_equal(back.tensor(tensor), folder.tensor(tensor))


def check_code_and_pickles_are_refused(folders):
    folder = folders.small("evil", TENSORS, json.dumps({"auto_map": {"AutoModel": "evil.M"}}))
    refused("auto_map", lambda: folder.config)
    (Path(folder.path) / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))
    refused("a pickle", folder.names)


def check_an_index_has_its_tensors(folders):
    folder = folders.small("index", TENSORS)
    index = Path(folder.path) / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"l.weight": "model.safetensors"}}))
    refused("does not name all", folder.names)
    index.write_text(json.dumps({"weight_map": {"ghost": "model.safetensors"}}))
    refused("'ghost' should be in", Folder(folder.path).names)


def check_rows_follow_the_tokenizer(folders):
    class Tokenizer:
        def rows_in_file(self):
            return (2, None, 0, 1)

    rows = Settings({}, Tokenizer()).token_rows(4)
    table = np.arange(4.0)[:, None]
    (ours,) = Rows(ours="x", theirs="y", **rows.fields).to_ours(table)
    np.testing.assert_array_equal(ours[:, 0], [2, 0, 0, 1, 3])
    assert rows.unscored == (1,)


# ---- pictures


def check_pictures_are_the_reference_s(folders):
    with np.load(published.STORED.parent / "pictures.npz", allow_pickle=False) as file:
        for name, config in processed.CONFIGS.items():
            steps = processors.transforms(config)
            for picture, theirs in list(zip(processed.pictures(), file[f"{name}_bytes"]))[::3]:
                ours = _through(steps[:-1], picture)
                assert np.abs(ours.astype(int) - theirs).max() <= 1
            normalised = _through(steps, processed.pictures()[0])
            np.testing.assert_allclose(normalised, file[f"{name}_normalised"], atol=1e-4)


def check_squares_of_a_picture_are_the_reference_s(folders):
    with np.load(published.STORED.parent / "pictures.npz", allow_pickle=False) as file:
        for name in processed.CUT:
            processed.check_squares(name, file)


def check_prompts_say_where_squares_lie_as_the_reference_s_do(folders):
    with np.load(published.STORED.parent / "pictures.npz", allow_pickle=False) as file:
        processed.check_prompts(file)


def _through(steps, picture):
    example = {"image": picture, "id": 0}
    for step in steps:
        example = step(example, None)
    return example["image"]


CHECKS = tuple(value for name, value in list(globals().items()) if name.startswith("check_"))
