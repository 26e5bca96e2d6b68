"""Low-rank updates: they begin as nothing, merge exactly, and are all that a run trains and saves."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import PartitionSpec

from tests import model_zoo
from tests.train import toys
from vlm_jax import config
from vlm_jax.decoding.beam_search import BeamSearch
from vlm_jax.tasks.generation import write
from vlm_jax.train import checkpoints
from vlm_jax.train.from_run import FromRun
from vlm_jax.train.loop import train
from vlm_jax.train.lora import Lora
from vlm_jax.train.partition import Partition
from vlm_jax.train.state import named_leaves, state_hash

KEY = jax.random.key(7)
ALL = (r"kernel$",)


class EveryLayer(nn.Module):
    """Pictures [b h w c] through each kind of layer that is adapted, and one that is not."""

    @nn.compact
    def __call__(self, batch, *, train):
        x = nn.Conv(6, (3, 3), strides=2, name="conv")(batch["image"])
        x = nn.Conv(6, (1, 1), name="pointwise")(nn.tanh(x))
        x = nn.Conv(6, (3, 3), feature_group_count=6, name="depthwise")(x)
        x = nn.DenseGeneral((2, 4), name="heads")(x)
        x = nn.DenseGeneral(5, axis=(-2, -1), name="output")(nn.tanh(x))
        return nn.Dense(3, name="dense")(x.mean((1, 2)))


LAYERS = r"(conv|pointwise|heads|output|dense)/kernel$"
IMAGES = {"image": np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)}


def moved(model, variables, seed=1):
    """With B, and all else that is trained, away from where it began."""
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape), variables["params"])
    return {**variables, "params": jax.tree.map(jnp.float32, params)}


@pytest.fixture(scope="module")
def every_layer():
    model = Lora(model=EveryLayer(), rules=(LAYERS,), rank=2, alpha=6.0)
    return model, jax.jit(lambda: model.init(KEY, IMAGES, train=False))()


def test_a_run_begins_as_exactly_the_model_that_it_adapts(every_layer):
    model, variables = every_layer
    drawn = jax.jit(lambda: model.model.init(KEY, IMAGES, train=False))()
    assert state_hash(variables["base"]) == state_hash(drawn["params"])
    ours = model.apply(variables, IMAGES, train=False)
    np.testing.assert_array_equal(ours, model.model.apply(drawn, IMAGES, train=False))


def test_a_and_b_have_the_kernels_inputs_and_outputs_round_the_rank(every_layer):
    params = every_layer[1]["params"]
    shapes = {name: leaf.shape for name, leaf in flatten_dict(params, sep="/").items()}
    assert shapes == {
        "conv/lora_a": (3, 3, 3, 2),
        "conv/lora_b": (2, 6),
        "pointwise/lora_a": (1, 1, 6, 2),
        "pointwise/lora_b": (2, 6),
        "heads/lora_a": (6, 2),
        "heads/lora_b": (2, 2, 4),
        "output/lora_a": (2, 4, 2),
        "output/lora_b": (2, 5),
        "dense/lora_a": (5, 2),
        "dense/lora_b": (2, 3),
    }
    assert all(
        (leaf == 0).all() == ("b" in name[-1]) for name, leaf in named_leaves(params).items()
    )


def test_merged_and_unmerged_agree_for_every_kind_of_layer(every_layer):
    model, variables = every_layer
    variables = moved(model, variables)
    plain = model.plain(variables)
    assert plain.keys() == {"params"}
    ours = model.apply(variables, IMAGES, train=False)
    np.testing.assert_allclose(ours, model.model.apply(plain, IMAGES, train=False), atol=1e-5)
    assert (
        abs(ours - model.model.apply({"params": variables["base"]}, IMAGES, train=False)).max()
        > 0.1
    )


def test_the_update_is_alpha_over_rank_times_a_b():
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2, name="dense")(x)

    model = Lora(model=Layer(), rules=("kernel",), rank=1, alpha=3.0)
    layer = {"kernel": jnp.array([[1.0, 0.0], [0.0, 1.0]]), "bias": jnp.array([10.0, 20.0])}
    update = {"lora_a": jnp.array([[1.0], [2.0]]), "lora_b": jnp.array([[1.0, -1.0]])}
    variables = {"params": {"dense": update}, "base": {"dense": layer}}
    # x = (1, 1): x W + b = (11, 21); x A = 3, times B = (3, -3), times alpha / rank = (9, -9)
    np.testing.assert_allclose(model.apply(variables, jnp.ones((1, 2))), [[20.0, 12.0]])
    merged = model.plain(variables)["params"]["dense"]
    np.testing.assert_allclose(merged["kernel"], [[4.0, -3.0], [6.0, -5.0]])
    np.testing.assert_allclose(merged["bias"], layer["bias"])


@pytest.mark.parametrize("name", ["transformer_today", "soft_attention"])
def test_a_search_writes_the_same_with_and_without_the_updates_merged(name):
    generator = model_zoo.generators()[name]
    model = Lora(model=generator, rules=(r"^decoder/.*kernel$",), rank=2)
    rng = np.random.default_rng(3)
    image = rng.normal(size=(2, model_zoo.NUM_PLACES, model_zoo.FEATURES)).astype(np.float32)
    batch = {"image": image, "target": np.ones((2, 5), np.int32)}
    shapes = jax.eval_shape(lambda: model.init(KEY, batch, train=False))
    variables = model_zoo.filled(shapes)
    strategy = BeamSearch(max_length=5, width=2)

    @jax.jit
    def searched(variables, plain):
        def found(model, variables):
            memory = model.apply(variables, batch, train=False, method="encode")
            return write(model, variables, memory, strategy, batch_size=2)

        return found(model, variables), found(generator, plain)

    ours, merged = searched(variables, model.plain(variables))
    np.testing.assert_array_equal(ours.tokens, merged.tokens)
    np.testing.assert_allclose(ours.log_probs, merged.log_probs, atol=1e-3)


def adapted(**fields):
    values = {
        "model": toys.Model(),
        "rules": ("hidden/kernel$",),
        "rank": 2,
        "trained": ("^head/",),
    }
    return Lora(**values | fields)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of 6 steps, and the same begun again after 4; folders and last states."""
    folder = tmp_path_factory.mktemp("lora")
    experiment = toys.experiment(model=adapted(), num_steps=6, evaluations=(), checkpoint_every=2)
    whole = train(experiment, folder / "whole")
    train(dataclasses.replace(experiment, num_steps=4), folder / "parts")
    parts = train(experiment, folder / "parts")
    return folder, whole, parts


def test_only_the_updates_and_what_is_trained_whole_move(runs):
    folder, state, _ = runs
    before = train(toys.experiment(model=adapted(), num_steps=0, evaluations=()))
    assert state_hash(state.collections["base"]) == state_hash(before.collections["base"])
    names = set(named_leaves(state.params))
    assert names == {"hidden/lora_a", "hidden/lora_b", "head/kernel", "head/bias"}
    old, new = named_leaves(before.params), named_leaves(state.params)
    assert all((old[name] != new[name]).any() for name in names)
    held = "embed", "hidden/kernel", "norm"
    assert not any(
        part in name for name in named_leaves((state.opt_state, state.ema)) for part in held
    )


def test_what_never_changes_is_written_once(runs):
    folder = runs[0] / "whole" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["2", "4", "6", "base"]
    body = checkpoints._read_meta(folder / "base")
    assert all(name.startswith("collections/base/") for name in body["leaves"])
    described = checkpoints._read_meta(folder / "6")["leaves"]
    assert body["leaves"].items() < described.items()  # a step says what it is to go with
    changing, _ = checkpoints._parted(named_leaves(runs[1]))
    wanted = {name: checkpoints._target(leaf) for name, leaf in changing.items()}
    assert checkpoints._restored(folder / "6", wanted).keys() == changing.keys()  # and has no more


def test_a_run_that_went_on_is_the_run_that_was_not_stopped(runs):
    _, whole, parts = runs
    assert state_hash(whole) == state_hash(parts)


def test_the_base_lies_as_the_rules_say_and_is_the_same_on_every_device(runs):
    mesh = Partition(mesh=(("data", 1), ("fsdp", 1)), rules=((r"hidden/kernel$", ("fsdp",)),))
    shapes = jax.eval_shape(lambda: runs[1])
    layout = mesh.build().state(shapes)
    assert layout.collections["base"]["hidden"]["kernel"].spec == PartitionSpec("fsdp")
    assert layout.collections["base"]["embed"]["embedding"].spec == PartitionSpec()
    experiment = toys.experiment(model=adapted(), num_steps=2, evaluations=())
    pmap = dataclasses.replace(experiment, partition=Partition(strategy="pmap"))
    ours, theirs = train(pmap), runs[1]
    assert state_hash(ours.collections["base"]) == state_hash(theirs.collections["base"])


def test_a_damaged_base_is_noticed(runs, tmp_path):
    import shutil

    shutil.copytree(runs[0] / "parts", tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    shutil.rmtree(folder / "base")
    with pytest.raises(checkpoints.CheckpointError, match="no checkpoint in .* is whole"):
        checkpoints.restore(tmp_path / "run", runs[1])


def test_a_plain_model_begins_from_a_run_with_its_updates_merged(runs, monkeypatch):
    folder, state, _ = runs
    monkeypatch.setattr(config, "KNOWN_PACKAGES", (*config.KNOWN_PACKAGES, "tests"))
    monkeypatch.setattr(config.from_json, "__kwdefaults__", {"packages": config.KNOWN_PACKAGES})
    began = train(
        toys.experiment(
            num_steps=0, evaluations=(), init_params=FromRun(workdir=str(folder / "whole"))
        )
    )
    batch = next(toys.Pipeline().batches())[1]
    ours = toys.Model().apply(began.variables, batch, train=False)
    np.testing.assert_allclose(
        ours, adapted().apply(state.eval_variables, batch, train=False), atol=1e-5
    )
    # And an adapted one: its base is that model, its updates begin anew.
    again = train(
        toys.experiment(
            model=adapted(),
            num_steps=0,
            evaluations=(),
            init_params=FromRun(workdir=str(folder / "whole")),
        )
    )
    np.testing.assert_array_equal(ours, adapted().apply(again.variables, batch, train=False))


@pytest.mark.parametrize(
    "fields, words",
    [
        (
            {"rules": ("hiden/kernel",)},
            "'hiden/kernel' matches no kernel .* Nearest: hidden/kernel",
        ),
        ({"rules": ("embed/",)}, "matches embed/embedding and the like, which are no kernels"),
        ({"trained": ("tail/",)}, "Lora.trained: the rule 'tail/' matches no parameter"),
        ({"trained": ("hidden/",)}, "hidden/kernel is in both rules and trained"),
        ({"rank": 0}, "Lora.rank: given 0"),
    ],
)
def test_what_cannot_be_adapted_is_refused_in_words(fields, words):
    batch = next(toys.Pipeline().batches())[1]
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(lambda: adapted(**fields).init(KEY, batch, train=False))


def test_dropout_falls_on_what_a_reads_and_only_in_training():
    batch = next(toys.Pipeline().batches())[1]
    model = adapted(model=toys.Model(dropout_rate=0.0, batch_norm=False), dropout_rate=0.5)
    shapes = jax.eval_shape(lambda: model.init(KEY, batch, train=False))
    variables = model_zoo.filled(shapes)

    def logits(key, train, **fields):
        rngs = {"dropout": jax.random.key(key)}
        chosen = dataclasses.replace(model, **fields)
        return chosen.apply(variables, batch, train=train, rngs=rngs)

    assert (logits(1, True) != logits(2, True)).any()
    np.testing.assert_array_equal(logits(1, True), logits(1, True))
    np.testing.assert_array_equal(logits(1, False), logits(1, True, dropout_rate=0.0))


def test_it_is_plain_data_and_can_be_overridden():
    model = Lora(model=model_zoo.generators()["transformer"], rules=ALL, trained=("bias$",))
    again = config.from_json(config.to_json(model))
    assert again == model and hash(again) == hash(model)
    changed = config.override(
        toys.experiment(model=model), {"model.rank": "4", "model.rules": "('query',)"}
    )
    assert (changed.model.rank, changed.model.rules) == (4, ("query",))
    wider = config.override(model, {"model.decoder.width": "32"})
    assert wider.decoder.width == 32
