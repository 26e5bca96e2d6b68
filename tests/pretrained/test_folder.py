import json
import pathlib
import pickle
import random
import resource
import struct
import sys
import time
import types
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save, save_file

from tests.pretrained.mutations import mutated, rare
from vlm_jax.pretrained import weights
from vlm_jax.pretrained.folder import INDEX, SINGLE, Folder, open_folder

TENSORS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([1.5, -2.0], np.float16),
    "c": np.array([[0.25, 3.0]], ml_dtypes.bfloat16),
    "step": np.array(7, np.int64),
}


def made(path, tensors=TENSORS, config=None, name=SINGLE):
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config or {"architectures": ["ViTModel"]}))
    save_file(tensors, path / name)
    return Folder(str(path))


def sharded(path, shards, weight_map=None):
    """Shards 1, 2, ... of the tensors, and their index."""
    path.mkdir(exist_ok=True)
    for file, tensors in shards.items():
        save_file(tensors, path / file)
    found = {name: file for file, tensors in shards.items() for name in tensors}
    (path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map or found}))
    return Folder(str(path))


# ---- reading


def test_tensors_come_one_at_a_time_in_the_dtype_of_the_file(tmp_path):
    folder = made(tmp_path / "model")
    assert folder.names() == ("a.weight", "b", "c", "step")
    assert folder.shape("a.weight") == folder.blank("a.weight").shape == (2, 3)
    for name, expected in TENSORS.items():
        found = folder.tensor(name)
        assert found.dtype == expected.dtype == folder.blank(name).dtype
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(KeyError, match="no tensor 'd'; it has a.weight, b"):
        folder.tensor("d")


def test_shards_are_one_folder(tmp_path):
    shards = {
        "model-1.safetensors": {"a.weight": TENSORS["a.weight"], "c": TENSORS["c"]},
        "model-2.safetensors": {"b": TENSORS["b"]},
    }
    folder = sharded(tmp_path / "model", shards)
    assert folder.names() == ("a.weight", "b", "c")
    np.testing.assert_array_equal(folder.tensor("b"), TENSORS["b"])
    np.testing.assert_array_equal(folder.tensor("c"), TENSORS["c"])


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"b": "model-1.safetensors", "c": "model-9.safetensors"}, "not there: model-9"),
        ({"b": "model-1.safetensors", "c": "model-1.safetensors"}, "'c' should be in model-1"),
        ({}, "expected weight_map|does not name"),
        ({"b": "../model-1.safetensors"}, "names '../model-1.safetensors'"),
        ({"b": "/etc/passwd"}, "names '/etc/passwd'"),
        ({"b": ".."}, r"names '\.\.'"),
        ({"b": 3}, "expected weight_map"),
        (["b"], "expected weight_map"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused(tmp_path, weight_map, message):
    folder = sharded(tmp_path / "model", {"model-1.safetensors": {"b": TENSORS["b"]}})
    index = {"weight_map": weight_map or {"other": "model-1.safetensors"}}
    (tmp_path / "model" / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=f"{message}|should be in"):
        folder.names()
    if weight_map == {"b": 3}:
        (tmp_path / "model" / INDEX).write_text("{}")
        with pytest.raises(ValueError, match="expected weight_map"):
            Folder(folder.path).names()


def test_a_tensor_that_the_index_passes_over_is_named(tmp_path):
    tensors = {"b": TENSORS["b"], "hidden": TENSORS["c"]}
    folder = sharded(tmp_path / "model", {"1.safetensors": tensors}, {"b": "1.safetensors"})
    with pytest.raises(ValueError, match="does not name all tensors .* hidden in 1.safetensors"):
        folder.names()


def test_what_is_missing_is_named_with_what_to_try(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json is not there"):
        _ = Folder(str(tmp_path)).config
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(FileNotFoundError, match="pytorch_model.bin.*pickles"):
        Folder(str(tmp_path)).names()
    with pytest.raises(FileNotFoundError, match="tokenizer.json is not there"):
        Folder(str(tmp_path)).tokenizer()
    assert Folder(str(tmp_path)).preprocessor is None
    with pytest.raises(FileNotFoundError, match="neither a folder nor a name"):
        open_folder(str(tmp_path / "nowhere" / "at" / "all"))


# ---- the hub


def test_a_name_of_the_hub_is_fetched_at_its_commit_and_no_other_way(tmp_path, monkeypatch):
    asked = []

    def snapshot_download(name, *, revision, allow_patterns):
        asked.append((name, revision, tuple(allow_patterns)))
        return str(tmp_path)

    hub = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    for revision in (None, "main", "v1.0", "3f49326"):
        with pytest.raises(ValueError, match="40 digits of a commit"):
            open_folder("google/vit", revision)
    assert open_folder("google/vit", "0" * 40).path == str(tmp_path)
    assert asked == [("google/vit", "0" * 40, ("*.json", "*.safetensors"))]
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match="huggingface_hub, which would fetch it, is not installed"):
        open_folder("google/vit", "0" * 40)


def test_a_folder_needs_no_network(tmp_path, monkeypatch):
    def connect(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket", connect)
    folder = made(tmp_path / "model")
    assert open_folder(folder.path).names() == folder.names()


# ---- nothing is executed


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (pathlib.Path.touch, (pathlib.Path(self.path),))


def _clothes(tmp_path, canary):
    """Pickles as they come: the bytes of each."""
    bomb = pickle.dumps(_Bomb(canary))
    yield "pickle", bomb
    yield "old pickle", pickle.dumps(_Bomb(canary), protocol=0)
    with zipfile.ZipFile(tmp_path / "torch.zip", "w") as archive:
        archive.writestr("archive/data.pkl", bomb)
    yield "torch", (tmp_path / "torch.zip").read_bytes()
    np.save(tmp_path / "object.npy", np.array([_Bomb(canary)], object), allow_pickle=True)
    yield "npy", (tmp_path / "object.npy").read_bytes()
    yield "behind a length", struct.pack("<Q", len(bomb)) + bomb
    yield "hdf5", b"\x89HDF\r\n\x1a\n" + bomb


def test_pickles_are_refused_by_content_whatever_they_are_called(tmp_path):
    canary = tmp_path / "canary"
    for clothes, data in _clothes(tmp_path, canary):
        path = tmp_path / clothes.replace(" ", "_")
        path.mkdir()
        (path / SINGLE).write_bytes(data)
        with pytest.raises(ValueError, match="model.safetensors is not"):
            Folder(str(path)).names()
        (path / "shard.safetensors").write_bytes(data)
        (path / INDEX).write_text(json.dumps({"weight_map": {"a": "shard.safetensors"}}))
        with pytest.raises(ValueError, match="shard.safetensors is not"):
            Folder(str(path)).names()
        for name in ("config.json", "preprocessor_config.json", "tokenizer.json"):
            (path / name).write_bytes(data)
        with pytest.raises(ValueError, match="config.json: expected a JSON object"):
            _ = Folder(str(path)).config
        with pytest.raises(ValueError, match="preprocessor_config.json: expected a JSON object"):
            _ = Folder(str(path)).preprocessor
        with pytest.raises(ValueError, match="tokenizer.json: expected a JSON object"):
            Folder(str(path)).tokenizer()
    assert not canary.exists()


def test_other_files_under_the_name_are_told_apart(tmp_path):
    kinds = {
        b"<html>404": "a web page",
        b"version https://git-lfs.github.com/spec/v1\n": "git lfs pull",
        b"\x80\x04": "a pickle",
        b"": "0 bytes",
        b"12345678": "unknown",
    }
    for data, message in kinds.items():
        (tmp_path / SINGLE).write_bytes(data)
        with pytest.raises(ValueError, match=message):
            Folder(str(tmp_path)).names()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"architectures": ["X"], "auto_map": {"AutoModel": "evil.Model"}}', "auto_map .*evil"),
        ('{"text_config": {"auto_map": {"AutoModel": "evil.Model"}}}', "auto_map .*evil"),
        ("[]", "expected a JSON object: found"),
        ("{", "expected a JSON object"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ("[" * 100_000, "expected a JSON object"),
        ("\udce4", "expected a JSON object"),
    ],
)
def test_a_configuration_is_data_or_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message):
        _ = Folder(str(tmp_path)).config


def test_an_unknown_architecture_is_told_which_are_known(tmp_path):
    folder = made(tmp_path / "model", config={"architectures": ["Evil"], "model_type": "os"})
    with pytest.raises(ValueError, match=r"\['Evil'\].*ViTForImageClassification, ViTModel"):
        weights.read(folder)
    (tmp_path / "model" / "config.json").write_text('{"architectures": "ViTModel"}')
    with pytest.raises(ValueError, match="architectures is 'ViTModel', expected a list of words"):
        weights.read(Folder(folder.path))


# ---- mutations


def _tried(path, data):
    """'read' or 'refused'; any other error comes out."""
    file = path / SINGLE
    file.write_bytes(data)
    folder = Folder(str(path))
    try:
        for name in folder.names():
            assert folder.tensor(name).shape == folder.shape(name)
    except ValueError as error:
        assert str(file) in str(error) and len(str(error)) < 1000, error
        return "refused"
    return "read"


def _fuzz(path, number, seed):
    sound, rng = save(TENSORS, {"format": "pt"}), random.Random(seed)
    assert _tried(path, sound) == "read"
    counts = {"read": 0, "refused": 0}
    slowest = 0.0
    for _ in range(number):
        data = mutated(sound, rng)
        start = time.process_time()
        counts[_tried(path, data)] += 1
        slowest = max(slowest, time.process_time() - start)
    for data in rare(sound, rng):
        assert _tried(path, data) in counts
    return counts, slowest


def test_mutated_files_are_read_or_refused_and_nothing_else(tmp_path):
    counts, slowest = _fuzz(tmp_path, 400, seed=0)
    assert counts["refused"] > 250  # a bit flipped in the numbers themselves cannot be seen
    assert slowest < 1.0


@pytest.mark.nightly
def test_ten_thousand_mutated_files_are_read_or_refused_and_nothing_else(tmp_path, request):
    if "nightly" not in request.config.option.markexpr:
        pytest.skip("half a minute long; run with `make nightly`")
    _fuzz(tmp_path, 100, seed=1)  # whatever is imported and kept is there before memory is measured
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts, slowest = _fuzz(tmp_path, 10_000, seed=random.randrange(2**32))
    risen = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{counts}, slowest {slowest:.2f} s, {risen / 1024:.0f} MB more")
    assert slowest < 1.0 and risen <= 64 * 1024
