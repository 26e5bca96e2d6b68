"""What must hold of batches and of corpus scores. Each check takes nothing: there is nothing to compile."""

import numpy as np

from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import InMemory
from vlm_jax.metrics import base
from vlm_jax.metrics.bleu import Bleu

SIZE = 11


def source(size=SIZE):
    return InMemory([{"id": np.int64(i), "x": np.float32(i)} for i in range(size)])


def jitter(example, rng):
    return {**example, "noise": rng.random(2)}


def pipeline(train, batch_size=4, size=SIZE, **fields):
    return Pipeline(
        source=source(size), transforms=(jitter,), batch_size=batch_size, train=train, **fields
    )


def first(iterator, count):
    return [batch for (_, batch), _ in zip(iterator, range(count))]


def check_an_evaluation_sees_every_example_once():
    """C2b.39: in order; copies that fill the last batch are not valid."""
    for size in (1, 7, 11, 12):
        batches = [batch for _, batch in pipeline(train=False, size=size).batches()]
        ids = np.concatenate([batch["id"][batch["valid"]] for batch in batches])
        assert ids.tolist() == list(range(size)), (size, ids)
        assert all(batch["x"].shape == (4,) for batch in batches)


def check_every_epoch_is_whole_and_in_an_order_of_its_own():
    """C2b.36: each epoch all ids once; the order differs between epochs and seeds, and is the same again."""
    ids = np.concatenate([b["id"] for b in first(pipeline(train=True).batches(), SIZE)])
    epochs = ids.reshape(4, SIZE)
    assert (np.sort(epochs) == np.arange(SIZE)).all()
    orders = {tuple(epoch) for epoch in epochs.tolist()}
    assert len(orders) == 4, "epochs share their order"
    assert tuple(range(SIZE)) not in orders, "not shuffled"
    other = np.concatenate([b["id"] for b in first(pipeline(train=True, seed=1).batches(), SIZE)])
    again = np.concatenate([b["id"] for b in first(pipeline(train=True).batches(), SIZE)])
    assert (other != ids).any() and (again == ids).all()


def check_resuming_goes_on_with_the_next_batch():
    """B1.3: from every position, the rest is what it would have been."""
    for train in (True, False):
        run = [item for item, _ in zip(pipeline(train).batches(), range(5))]
        for i, (position, _) in enumerate(run[:-1]):
            _, batch = next(pipeline(train).batches(position))
            for key, value in run[i + 1][1].items():
                np.testing.assert_array_equal(batch[key], value)


def check_random_draws_belong_to_the_example():
    """C2b.37: no two examples of an epoch share a draw, nor an example's two epochs."""
    batches = first(pipeline(train=True).batches(), SIZE)
    draws = np.concatenate([batch["noise"] for batch in batches])
    assert len(np.unique(draws)) == draws.size, "examples share their draws"
    one, other = pipeline(train=True), pipeline(train=True, batch_size=2)
    by_id = [
        {
            int(i): n
            for b in first(p.batches(), 2 if p is one else 4)
            for i, n in zip(b["id"], b["noise"].tolist())
        }
        for p in (one, other)
    ]
    assert by_id[0] == by_id[1], "a draw depends on the batch size"


def check_hosts_share_a_batch():
    """C2b.35: the rows of the hosts, put together, are the global batch."""
    whole = first(pipeline(train=True).batches(), 6)
    halves = [first(pipeline(train=True).batches(shard=(i, 2)), 6) for i in range(2)]
    for step, batch in enumerate(whole):
        joined = np.concatenate([half[step]["id"] for half in halves])
        np.testing.assert_array_equal(joined, batch["id"])


HYPOTHESES = ("a dog runs on the grass", "two men", "a red ball in the air", "a cat")
REFERENCES = (
    ("a dog is running on green grass", "the dog runs on the grass"),
    ("two men are playing chess in a park",),
    ("a red ball flies in the air", "a ball"),
    ("the cat sleeps",),
)


def check_a_corpus_score_does_not_depend_on_the_batches():
    """C2b.40: statistics add; a mean of batch scores is another number."""
    metric = Bleu()
    stats = [metric.stats(h, r) for h, r in zip(HYPOTHESES, REFERENCES)]
    whole = metric.result(base.total(stats))
    for cut in (1, 2, 3):
        parts = base.total([base.total(stats[:cut]), base.total(stats[cut:])])
        assert metric.result(parts) == whole
    assert metric.result(base.total(stats[::-1])) == whole
    # By hand: 15 of 16 words are in a reference; the closest references have 6 + 8 + 7 + 3 words.
    np.testing.assert_allclose(whole["bleu_1"], 100 * np.exp(1 - 24 / 16) * 15 / 16, rtol=1e-6)


CHECKS = (
    check_an_evaluation_sees_every_example_once,
    check_every_epoch_is_whole_and_in_an_order_of_its_own,
    check_resuming_goes_on_with_the_next_batch,
    check_random_draws_belong_to_the_example,
    check_hosts_share_a_batch,
    check_a_corpus_score_does_not_depend_on_the_batches,
)
