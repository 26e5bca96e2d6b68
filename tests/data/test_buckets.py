"""Batches of texts of like length: still every example once an epoch, still a function of the position."""

import dataclasses

import numpy as np
import pytest

from tests.data.made import Draw, Refuse
from tests.data.test_pipeline import assert_same, evaluate, joined, take, train
from vlm_jax.data.buckets import Buckets, measured
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import InMemory
from vlm_jax.types import EOS, PAD


@dataclasses.dataclass(frozen=True)
class Padded:
    """`length` tokens, the last of them EOS, then PAD up to 12."""

    def __call__(self, example, rng=None):
        row = np.full(12, PAD, np.int32)
        row[: int(example["length"])] = 5
        row[int(example["length"]) - 1] = EOS
        return {**example, "target": row}


BUCKETS = Buckets(lengths=(4, 8, 12), measure=Padded(), window=4)


def texts(count):
    lengths = np.random.default_rng(0).integers(2, 13, count)
    return InMemory([{"id": np.int64(100 + i), "length": int(n)} for i, n in enumerate(lengths)])


def bucketed(source, *before, **options) -> Pipeline:
    options = dict(transforms=(*before, Padded()), batch_size=8, buckets=BUCKETS) | options
    return train(source, **options)


def padding(batches):
    return np.mean([(batch["target"] == PAD).mean() for batch in batches])


def test_every_epoch_has_every_example_once_wherever_its_batches_begin():
    # 61 examples in batches of 8: an epoch begins in the middle of a batch, at another place each time.
    stream = np.concatenate([b["id"] for b in take(bucketed(texts(61)).batches(), 40)])
    for epoch in range(5):
        assert sorted(stream[61 * epoch : 61 * epoch + 61]) == list(range(100, 161))
    assert stream[:61].tolist() != stream[61:122].tolist()


def test_a_batch_is_cut_to_the_least_length_that_holds_its_longest_text():
    batches = take(bucketed(texts(160)).batches(), 40)
    for batch in batches:
        longest = int(batch["length"].max())
        assert batch["target"].shape == (8, min(n for n in BUCKETS.lengths if n >= longest))
        assert ((batch["target"] != PAD).sum(1) == batch["length"]).all()
        assert ((batch["target"] == EOS).sum(1) == 1).all()
    assert {batch["target"].shape[1] for batch in batches} == set(BUCKETS.lengths)
    plain = take(bucketed(texts(160), buckets=None).batches(), 40)
    # Lengths from 2 to 12 alike: a fifth of a batch is padding where only texts of one bucket meet, else two fifths.
    wide = bucketed(texts(160), buckets=dataclasses.replace(BUCKETS, window=20))
    assert padding(take(wide.batches(), 40)) < padding(batches) < padding(plain)
    assert padding(take(wide.batches(), 40)) < 0.6 * padding(plain)
    assert {b["target"].shape for b in plain} == {(8, 12)}


def test_the_lengths_of_batches_come_in_no_order():
    longest = [batch["length"].max() for batch in take(bucketed(texts(160)).batches(), 20)]
    assert longest != sorted(longest) and longest != sorted(longest)[::-1]


def test_hosts_workers_and_the_place_to_go_on_change_nothing():
    pipeline = bucketed(texts(61), Draw())
    whole = take(pipeline.batches(), 20)
    for hosts in (2, 4):
        shards = [pipeline.batches(shard=(host, hosts)) for host in range(hosts)]
        assert_same([joined([next(shard)[1] for shard in shards]) for _ in range(20)], whole)
    workers = dataclasses.replace(pipeline, num_workers=2)
    assert_same(take(workers.batches(), 20), whole)
    for position in (1, 7, 8, 15):
        assert_same(take(pipeline.batches(position), 20 - position), whole[position:])
    other = take(dataclasses.replace(pipeline, seed=1).batches(), 20)
    assert [b["id"].tolist() for b in other] != [b["id"].tolist() for b in whole]


def test_an_examples_draw_is_the_one_it_has_without_buckets():
    def draws(pipeline):
        batches = take(pipeline.batches(), 8)
        return {int(i): int(d) for b in batches for i, d in zip(b["id"], b["draw"])}

    assert draws(bucketed(texts(64), Draw())) == draws(bucketed(texts(64), Draw(), buckets=None))


def test_a_bad_picture_is_replaced_by_one_whose_text_fits():
    source = texts(200)
    short = next(i for i in range(199) if source[i]["length"] < 4 and source[i + 1]["length"] > 8)
    pipeline = bucketed(source, Refuse((100 + short,)))
    for batch in take(pipeline.batches(), 50):
        assert 100 + short not in batch["id"]
        assert ((batch["target"] == EOS).sum(1) == 1).all()


def test_lengths_are_counted_without_padding():
    found = measured(texts(5), BUCKETS)
    assert found.lengths.tolist() == [e["length"] for e in texts(5).examples]


def test_what_cannot_be_bucketed_is_refused():
    with pytest.raises(ValueError, match=r"lengths=\(8, 4\).*rising"):
        Buckets(lengths=(8, 4), measure=Padded())
    with pytest.raises(ValueError, match="at least 1 batch"):
        Buckets(lengths=(8,), measure=Padded(), window=0)
    with pytest.raises(ValueError, match="in order; leave buckets out"):
        evaluate(texts(3), buckets=BUCKETS)
    short = Buckets(lengths=(4,), measure=Padded())
    with pytest.raises(ValueError, match=r"has \d+ tokens; let the last length"):
        take(bucketed(texts(61), buckets=short).batches(), 8)


# ---- several texts, and batches by tokens


@dataclasses.dataclass(frozen=True)
class Pair:
    """A source of `length` tokens and a target of `other`, padded to 12 and 6, and a label for each source token."""

    def __call__(self, example, rng=None):
        text, target = np.full(12, PAD, np.int32), np.full(6, PAD, np.int32)
        text[: int(example["length"])] = 5
        target[: int(example["other"])] = 7
        labels = np.where(text != PAD, 0, -1)
        letters = np.where(text[:, None] != PAD, [3, 4], 0)
        return {**example, "text": text, "target": target, "label": labels, "letters": letters}


SHAPES = ((4, 2), (8, 6), (12, 6))
PACKED = Buckets(lengths=SHAPES, measure=Pair(), keys=("text", "target"), tokens=48)


def pairs(count):
    rng = np.random.default_rng(1)
    lengths, others = rng.integers(1, 13, count), rng.integers(1, 7, count)
    rows = [(100 + i, lengths[i], others[i]) for i in range(count)]
    return InMemory([{"id": np.int64(i), "length": int(n), "other": int(m)} for i, n, m in rows])


def packed(source, *before, **options) -> Pipeline:
    options = dict(transforms=(*before, Pair()), batch_size=4, buckets=PACKED) | options
    return train(source, **options)


def test_batches_by_tokens_have_every_example_once_an_epoch():
    for count in (1, 3, 61, 160):
        pipeline = packed(pairs(count))
        batches = take(pipeline.batches(), 3 * pipeline.num_batches)
        orders = []
        for start in range(0, len(batches), pipeline.num_batches):
            epoch = batches[start : start + pipeline.num_batches]
            assert sum(not batch["valid"].all() for batch in epoch) <= 1
            assert all((batch["id"][~batch["valid"]] == -1).all() for batch in epoch)
            orders.append(np.concatenate([b["id"][b["valid"]] for b in epoch]).tolist())
            assert sorted(orders[-1]) == list(range(100, 100 + count))
        assert count < 61 or orders[0] != orders[1] != orders[2] != orders[0]


def test_a_batch_by_tokens_has_one_of_few_shapes_and_holds_its_texts_whole():
    batches = take(packed(pairs(400)).batches(), 150)
    # 48 tokens: 12 rows of 4, 6 rows of 8 (4, as rows come in fours), 4 rows of 12.
    shapes = {(b["text"].shape, b["target"].shape) for b in batches}
    assert shapes == {((12, 4), (12, 2)), ((4, 8), (4, 6)), ((4, 12), (4, 6))}
    for batch in batches:
        for key, length in (("text", "length"), ("target", "other")):
            np.testing.assert_array_equal((batch[key] != PAD).sum(1), batch[length])
    sizes = [batch["text"].shape[1] for batch in batches]
    assert sizes != sorted(sizes) and sizes != sorted(sizes)[::-1]


def test_batches_by_tokens_do_not_depend_on_hosts_workers_or_the_place_to_go_on():
    pipeline = packed(pairs(61), Draw())
    whole = take(pipeline.batches(), 40)
    for hosts in (2, 4):
        shards = [pipeline.batches(shard=(host, hosts)) for host in range(hosts)]
        assert_same([joined([next(shard)[1] for shard in shards]) for _ in range(40)], whole)
    for workers in (1, 3):
        again = dataclasses.replace(pipeline, num_workers=workers)
        assert_same(take(again.batches(), 40), whole)
    for position in (1, pipeline.num_batches, pipeline.num_batches + 3):
        assert_same(take(pipeline.batches(position), 40 - position), whole[position:])
    other = take(dataclasses.replace(pipeline, seed=1).batches(), 40)
    assert [b["id"].tolist() for b in other] != [b["id"].tolist() for b in whole]


def test_labels_and_letters_of_words_are_cut_with_them():
    buckets = Buckets(lengths=(4, 8, 12), measure=Pair(), keys=("text", "label", "letters"))
    for batch in take(packed(pairs(160), batch_size=8, buckets=buckets).batches(), 30):
        length = batch["text"].shape[1]
        assert batch["label"].shape == (8, length) and batch["letters"].shape == (8, length, 2)
        assert ((batch["label"] == 0).sum(1) == batch["length"]).all()
        assert batch["target"].shape == (8, 6)


def test_a_bad_picture_in_a_batch_by_tokens_is_replaced_by_one_whose_texts_fit():
    source = pairs(200)
    for batch in take(packed(source, Refuse((103, 150))).batches(), 80):
        assert not np.isin((103, 150), batch["id"]).any()
        np.testing.assert_array_equal((batch["text"] != PAD).sum(1), batch["length"])


def test_tokens_that_hold_no_text_are_refused():
    with pytest.raises(ValueError, match="tokens=11.*at least the 12 tokens"):
        dataclasses.replace(PACKED, tokens=11)
    with pytest.raises(ValueError, match="one number or one for each of"):
        dataclasses.replace(PACKED, lengths=((4, 6), (8, 4)))
    with pytest.raises(ValueError, match="one number or one for each of"):
        dataclasses.replace(PACKED, lengths=((4,), (8,)))
    short = dataclasses.replace(PACKED, lengths=((4, 2), (12, 4)))
    with pytest.raises(ValueError, match=r"id 1\d\d: a text has [56] tokens; .*pads 'target' to"):
        next(packed(pairs(61), buckets=short).batches())
