import dataclasses
import json
import logging
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.data.made import Refuse, jpeg, write_image_folder
from vlm_jax import config
from vlm_jax.data import encoded as encoded_module
from vlm_jax.data.datasets.image_folder import ImageFolder
from vlm_jax.data.encoded import Encoded
from vlm_jax.data.image_transforms import Decode, Normalise
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.sampling import EachCaption, First
from vlm_jax.data.source import InMemory, Pictures, replace_source
from vlm_jax.types import Features

HALVES = (0.5, 0.5, 0.5)
TRANSFORMS = (Decode(), Normalise(mean=HALVES, std=HALVES))


def waves(key, shape, dtype=jnp.float32):
    """Initial weights without random numbers, which take seconds to compile."""
    return jnp.sin(jnp.arange(np.prod(shape), dtype=dtype)).reshape(shape)


class Patches(nn.Module, kw_only=True):
    """8x8 pictures to four positions of `width` features, none below 0."""

    width: int = 6

    @nn.compact
    def __call__(self, image, *, train):
        convolution = nn.Conv(self.width, (4, 4), 4, padding="VALID", kernel_init=waves)
        x = nn.relu(convolution(image))
        x = x.reshape(len(x), -1, self.width)
        return Features(values=x, mask=jnp.ones(x.shape[:2], bool))


class Masked(Patches):
    @nn.compact
    def __call__(self, image, *, train):
        x = image.reshape(len(image), -1, 3)
        return Features(values=x, mask=jnp.zeros(x.shape[:2], bool))


@dataclasses.dataclass(frozen=True)
class Times:
    """Weights: those given, multiplied."""

    factor: float

    def __call__(self, variables):
        return jax.tree.map(lambda leaf: leaf * self.factor, variables)


@dataclasses.dataclass(frozen=True)
class Constant:
    """Weights that need no values to begin with, as those from a file."""

    value: float

    def __call__(self, variables):
        return jax.tree.map(lambda leaf: jnp.full(leaf.shape, self.value, leaf.dtype), variables)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("VLM_JAX_CACHE", str(folder))
    forget()
    return folder


@pytest.fixture
def pictures(tmp_path):
    write_image_folder(tmp_path / "pictures", 7)
    return lambda: ImageFolder(str(tmp_path / "pictures"))


def forget():
    """As a new process would: only the files are left."""
    for function in (encoded_module._open_encoded, encoded_module._statistics):
        function.cache_clear()


def encode(source, **options):
    options = {"encoder": Patches(), "transforms": TRANSFORMS, "batch_size": 3} | options
    return Encoded(source=source, **options)


def values(source):
    return np.stack([source[index]["image"] for index in range(len(source))])


def expected(source, init_params=None):
    """Features of every picture, straight from the encoder."""
    pipeline = Pipeline(source=source, transforms=TRANSFORMS, batch_size=len(source), train=False)
    image = next(pipeline.batches())[1]["image"]
    variables = Patches().init(jax.random.key(0), image[:1], train=False)
    variables = init_params(variables) if init_params else variables
    return np.asarray(Patches().apply(variables, image, train=False).values)


# ---- values


def test_features_are_the_encoders_and_the_rest_is_the_sources(cache, pictures):
    source = encode(pictures())
    np.testing.assert_allclose(values(source), expected(pictures()), rtol=1e-3, atol=1e-3)
    example, before = source[4], pictures()[4]
    assert example["image"].shape == (4, 6) and example["image"].dtype == np.float32
    assert {**example, "image": 0} == {**before, "image": 0}
    assert source.references == pictures().references
    with pytest.raises(IndexError):
        source[7]


@dataclasses.dataclass(frozen=True)
class BiasOnly:
    """Weights of which some stay as they were."""

    def __call__(self, variables):
        convolution = variables["params"]["Conv_0"]
        convolution = {**convolution, "bias": jnp.full(convolution["bias"].shape, 0.5)}
        return {"params": {"Conv_0": convolution}}


@pytest.mark.parametrize("init_params", [Times(3.0), Constant(0.25), BiasOnly()])
def test_the_weights_are_those_of_init_params(cache, pictures, init_params):
    found = values(encode(pictures(), init_params=init_params, dtype="float32"))
    np.testing.assert_allclose(found, expected(pictures(), init_params), rtol=1e-5, atol=1e-5)


def test_pool_then_log_then_standardise(cache, pictures):
    train = First(pictures(), 5)
    pooled = expected(pictures()).mean(1, keepdims=True)
    found = values(encode(pictures(), pool=True, dtype="float32"))
    np.testing.assert_allclose(found, pooled, rtol=1e-5)
    logs = np.log1p(pooled)
    found = values(encode(pictures(), pool=True, log1p=True, dtype="float32"))
    np.testing.assert_allclose(found, logs, rtol=1e-5)
    options = dict(pool=True, log1p=True, dtype="float32", standardise=train)
    found = values(encode(pictures(), **options))
    mean, deviation = logs[:5].mean((0, 1)), logs[:5].std((0, 1))
    scale = np.where(deviation > 1e-6, deviation, 1)
    np.testing.assert_allclose(found, (logs - mean) / scale, rtol=1e-3, atol=1e-4)


def test_standardised_training_features_have_mean_0_and_deviation_1(cache, pictures):
    found = values(encode(pictures(), standardise=pictures())).reshape(-1, 6)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-3)
    deviation = found.std(0)
    constant = np.ptp(values(encode(pictures())).reshape(-1, 6), axis=0) == 0
    np.testing.assert_allclose(deviation[~constant], 1, atol=2e-3)
    assert not deviation[constant].any() and (~constant).sum() >= 2


def test_saved_statistics_do_for_the_pictures_they_were_measured_on(cache, pictures, tmp_path):
    before = encode(pictures(), standardise=pictures())
    standardised, file = values(before), tmp_path / "statistics.npz"
    encoded_module.save_statistics([before, encode(pictures())], file)
    forget()
    gone = ImageFolder(str(tmp_path / "nowhere"))
    after = encode(pictures(), standardise=gone, statistics=str(file))
    np.testing.assert_array_equal(values(after), standardised)
    assert after.file == before.file
    with pytest.raises((OSError, ValueError), match="nowhere"):  # other features were not measured
        values(encode(pictures(), standardise=gone, statistics=str(file), pool=True))


def test_halves_are_read_exactly():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)]
    found = encoded_module._float32(every)
    np.testing.assert_array_equal(found, every.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(found), np.signbit(every))


# ---- the cache


def test_a_second_process_computes_nothing(cache, pictures, monkeypatch):
    first = encode(pictures(), standardise=pictures())
    before = values(first)
    forget()
    monkeypatch.setattr(encoded_module, "_encode", None)  # calling it would fail
    again = encode(pictures(), standardise=pictures(), batch_size=2)  # no part of the hash
    np.testing.assert_array_equal(values(again), before)
    assert again.file == first.file and again.file.parent == cache
    assert not [path for path in cache.iterdir() if "partial" in path.name]


def test_whatever_changes_the_features_changes_the_file(cache, pictures, tmp_path):
    files = [
        encode(pictures(), **options).file
        for options in (
            {},
            {"encoder": Patches(width=5)},
            {"init_params": Times(2.0)},
            {"init_params": Times(3.0)},
            {"transforms": (Decode(), Normalise(mean=HALVES, std=(1.0, 1.0, 1.0)))},
            {"dtype": "float32"},
            {"pool": True},
            {"log1p": True},
        )
    ]
    files.append(encode(First(pictures(), 5)).file)
    forget()
    (tmp_path / "pictures" / "003.jpg").write_bytes(jpeg(99))
    files.append(encode(pictures()).file)
    assert len(set(files)) == len(files) and all(file.exists() for file in files)
    # the same weights by another way are the same features
    assert encode(pictures(), init_params=Times(1.0)).file == files[-1]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "no json", "bad json", "no array"])
def test_a_damaged_cache_is_computed_again(cache, pictures, damage, caplog):
    before = values(encode(pictures()))
    file = encode(pictures()).file
    whole, beside = file.read_bytes(), file.with_suffix(".json")
    if damage == "flip":
        file.write_bytes(whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:])
    elif damage == "cut":
        file.write_bytes(whole[:-10])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "no json":
        beside.unlink()
    elif damage == "bad json":
        beside.write_text(beside.read_text()[:-20])
    else:
        file.unlink()
    forget()
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(values(encode(pictures())), before)
    assert damage in ("no json", "no array") or str(file) in caplog.text
    assert file.read_bytes() == whole and json.loads(beside.read_text())["shape"] == [7, 4, 6]


def test_a_run_that_breaks_off_leaves_nothing_that_is_taken_for_whole(cache, pictures):
    broken = encode(pictures(), transforms=(*TRANSFORMS, Fail(5)))
    with pytest.raises(RuntimeError, match="power cut"):
        len(broken)
    assert not list(cache.glob("*.json"))
    np.testing.assert_allclose(values(encode(pictures())), expected(pictures()), atol=2e-3)


@dataclasses.dataclass(frozen=True)
class Fail:
    at: int

    def __call__(self, example, rng):
        if int(example["id"]) == self.at:
            raise RuntimeError("power cut")
        return example


def test_pictures_given_by_path_leave_no_file(cache, tmp_path, pictures):
    source = pictures()
    paths = tuple(str(tmp_path / "pictures" / f"{i:03d}.jpg") for i in range(3))
    found = encode(Pictures(paths=paths), standardise=source)
    assert found.file is None
    np.testing.assert_array_equal(values(found), values(encode(source, standardise=source))[:3])
    before = set(cache.iterdir())
    held = InMemory([source[i] for i in range(3)])
    np.testing.assert_array_equal(values(encode(held)), values(encode(source))[:3])
    assert (
        set(cache.iterdir()) - before
        == {path for path in cache.iterdir() if path.name.startswith(encode(source).file.stem)}
        - before
    )


def test_no_pictures_are_no_features(cache):
    assert len(encode(InMemory([]))) == 0


# ---- pictures and encoders that do not fit


@pytest.mark.parametrize("bad", [(2,), (0,), (6,)])
def test_a_bad_picture_is_left_out_and_the_others_keep_their_features(cache, pictures, bad, caplog):
    keep = [i for i in range(7) if i not in bad]
    with caplog.at_level(logging.WARNING):
        found = encode(pictures(), transforms=(Refuse(bad), *TRANSFORMS))
        assert [int(found[i]["id"]) for i in range(len(found))] == keep
    assert f"picture {bad[0]}" in caplog.text
    before = values(found)
    np.testing.assert_array_equal(before, values(encode(pictures()))[keep])
    forget()
    again = encode(pictures(), transforms=(Refuse(bad), *TRANSFORMS))
    np.testing.assert_array_equal(values(again), before)


def test_features_that_do_not_fit_are_refused(cache, pictures):
    with pytest.raises(ValueError, match="id . are not finite in float16; try dtype='float32'"):
        len(encode(pictures(), init_params=Constant(1e6)))
    with pytest.raises(ValueError, match="log1p: Negative gives .* above -1"):
        len(encode(pictures(), encoder=Negative(), log1p=True))
    with pytest.raises(ValueError, match="Masked masks some"):
        len(encode(pictures(), encoder=Masked()))
    with pytest.raises(ValueError, match="dtype: given 'int8'"):
        encode(pictures(), dtype="int8")
    with pytest.raises(TypeError, match="try EachCaption.Encoded"):
        encode(EachCaption(pictures()))


class Negative(nn.Module):
    @nn.compact
    def __call__(self, image, *, train):
        x = image.reshape(len(image), -1, 3) - 5
        return Features(values=x, mask=jnp.ones(x.shape[:2], bool))


# ---- as a source


def test_captions_go_outside_and_batches_hold_features(cache, pictures):
    pairs = EachCaption(encode(pictures()))
    assert len(pairs) == 14 and pairs[5]["caption"] == "caption 1 of 2"
    pipeline = Pipeline(source=pairs, batch_size=4, train=True)
    _, batch = next(pipeline.batches())
    assert batch["image"].shape == (4, 4, 6) and batch["image"].dtype == np.float32
    np.testing.assert_array_equal(batch["image"], values(encode(pictures()))[batch["id"]])


def test_replace_source_encodes_other_pictures_alike(cache, tmp_path, pictures):
    options = dict(log1p=True, standardise=pictures())
    pipeline = Pipeline(
        source=EachCaption(encode(pictures(), **options)), batch_size=2, train=False
    )
    other = Pictures(paths=(str(tmp_path / "pictures" / "005.jpg"),))
    replaced = replace_source(pipeline, other)
    assert replaced.source == encode(other, **options)
    _, batch = next(replaced.batches())
    assert batch["valid"].tolist() == [True, False]
    np.testing.assert_array_equal(batch["image"][0], values(pipeline.source.source)[5])


def test_encoded_is_a_description(cache, pictures):
    source = encode(pictures(), init_params=Times(1.0), standardise=pictures())
    source[0]
    assert source == encode(pictures(), init_params=Times(1.0), standardise=pictures())
    packages = (*config.KNOWN_PACKAGES, "tests")
    assert config.from_json(config.to_json(source), packages=packages) == source


@pytest.mark.parametrize("in_memory", [False, True])
def test_another_process_gets_the_features_and_needs_no_encoder(
    cache, pictures, monkeypatch, in_memory
):
    held = InMemory([pictures()[i] for i in range(3)]) if in_memory else pictures()
    source = encode(held, standardise=pictures())
    before = values(source)
    sent = pickle.dumps(source)
    forget()
    for name in ("_encode", "_encoder_variables"):  # which would start JAX there
        monkeypatch.setattr(encoded_module, name, None)
    received = pickle.loads(sent)
    np.testing.assert_array_equal(values(received), before)
    assert in_memory or (received == source and len(sent) < 3000)


def test_a_damaged_statistics_file_is_computed_again(cache, pictures, caplog):
    before = values(encode(pictures(), standardise=pictures()))
    (file,) = cache.glob("*.statistics.npz")
    file.write_bytes(file.read_bytes()[:-30])
    forget()
    np.testing.assert_array_equal(values(encode(pictures(), standardise=pictures())), before)
    assert str(file) in caplog.text


def test_a_full_disk_is_an_error_in_words_and_leaves_nothing_whole(cache, pictures, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoded_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        len(encode(pictures()))
    assert not list(cache.glob("*.npy")) and not list(cache.glob("*.json"))
    monkeypatch.undo()
