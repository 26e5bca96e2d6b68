"""A checkpoint gives back what was saved, or says that it cannot."""

import dataclasses
import functools
import json
import logging
import os
import random
import shutil
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train import toys
from tests.train.fault_loop import KINDS_OF_DAMAGE, became_of, damage_file
from vlm_jax.train import checkpoints as c
from vlm_jax.train.optimizers import AdamW, Sgd, WarmupCosine
from vlm_jax.train.state import init_state, named_leaves, state_hash
from vlm_jax.train.steps import train_step

KEY = jax.random.key(0)
NUM_STEPS = 20
EXPERIMENT = toys.experiment()


@functools.cache
def machinery():
    """(a state maker, its shapes, the compiled step)."""
    optimizer = EXPERIMENT.optimizer
    tx = optimizer.build()
    batch = next(EXPERIMENT.train_data.batches())[1]
    init = jax.jit(lambda: init_state(EXPERIMENT.model, tx, batch, KEY, ema=True))
    step = jax.jit(train_step(EXPERIMENT.model, EXPERIMENT.task, tx, ema_decay=optimizer.ema_decay))
    committed = jax.sharding.SingleDeviceSharding(jax.devices()[0])  # as a restored state is
    return lambda: jax.device_put(init(), committed), jax.eval_shape(init), step


def run(state, position, until=NUM_STEPS):
    """Trains to step `until`; also the ids of the batches on the way."""
    step, seen = machinery()[2], []
    data = EXPERIMENT.train_data.batches(position)
    while int(state.step) < until:
        position, batch = next(data)
        seen.append(batch["id"].tolist())
        state, _ = step(state, batch, KEY)
    return state, position, seen


@pytest.fixture(scope="module")
def every_step(tmp_path_factory):
    """A workdir with a checkpoint at every step from 0 to 19; the final state; the ids seen."""
    folder = tmp_path_factory.mktemp("every")
    state, position, seen = machinery()[0](), 0, []
    with c.Checkpoints(folder, keep=100) as files:
        for step in range(NUM_STEPS):
            files.save(step, state, position)
            state, position, ids = run(state, position, step + 1)
            seen += ids
    return folder, state, seen


def one_step(workdir, source, step):
    shutil.copytree(source / "checkpoints" / str(step), workdir / "checkpoints" / str(step))
    return workdir


def test_resuming_at_every_step_is_bit_equal(every_step, tmp_path):
    source, final, seen = every_step
    like = machinery()[1]
    for step in range(NUM_STEPS):
        workdir = one_step(tmp_path / str(step), source, step)
        state, position = c.restore(workdir, like)
        assert int(state.step) == position == step
        state, _, ids = run(state, position)
        assert state_hash(state) == state_hash(final), step
        assert ids == seen[step:], step


PARTS = {
    "params": lambda fresh: lambda s, p: (s.replace(params=fresh.params), p),
    "collections": lambda fresh: lambda s, p: (s.replace(collections=fresh.collections), p),
    "moments": lambda fresh: lambda s, p: (s.replace(opt_state=_only(fresh, s, "mu", "nu")), p),
    "counts": lambda fresh: lambda s, p: (s.replace(opt_state=_only(fresh, s, "count")), p),
    "ema": lambda fresh: lambda s, p: (s.replace(ema=fresh.ema), p),
    "step (schedule and rng)": lambda fresh: lambda s, p: (s.replace(step=fresh.step), p),
    "skipped": lambda fresh: lambda s, p: (s.replace(skipped=s.skipped + 1), p),
    "position": lambda fresh: lambda s, p: (s, 0),
}


def _only(fresh, state, *names):
    """The state's moments with the leaves of these names as they were at step 0."""

    def pick(path, new, old):
        return new if any(str(getattr(k, "name", k)) in names for k in path) else old

    return jax.tree_util.tree_map_with_path(pick, fresh.opt_state, state.opt_state)


@pytest.mark.parametrize("part", PARTS)
def test_any_part_left_out_is_noticed(part, every_step, tmp_path):
    """The test above has teeth: forget one part, and its comparison fails."""
    source, final, _ = every_step
    make, like, step = machinery()
    state, position = c.restore(one_step(tmp_path, source, 7), like)
    whole = state_hash(run(state, position)[0])
    changed, position = PARTS[part](make())(state, position)
    data = EXPERIMENT.train_data.batches(position)
    for _ in range(NUM_STEPS - 7):  # as many steps as were missing
        _, batch = next(data)
        changed, _ = step(changed, batch, KEY)
    assert whole == state_hash(final) != state_hash(changed)


def damaged_restores(source, hashes, seed, folder, like):
    """Damages each file of the newer of two steps in each way; (file, kind of damage) -> what became of it."""
    rng = random.Random(seed)
    newer = source / "checkpoints" / "19"
    files = [f.relative_to(newer) for f in sorted(newer.rglob("*")) if f.is_file()]
    outcome = {}
    for file in files:
        for kind in KINDS_OF_DAMAGE:
            for step in (18, 19):
                one_step(folder, source, step)
            damaged = folder / "checkpoints" / "19" / file
            if damaged.stat().st_size:
                damage_file(kind, damaged, rng)
                outcome[str(file), kind] = became_of(folder, like, hashes)
            shutil.rmtree(folder)
    return outcome


def test_damaged_files_never_restore_silently(every_step, tmp_path):
    source = every_step[0]
    like = machinery()[1]
    hashes = {
        step: state_hash(c.restore(one_step(tmp_path / f"whole{step}", source, step), like)[0])
        for step in (18, 19)
    }
    outcome = damaged_restores(source, hashes, 0, tmp_path / "damaged", like)
    assert "silent wrong" not in outcome.values(), outcome
    # The damage was real: what holds the state is among the files, and none of it can be missing.
    (values,) = (source / "checkpoints" / "19" / "state" / "d").iterdir()
    for file in ("meta/metadata", "state/manifest.ocdbt", f"state/d/{values.name}"):
        assert outcome[file, "empty"] == outcome[file, "deleted"] == "fell back", file
    assert list(outcome.values()).count("fell back") >= 10, outcome


def test_falling_back_warns_with_step_and_file_and_puts_the_damage_aside(
    every_step, tmp_path, caplog, capfd
):
    for step in (18, 19):
        one_step(tmp_path, every_step[0], step)
    (file,) = (tmp_path / "checkpoints/19/state/d").iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    with caplog.at_level(logging.WARNING), c.Checkpoints(tmp_path) as files:
        restored = files.restore(machinery()[1])
        assert restored.step == restored.position == 18
        assert c.steps(files.folder) == [18]
        assert (files.folder / "damaged-19").is_dir()
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "step 19" in message and "checkpoints/19" in message
    assert capfd.readouterr().err.count("\n") <= 2  # Orbax alone prints hundreds of lines


def test_no_whole_checkpoint_is_an_error_and_none_at_all_is_not(every_step, tmp_path):
    assert c.restore(tmp_path, machinery()[1]) is None
    for step in (18, 19):
        one_step(tmp_path, every_step[0], step)
        (tmp_path / "checkpoints" / str(step) / "meta" / "metadata").write_bytes(b"")
    with pytest.raises(
        c.CheckpointError, match=r"no checkpoint .* is whole(?s:.*)step 19(?s:.*)step 18"
    ):
        c.restore(tmp_path, machinery()[1])


def test_an_empty_step_folder_is_not_the_latest(every_step, tmp_path):
    one_step(tmp_path, every_step[0], 18)
    (tmp_path / "checkpoints" / "30").mkdir()
    assert c.restore(tmp_path, machinery()[1])[1] == 18


def mutations():
    model, optimizer = EXPERIMENT.model, EXPERIMENT.optimizer
    models = [
        dataclasses.replace(model, width=16),
        dataclasses.replace(model, vocab_size=32),
        dataclasses.replace(model, batch_norm=False),
        toys.Deeper(),
        toys.Deeper(width=4),
    ]
    rate = optimizer.learning_rate
    optimizers = [
        dataclasses.replace(optimizer, ema_decay=None),
        dataclasses.replace(optimizer, frozen=("^embed/",)),
        dataclasses.replace(optimizer, clip_norm=None, weight_decay=0.0),
        Sgd(learning_rate=rate, ema_decay=0.9),
        Sgd(learning_rate=rate, ema_decay=0.9, momentum=0.9),
    ]
    yield from ((m, optimizer, None) for m in models)
    yield from ((model, o, None) for o in optimizers)
    for dtype in (jnp.bfloat16, jnp.int32):
        yield (model, optimizer, dtype)


@pytest.mark.parametrize("index", range(12))
def test_a_checkpoint_of_another_configuration_is_refused_with_every_difference(index, every_step):
    model, optimizer, dtype = list(mutations())[index]
    batch = next(EXPERIMENT.train_data.batches())[1]
    like = jax.eval_shape(
        lambda: init_state(
            model, optimizer.build(), batch, KEY, ema=optimizer.ema_decay is not None
        )
    )
    if dtype is not None:
        like = like.replace(
            params=jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), like.params)
        )

    def described(tree):
        return {n: (tuple(x.shape), x.dtype.name) for n, x in named_leaves(tree).items()}

    ours, theirs = described(like), described(machinery()[1])
    different = {n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n)}
    with pytest.raises(c.Mismatch) as error:
        c.restore(every_step[0], like)
    lines = str(error.value).splitlines()
    assert f"{len(different)} paths differ" in lines[0]
    listed = {line.split(":")[0].strip() for line in lines[1:] if ": checkpoint" in line}
    assert different and listed <= different and len(lines) <= 40
    assert listed == different or (
        len(lines) == 40 and lines[-1] == f"  ... and {len(different) - 38} more"
    )


def test_a_long_list_of_differences_is_cut_at_forty_lines(tmp_path):
    state = machinery()[0]()
    wide = state.replace(params={f"layer_{i}": jnp.zeros(3) for i in range(60)})
    c.save(tmp_path, 0, wide, 0)
    with pytest.raises(c.Mismatch) as error:
        c.restore(tmp_path, state)
    lines = str(error.value).splitlines()
    assert len(lines) == 40 and lines[-1].endswith("more")


def test_the_saved_state_is_the_one_before_the_next_step(tmp_path):
    """Saving goes on in the background while the step reuses the state's buffers."""
    make, like, _ = machinery()
    tx = EXPERIMENT.optimizer.build()
    pure = train_step(EXPERIMENT.model, EXPERIMENT.task, tx, ema_decay=0.9)
    step = jax.jit(pure, donate_argnums=0)
    state = jax.tree.map(jnp.copy, make())
    expected = state_hash(state)
    batch = next(EXPERIMENT.train_data.batches())[1]
    with c.Checkpoints(tmp_path) as files:
        files.save(0, state, 0)
        for _ in range(3):
            state, _ = step(state, batch, KEY)
    assert state_hash(c.restore(tmp_path, like)[0]) == expected


def test_the_latest_and_the_best_are_kept(tmp_path):
    state = machinery()[0]()
    best = {"best": {"step": 2, "value": 1.0}}
    with c.Checkpoints(tmp_path, keep=2) as files:
        for step in range(1, 7):
            files.save(step, state.replace(step=jnp.int32(step)), step, best if step >= 2 else {})
    assert c.steps(tmp_path / "checkpoints") == [2, 5, 6]
    assert c.best_step(tmp_path) == 2
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["2", "5", "6"]


def test_params_are_loaded_with_their_average_and_their_collections(every_step, tmp_path):
    one_step(tmp_path, every_step[0], 19)
    state, _ = c.restore(tmp_path, machinery()[1])
    assert state_hash(c.load_variables(tmp_path)) == state_hash(state.eval_variables)
    assert state_hash(c.load_params(tmp_path, step=19)) == state_hash(state.ema)
    with pytest.raises(c.CheckpointError, match=r"no step 3; it has \[19\]"):
        c.load_params(tmp_path, step=3)


def test_a_workdir_may_be_named_relative_to_where_one_is(every_step, monkeypatch):
    folder = every_step[0]
    monkeypatch.chdir(folder.parent)
    relative = Path(folder.name)
    assert c.load_params(relative) is not None
    state, position = c.restore(relative, machinery()[1])
    assert int(state.step) == position == 19
    assert c.best_step(relative) is None


def test_the_same_step_can_be_saved_again_with_more_progress(tmp_path):
    state = machinery()[0]()
    with c.Checkpoints(tmp_path) as files:
        files.save(4, state, 4)
        files.save(4, state, 4, {"best": {"step": 4, "value": 2.0}})
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["4"]
    assert c.best_step(tmp_path) == 4


def test_what_a_killed_save_or_delete_left_is_swept(every_step, tmp_path):
    for step in (17, 18, 19):
        one_step(tmp_path, every_step[0], step)
    folder = tmp_path / "checkpoints"
    os.replace(folder / "17", folder / "deleting-17")
    os.replace(folder / "19", folder / "replaced-19")
    (folder / "20.orbax-checkpoint-tmp-123").mkdir()
    with c.Checkpoints(tmp_path):
        assert sorted(p.name for p in folder.iterdir()) == ["18", "19"]


def test_arrays_without_elements_and_in_bfloat16_survive(tmp_path):
    state = machinery()[0]()
    odd = state.replace(params={"none": jnp.zeros((0, 3)), "half": jnp.full(3, 1.5, jnp.bfloat16)})
    c.save(tmp_path, 1, odd, 1)
    assert state_hash(c.restore(tmp_path, odd)[0]) == state_hash(odd)


def test_a_second_run_in_a_workdir_is_told_of_the_first(tmp_path):
    with c.Checkpoints(tmp_path):
        start = time.monotonic()
        with pytest.raises(c.Locked, match=rf"pid {os.getpid()} on .+, started \d{{4}}-"):
            c.Checkpoints(tmp_path)
        assert time.monotonic() - start < 2
    c.Checkpoints(tmp_path).close()


def test_the_hash_sees_every_bit_of_name_shape_and_dtype():
    tree = {"a": np.arange(4, dtype=np.float32), "b": np.zeros((2, 2), np.int32)}
    seen = {state_hash(tree)}
    negative_zero = {**tree, "b": tree["b"].astype(np.float32)}
    negative_zero["b"][0, 0] = -0.0
    for other in (
        {**tree, "a": np.nextafter(tree["a"], np.float32(9))},
        {**tree, "b": tree["b"].reshape(4)},
        {**tree, "b": tree["b"].astype(np.float32)},
        negative_zero,
        {"a": tree["a"], "c": tree["b"]},
    ):
        seen.add(state_hash(other))
    assert len(seen) == 6


def test_meta_is_not_trusted_without_its_hash(every_step, tmp_path):
    for step in (18, 19):
        one_step(tmp_path, every_step[0], step)
    file = Path(tmp_path) / "checkpoints/19/meta/metadata"
    meta = json.loads(file.read_text())
    meta["body"]["position"] += 1
    file.write_text(json.dumps(meta))
    assert c.restore(tmp_path, machinery()[1])[1] == 18


def test_the_schedule_goes_on_where_it_was(every_step, tmp_path):
    """Learning rate after a resume at k is the rate of step k."""
    state, _ = c.restore(one_step(tmp_path, every_step[0], 7), machinery()[1])
    counts = [x for n, x in named_leaves(state.opt_state).items() if n.endswith("count")]
    assert counts and all(int(count) == 7 for count in counts)
    schedule = WarmupCosine(peak=0.05, warmup_steps=5, num_steps=20)
    assert EXPERIMENT.optimizer.learning_rate == schedule
    assert isinstance(EXPERIMENT.optimizer, AdamW)
    np.testing.assert_allclose(schedule(counts[0]), schedule(7))
