"""Batches of texts of like length: still every example once an epoch, still a function of the position."""

import dataclasses

import numpy as np
import pytest

from tests.data.made import Draw, Refuse
from tests.data.test_pipeline import assert_same, evaluate, joined, take, train
from vlm_jax.data.buckets import Buckets, lengths_of
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
    assert lengths_of(texts(5), BUCKETS).tolist() == [e["length"] for e in texts(5).examples]


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
