import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.fake_devices import printed_by
from vlm_jax.pretrained import places as kinds
from vlm_jax.pretrained.folder import INDEX, Folder
from vlm_jax.pretrained.mapping import export, fill
from vlm_jax.pretrained.places import (
    Convolution,
    FusedHeads,
    Heads,
    HeadsOut,
    Linear,
    Patches,
    Rows,
    Same,
    Single,
    Split,
    Tied,
    Unused,
    Vector,
    below,
)

NAMES = {"ours": "x", "theirs": "y"}


# ---- each kind, by hand


def numbered(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize(
    ("place", "theirs", "ours"),
    [
        (Same(**NAMES), numbered(2, 3), numbered(2, 3)),
        (Single(**NAMES), numbered(1, 2), numbered(2)),
        (Vector(**NAMES), numbered(2), numbered(1, 1, 2)),
        (Linear(**NAMES), np.array([[1, 2], [3, 4], [5, 6]]), np.array([[1, 3, 5], [2, 4, 6]])),
        # rows 0, 1 are head 0; rows 2, 3 head 1
        (
            Heads(**NAMES, num_heads=2),
            np.array([[1, 2, 9], [3, 4, 9], [5, 6, 9], [7, 8, 9]]),
            np.array([[[1, 3], [5, 7]], [[2, 4], [6, 8]], [[9, 9], [9, 9]]]),
        ),
        (Heads(**NAMES, num_heads=2), np.array([1, 2, 3, 4]), np.array([[1, 2], [3, 4]])),
        # columns 0, 1 are head 0
        (
            HeadsOut(**NAMES, num_heads=2),
            np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 9, 9, 9]]),
            np.array([[[1, 5, 9], [2, 6, 9]], [[3, 7, 9], [4, 8, 9]]]),
        ),
        (
            Rows(**NAMES, ids=(2, None, 0, 1)),
            np.array([[1.0], [2.0], [3.0]]),
            np.array([[3.0], [0.0], [1.0], [2.0]]),
        ),
        (
            Rows(**NAMES, ids=(1, 0, None), transposed=True),
            np.array([[1.0, 2.0], [3.0, 4.0]]),
            np.array([[3.0, 1.0, 0.0], [4.0, 2.0, 0.0]]),
        ),
    ],
)
def test_a_tensor_is_what_it_is_by_hand_and_comes_back(place, theirs, ours):
    (found,) = place.to_ours(theirs)
    np.testing.assert_array_equal(found, ours)
    (back,) = place.to_theirs(ours)
    np.testing.assert_array_equal(back, theirs)


def test_convolutions_turn_their_axes():
    theirs = numbered(5, 2, 3, 4)  # out in h w
    (ours,) = Convolution(**NAMES).to_ours(theirs)
    assert ours.shape == (3, 4, 2, 5) and ours[1, 2, 0, 4] == theirs[4, 0, 1, 2]
    np.testing.assert_array_equal(Convolution(**NAMES).to_theirs(ours)[0], theirs)


def test_patches_are_read_row_by_row_with_their_colours_last():
    theirs = numbered(5, 2 * 2 * 3)
    (ours,) = Patches(**NAMES, size=2).to_ours(theirs)
    assert ours.shape == (2, 2, 3, 5) and ours[1, 0, 2, 4] == theirs[4, 8]
    np.testing.assert_array_equal(Patches(**NAMES, size=2).to_theirs(ours)[0], theirs)


@pytest.mark.parametrize("transposed", [False, True])
def test_fused_heads_are_query_then_key_then_value(transposed):
    place = FusedHeads(ours=("q", "k", "v"), theirs="y", heads=(4, 2, 2), transposed=transposed)
    theirs = numbered(8 * 3, 5)  # heads of 3, width 5
    given = theirs.T if transposed else theirs
    query, key, value = place.to_ours(given)
    assert query.shape == (5, 4, 3) and key.shape == value.shape == (5, 2, 3)
    assert query[1, 3, 2] == theirs[11, 1] and key[0, 1, 0] == theirs[15, 0]
    assert value[4, 0, 1] == theirs[19, 4]
    np.testing.assert_array_equal(place.to_theirs(query, key, value)[0], given)
    biases = place.to_ours(numbered(24))
    assert [bias.shape for bias in biases] == [(4, 3), (2, 3), (2, 3)]
    np.testing.assert_array_equal(place.to_theirs(*biases)[0], numbered(24))


def test_a_tensor_of_several_layers_is_split_in_order():
    place = Split(ours=("gate", "value"), theirs="y", sizes=(2, 3))
    gate, value = place.to_ours(numbered(5, 4))
    assert gate.shape == (4, 2) and value.shape == (4, 3) and value[0, 0] == 8
    np.testing.assert_array_equal(place.to_theirs(gate, value)[0], numbered(5, 4))


def test_prefixes_go_before_every_name():
    found = below(
        [
            Same(ours=("a", "batch_stats:b"), theirs=("c", "d")),
            Tied(theirs="e", to="c"),
        ],
        ours="in/",
        theirs="m.",
    )
    assert found[0] == Same(ours=("in/a", "batch_stats:in/b"), theirs=("m.c", "m.d"))
    assert found[1] == Tied(theirs="m.e", to="m.c")


# ---- a whole file


PLACES = (
    Linear(ours="layer/kernel", theirs="l.weight"),
    Same(ours="layer/bias", theirs="l.bias"),
    Same(ours="batch_stats:norm/mean", theirs="n.running_mean"),
    Unused(theirs="n.num_batches_tracked"),
    Tied(theirs="head.weight", to="l.weight"),
)
TENSORS = {
    "l.weight": numbered(3, 2),
    "l.bias": numbered(3).astype(np.float16),
    "n.running_mean": numbered(4),
}
WANTED = {
    "params": {
        "layer": {
            "kernel": jax.ShapeDtypeStruct((2, 3), jnp.float32),
            "bias": jax.ShapeDtypeStruct((3,), jnp.float32),
        }
    },
    "batch_stats": {"norm": {"mean": jax.ShapeDtypeStruct((4,), jnp.float32)}},
}


def made(path, tensors=TENSORS, **changes):
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({"torch_dtype": "float16", "keep": 1}))
    found = {**tensors, **{name.replace("__", ".", 1): x for name, x in changes.items()}}
    found = {name: x for name, x in found.items() if x is not None}
    save_file(found, path / "model.safetensors")
    return Folder(str(path))


def test_every_leaf_is_filled_in_its_own_dtype(tmp_path):
    filled = fill(WANTED, made(tmp_path / "m"), PLACES)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), filled) == jax.tree.map(
        lambda x: (x.shape, x.dtype), WANTED
    )
    np.testing.assert_array_equal(filled["params"]["layer"]["kernel"], TENSORS["l.weight"].T)
    np.testing.assert_array_equal(filled["batch_stats"]["norm"]["mean"], [0, 1, 2, 3])
    half = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), WANTED)
    assert {x.dtype.name for x in jax.tree.leaves(fill(half, made(tmp_path / "m"), PLACES))} == {
        "bfloat16"
    }


def test_both_sides_are_listed_at_once_before_anything_is_read(tmp_path, monkeypatch):
    folder = made(
        tmp_path / "m", l__bias=None, stranger=numbered(2, 2), n__running_mean=numbered(5)
    )
    monkeypatch.setattr(Folder, "tensor", None)
    wanted = {**WANTED, "params": {**WANTED["params"], "empty": jax.ShapeDtypeStruct((7,), "f4")}}
    twice = (
        *PLACES,
        Same(ours="layer/bias", theirs="l.weight"),
        Same(ours="ghost", theirs="spook"),
    )
    with pytest.raises(ValueError) as error:
        fill(wanted, folder, twice)
    lines = str(error.value).splitlines()
    assert lines[0] == f"{folder.path} does not fit this model."
    assert {line.strip() for line in lines[1:]} == {
        "In the file, without a place in the model: stranger (2, 2)",
        "In the model, not filled by the file: empty (7,)",
        "Expected in the file, which has it not: l.bias, spook",
        "To be filled, which the model has not: ghost",
        "Taken from the file more than once: l.weight",
        "Filled more than once: layer/bias",
        "Of another shape: batch_stats:norm/mean: file (5,), model (4,), layer/bias: file (3, 2), model (3,)",
    }


def test_whole_numbers_are_no_parameters(tmp_path):
    folder = made(tmp_path / "m", l__bias=np.arange(3))
    with pytest.raises(ValueError, match="layer/bias: file int64, model float32"):
        fill(WANTED, folder, PLACES)


def test_heads_that_do_not_divide_are_an_error_with_the_tensor_s_name(tmp_path):
    places = (Heads(ours="layer/kernel", theirs="l.weight", num_heads=2), *PLACES[1:])
    with pytest.raises(ValueError, match=r"l.weight: 2 heads do not divide \(3, 2\)"):
        fill(WANTED, made(tmp_path / "m"), places)


def test_a_tied_head_may_be_absent_or_equal_but_not_another(tmp_path):
    expected = fill(WANTED, made(tmp_path / "absent"), PLACES)
    counter = np.array(3)
    equal = made(
        tmp_path / "equal", head__weight=TENSORS["l.weight"], n__num_batches_tracked=counter
    )
    jax.tree.map(np.testing.assert_array_equal, fill(WANTED, equal, PLACES), expected)
    other = made(tmp_path / "other", head__weight=TENSORS["l.weight"] + 1)
    with pytest.raises(ValueError, match="head.weight differs from l.weight"):
        fill(WANTED, other, PLACES)


def test_fresh_leaves_keep_their_values_and_their_tensors_stay(tmp_path):
    wanted = jax.tree.map(lambda x: jnp.full(x.shape, 9.0, x.dtype), WANTED)
    wanted["params"]["layer"]["bias"] = jnp.full(8, 9.0)  # another number of classes
    filled = fill(wanted, made(tmp_path / "m"), PLACES, fresh=("bias$",))
    assert filled["params"]["layer"]["bias"].shape == (8,)
    assert filled["params"]["layer"]["kernel"][0, 1] == 2.0
    with pytest.raises(ValueError, match="the rule 'biass' finds no parameter.*layer/bias"):
        fill(wanted, made(tmp_path / "m"), PLACES, fresh=("biass",))


# ---- back


def test_what_is_exported_is_what_was_loaded(tmp_path):
    folder = made(tmp_path / "m")
    filled = fill(WANTED, folder, PLACES)
    back = export(filled, PLACES, tmp_path / "back", like=folder)
    found = load_file(f"{back.path}/model.safetensors")
    assert set(found) == set(TENSORS)  # neither the tied head nor the counter
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(found[name], tensor)
    assert back.config == {"keep": 1, "dtype": "float32"}
    jax.tree.map(np.testing.assert_array_equal, fill(WANTED, back, PLACES), filled)
    with pytest.raises(FileExistsError, match="has model.safetensors already"):
        export(filled, PLACES, tmp_path / "back", like=folder)


def test_large_models_are_exported_in_shards(tmp_path):
    folder = made(tmp_path / "m")
    filled = fill(WANTED, folder, PLACES)
    filled["params"]["layer"]["bias"] = filled["params"]["layer"]["bias"].astype(jnp.bfloat16)
    back = export(filled, PLACES, tmp_path / "back", like=folder, shard_bytes=20)
    index = json.loads((tmp_path / "back" / INDEX).read_text())
    assert sorted(set(index["weight_map"].values())) == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
    ]
    assert index["metadata"]["total_size"] == 24 + 6 + 16
    assert back.tensor("l.bias").dtype == ml_dtypes.bfloat16
    jax.tree.map(np.testing.assert_array_equal, fill(WANTED, back, PLACES), filled)


def test_parameters_without_a_place_are_not_exported_silently(tmp_path):
    folder = made(tmp_path / "m")
    filled = fill(WANTED, folder, PLACES)
    filled["params"]["adapter"] = jnp.zeros(2)
    with pytest.raises(ValueError, match="without a place in the file adapter"):
        export(filled, PLACES, tmp_path / "back", like=folder)
    assert not (tmp_path / "back").exists()


def test_every_kind_of_place_says_both_ways():
    for kind in vars(kinds).values():
        if isinstance(kind, type) and issubclass(kind, kinds.Place) and kind is not kinds.Place:
            if kind not in (Tied, Unused):
                assert "to_ours" in vars(kind) and "to_theirs" in vars(kind), kind


# ---- straight to where it belongs, with little memory


def test_loading_takes_the_parameters_and_one_tensor_of_memory_and_shards_as_asked():
    found = printed_by("tests.pretrained.loading")
    assert found["devices"] == 8
    assert found["shards"] == {"split": [8, 4], "whole": [64, 4]}
    assert found["equal"]
    # Its bytes and the copies that JAX makes of one tensor; twelve tensors of the file would be 201 MB.
    assert found["risen_mb"] < found["parameters_mb"] + 2 * found["tensor_mb"] + 24, found
