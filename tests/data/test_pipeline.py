import hashlib
import logging
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from tests.data.made import Draw, Refuse, numbers
from vlm_jax import config
from vlm_jax.data.pipeline import Pipeline, TooManyBadPictures
from vlm_jax.data.source import InMemory


def train(source, **options):
    options = {"batch_size": 24, "transforms": (Draw(),)} | options
    return Pipeline(source=source, train=True, **options)


def evaluate(source, **options):
    return Pipeline(source=source, train=False, **{"batch_size": 24} | options)


def take(batches, count):
    """The next `count` batches, without their positions."""
    return [next(batches)[1] for _ in range(count)]


def joined(shards):
    """The global batch that the hosts' shares make."""
    return {key: np.concatenate([shard[key] for shard in shards]) for key in shards[0]}


def order_hash(batches):
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(batch["id"].tobytes() + batch["draw"].tobytes() + batch["valid"].tobytes())
    return digest.hexdigest()


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others):
        assert batch.keys() == other.keys()
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])


# ---- every example once (invariants 35, 39)


@pytest.mark.parametrize("count", [0, 1, 7, 203, 204])
@pytest.mark.parametrize("hosts", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_one_epoch_has_every_id_once_over_all_hosts(count, hosts, workers):
    expected = list(range(100, 100 + count))
    pipeline = evaluate(numbers(count), num_workers=workers)
    seen = []
    for host in range(hosts):
        for _, batch in pipeline.batches(shard=(host, hosts)):
            assert batch["id"].shape == (24 // hosts,)
            seen += batch["id"][batch["valid"]].tolist()
    assert sorted(seen) == expected

    if count == 0:
        with pytest.raises(ValueError, match="no examples"):
            train(numbers(0)).batches()
        return
    # Training: the stream is cut into epochs by counting, and each of them is a permutation.
    pipeline = train(numbers(count), num_workers=workers)
    hosts_batches = [pipeline.batches(shard=(host, hosts)) for host in range(hosts)]
    steps = -(-2 * count // 24)
    stream = [joined([next(b)[1] for b in hosts_batches])["id"] for _ in range(steps)]
    stream = np.concatenate(stream).tolist()
    assert sorted(stream[:count]) == expected
    assert sorted(stream[count : 2 * count]) == expected


@pytest.mark.parametrize("count", [1, 7, 16, 17])
@pytest.mark.parametrize("hosts", [1, 2, 8])
def test_padded_copies_weigh_nothing_and_rows_keep_their_order(count, hosts):
    pipeline = evaluate(numbers(count), batch_size=8)
    shards = [[batch for _, batch in pipeline.batches(shard=(h, hosts))] for h in range(hosts)]
    batches = [joined(parts) for parts in zip(*shards)]
    assert len(batches) == pipeline.num_batches == -(-count // 8)
    assert sum(batch["valid"].sum() for batch in batches) == count
    ids = np.concatenate([batch["id"] for batch in batches])
    assert ids.tolist() == list(range(100, 100 + count)) + [-1] * (len(ids) - count)
    for batch in batches:
        assert np.isfinite(batch["x"]).all()


def test_a_source_smaller_than_a_batch_fills_it_with_whole_epochs():
    batch = take(train(numbers(7)).batches(), 1)[0]
    for epoch in range(3):
        assert sorted(batch["id"][7 * epoch : 7 * epoch + 7]) == list(range(100, 107))
    assert batch["valid"].all()


# ---- order (invariant 36)


def test_the_order_is_the_same_for_any_workers_hosts_and_prefetch():
    source = numbers(203)
    expected = order_hash(take(train(source).batches(), 20))
    for workers in (1, 2, 3):
        assert order_hash(take(train(source, num_workers=workers).batches(), 20)) == expected
    for hosts in (2, 4):
        shards = [train(source).batches(shard=(h, hosts)) for h in range(hosts)]
        batches = [joined([next(shard)[1] for shard in shards]) for _ in range(20)]
        assert order_hash(batches) == expected


def test_the_order_differs_between_epochs_and_seeds():
    source = numbers(48)
    batches = take(train(source).batches(), 6)
    epochs = [np.concatenate([b["id"] for b in batches[i : i + 2]]).tolist() for i in (0, 2, 4)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epochs[0] != sorted(epochs[0])
    other = take(train(source, seed=1).batches(), 2)
    assert np.concatenate([b["id"] for b in other]).tolist() not in epochs


def test_the_order_is_written_down():
    # Whoever changes the shuffle changes every experiment that is resumed or repeated: on purpose, or not at all.
    ids = take(train(numbers(10), batch_size=10).batches(), 2)
    assert [batch["id"].tolist() for batch in ids] == [
        [102, 107, 109, 105, 101, 100, 104, 106, 108, 103],
        [102, 107, 100, 105, 103, 106, 109, 108, 101, 104],
    ]
    philox = np.random.Philox(key=np.array([0, 7], np.uint64))  # seed 0, epoch 0, example 7
    draw = ids[0]["draw"][ids[0]["id"] == 107]
    assert draw == np.random.Generator(philox).integers(1 << 31)


def test_the_order_does_not_depend_on_the_python_hash_seed():
    code = (
        "from tests.data.test_pipeline import *;"
        "print(order_hash(take(train(numbers(20)).batches(), 5)))"
    )
    command = [sys.executable, "-c", code]
    runs = [
        subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        for seed in ("1", "2")
    ]
    expected = order_hash(take(train(numbers(20)).batches(), 5))
    assert [run.stdout.strip() for run in runs] == [expected] * 2, runs[0].stderr


def test_worker_processes_give_the_same_batches():
    options = dict(transforms=(Refuse((120,)), Draw()))
    expected = take(train(numbers(50), **options).batches(3), 6)
    batches = train(numbers(50), num_processes=2, **options).batches(3)
    try:
        assert_same(take(batches, 6), expected)
    finally:
        batches.close()
    assert batches.skipped == {"picture 120": "made bad"}


# ---- augmentation (invariant 37)


def test_every_example_has_a_draw_of_its_own_that_seed_epoch_and_example_decide():
    def draws(seed, epoch, hosts=1, batch_size=24):
        # 48 examples: two batches of 24, or one of 48, are one epoch
        pipeline = train(numbers(48), seed=seed, batch_size=batch_size)
        steps = 48 // batch_size
        shards = [pipeline.batches(epoch * steps, (h, hosts)) for h in range(hosts)]
        batches = [joined([next(s)[1] for s in shards]) for _ in range(steps)]
        return {int(i): int(d) for b in batches for i, d in zip(b["id"], b["draw"])}

    first = draws(0, 0)
    assert len(set(first.values())) == 48
    assert first == draws(0, 0, hosts=4) == draws(0, 0, batch_size=48)
    for other in (draws(0, 1), draws(1, 0)):
        assert not set(first.values()) & set(other.values())


def test_evaluation_draws_nothing_new_the_second_time():
    pipeline = evaluate(numbers(30), transforms=(Draw(),))
    first, second = ([batch for _, batch in pipeline.batches()] for _ in range(2))
    assert_same(first, second)


# ---- the position


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_at_any_position_gives_the_batches_that_follow(workers):
    pipeline = train(numbers(31), batch_size=8, num_workers=workers)
    batches = pipeline.batches()
    positions, whole = zip(*(next(batches) for _ in range(12)))
    assert positions == tuple(range(1, 13))
    for done in range(12):
        start = positions[done - 1] if done else 0
        assert_same(take(pipeline.batches(start), 12 - done), whole[done:])


def test_evaluation_goes_on_at_any_position_and_ends():
    pipeline = evaluate(numbers(31), batch_size=8)
    whole = [batch for _, batch in pipeline.batches()]
    for position in range(6):
        assert_same([batch for _, batch in pipeline.batches(position)], whole[position:])


# ---- what is in a batch


def test_a_batch_holds_numbers_only_in_32_bits():
    source = InMemory(
        [
            {
                "id": np.int64(i),
                "half": np.zeros(2, np.float16),
                "double": np.zeros((2, 3)),
                "byte": np.zeros(2, np.uint8),
                "flag": np.bool_(True),
                "long": np.int64(2**31 - 1),
                "plain": 3,
                "text": "dropped",
                "texts": ("a", "b"),
                "bytes": b"dropped",
                "strings": np.array(["dropped"]),
            }
            for i in range(4)
        ]
    )
    _, batch = next(evaluate(source, batch_size=4).batches())
    types = {key: value.dtype.name for key, value in batch.items()}
    assert types == {
        "id": "int32",
        "half": "float32",
        "double": "float32",
        "byte": "uint8",
        "flag": "bool",
        "long": "int32",
        "plain": "int32",
        "valid": "bool",
    }
    assert batch["double"].shape == (4, 2, 3) and batch["plain"].tolist() == [3] * 4


def test_an_integer_beyond_32_bits_is_refused():
    source = InMemory([{"id": 5, "count": np.array([1, 2**31])}])
    with pytest.raises(ValueError, match="id 5: 'count' holds 2147483648"):
        next(evaluate(source).batches())


@pytest.mark.parametrize("batch_size", [2, 4])  # 2: the odd one is not in the first batch
def test_an_example_of_another_shape_is_named(batch_size):
    sizes = [5, 5, 9, 5]
    source = InMemory([{"id": i, "target": np.zeros(n)} for i, n in enumerate(sizes)])
    with pytest.raises(ValueError) as error:
        list(evaluate(source, batch_size=batch_size).batches())
    for part in ("id 2 ", "(9,)", "(5,)", "expected", "pad texts"):
        assert part in str(error.value)


def test_a_batch_of_another_shape_is_refused():
    source = InMemory([{"id": i, "target": np.zeros(5 if i < 2 else 9)} for i in range(4)])
    with pytest.raises(ValueError, match=r"ids \[2, 3\].*9.*expected.*5"):
        list(evaluate(source, batch_size=2).batches())


def test_a_missing_key_is_named():
    source = InMemory([{"id": 0, "label": 1}, {"id": 1}])
    with pytest.raises(ValueError, match="id 1 has no 'label'"):
        next(evaluate(source).batches())
    with pytest.raises(KeyError, match="no 'id'"):
        next(evaluate(InMemory([{"label": 1}])).batches())


def test_hosts_must_divide_the_batch():
    with pytest.raises(ValueError, match="batch of 10 .* 4 hosts; try batch_size 8"):
        evaluate(numbers(3), batch_size=10).batches(shard=(0, 4))
    with pytest.raises(ValueError, match="index < count"):
        evaluate(numbers(3)).batches(shard=(2, 2))
    with pytest.raises(ValueError, match="batch_size"):
        evaluate(numbers(3), batch_size=0)
    with pytest.raises(ValueError, match="seed: given -1"):
        evaluate(numbers(3), seed=-1)


def test_an_error_in_a_transform_reaches_the_caller():
    def fail(example, rng):
        raise RuntimeError("from the transform")

    for workers in (0, 2):
        with pytest.raises(RuntimeError, match="from the transform"):
            next(evaluate(numbers(3), transforms=(fail,), num_workers=workers).batches())


# ---- bad pictures


def test_a_bad_picture_is_replaced_in_training_and_its_name_kept(caplog):
    source, bad = numbers(400), (117, 118)
    clean = take(train(source).batches(), 20)
    pipeline = train(source, transforms=(Refuse(bad), Draw()))
    batches = pipeline.batches()
    with caplog.at_level(logging.WARNING):
        found = take(batches, 40)
    assert batches.skipped == {"picture 117": "made bad", "picture 118": "made bad"}
    assert len([r for r in caplog.records if "picture 117" in r.message]) == 1  # in 40 batches
    for batch, before in zip(found, clean):
        rows = np.isin(before["id"], bad)
        assert batch["valid"].all() and len(batch["id"]) == 24
        assert (batch["id"][rows] == 119).all()  # the next good one
        np.testing.assert_array_equal(batch["id"][~rows], before["id"][~rows])
        np.testing.assert_array_equal(batch["draw"][~rows], before["draw"][~rows])
    shards = [pipeline.batches(shard=(h, 4)) for h in range(4)]
    assert_same([joined([next(s)[1] for s in shards]) for _ in range(40)], found)
    threads = take(train(source, transforms=pipeline.transforms, num_workers=3).batches(), 40)
    assert_same(threads, found)


def test_a_bad_picture_is_masked_in_evaluation_with_its_id():
    batches = evaluate(numbers(200), transforms=(Refuse((103,)),), batch_size=8).batches()
    found = [batch for _, batch in batches]
    ids = np.concatenate([batch["id"] for batch in found])
    valid = np.concatenate([batch["valid"] for batch in found])
    assert ids.tolist() == list(range(100, 300))
    assert np.flatnonzero(~valid).tolist() == [3]
    assert batches.skipped == {"picture 103": "made bad"}


def test_a_batch_of_bad_pictures_only_is_masked_whole():
    batches = evaluate(numbers(500), transforms=(Refuse((100, 101)),), batch_size=2).batches()
    _, batch = next(batches)
    assert batch["id"].tolist() == [100, 101] and not batch["valid"].any()
    assert next(batches)[1]["valid"].all()


@pytest.mark.parametrize("make", [train, evaluate])
def test_more_than_one_percent_of_bad_pictures_stops_the_run_with_their_names(make):
    for bad, stops in (((100, 101), False), ((100, 101, 102), True)):
        batches = make(numbers(200), transforms=(Refuse(bad),)).batches()
        if not stops:
            for _, _ in zip(range(9), batches):
                pass
            assert len(batches.skipped) == 2
            continue
        with pytest.raises(
            TooManyBadPictures, match="(?s)more than 1%.*picture 10.: made bad"
        ) as error:
            for _, _ in zip(range(9), batches):
                pass
        assert "3 of 200" in str(error.value)


@pytest.mark.parametrize("make", [train, evaluate])
def test_one_bad_picture_never_stops_a_small_set(make):
    batches = make(numbers(5), transforms=(Refuse((102,)),)).batches()
    _, batch = next(batches)
    assert list(batches.skipped) == ["picture 102"]
    assert (102 in batch["id"][batch["valid"]].tolist()) is False


@pytest.mark.parametrize("make", [train, evaluate])
def test_a_set_without_one_good_picture_is_refused(make):
    for count in (1, 5):
        with pytest.raises(TooManyBadPictures, match="picture 10.: made bad"):
            next(make(numbers(count), transforms=(Refuse(tuple(range(100, 105))),)).batches())


# ---- the description


def test_a_pipeline_is_a_configuration_and_travels():
    pipeline = train(numbers(3))
    assert pickle.loads(pickle.dumps(pipeline)).batch_size == 24
    assert hash(pipeline) == hash(train(pipeline.source)) and pipeline == train(pipeline.source)
    changed = config.override(pipeline, {"batch_size": "8", "num_workers": "2"})
    assert (changed.batch_size, changed.num_workers) == (8, 2)
    assert changed.source is pipeline.source
