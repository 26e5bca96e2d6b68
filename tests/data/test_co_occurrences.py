"""Co-occurrences against a count by hand, in chunks of any size."""

import collections
import dataclasses

import numpy as np
import pytest

from tests.invariants import word_checks
from vlm_jax.data.co_occurrences import CoOccurrences, count_pairs
from vlm_jax.data.word_windows import encoded_text


def by_hand(text, window):
    counts, start = collections.Counter(), 0
    for length in text.lengths:
        words = text.ids[start : start + length].tolist()
        start += length
        for i, a in enumerate(words):
            for j, b in enumerate(words):
                if 0 < abs(i - j) <= window:
                    counts[a, b] += 1 / abs(i - j)
    return counts


@pytest.mark.parametrize("chunk", [1, 3, 7, 1000])
def test_pairs_count_one_over_their_distance_within_a_sentence(chunk):
    windows = word_checks.windows()
    text = encoded_text(windows.source, windows.tokenizer, "sentence")
    cells = count_pairs(text, 3, chunk)
    found = dict(zip(zip(cells.word.tolist(), cells.context.tolist()), cells.count.tolist()))
    assert len(found) == len(cells.count)
    assert found == pytest.approx(dict(by_hand(text, 3)), rel=1e-6)
    assert all(found[b, a] == found[a, b] for a, b in found)


def test_an_epoch_has_every_cell_once_in_an_order_of_its_own():
    windows = word_checks.windows()
    pairs = CoOccurrences(
        source=windows.source, tokenizer=windows.tokenizer, batch_size=6, window=2
    )
    stream = pairs.batches()
    seen = [next(stream)[1] for _ in range(2 * pairs.num_batches)]
    epochs = seen[: pairs.num_batches], seen[pairs.num_batches :]
    ids = [np.concatenate([b["id"][b["valid"]] for b in epoch]) for epoch in epochs]
    for found in ids:
        np.testing.assert_array_equal(np.sort(found), np.arange(len(found)))
    assert (ids[0] != ids[1]).any()
    last = seen[pairs.num_batches - 1]
    assert (last["count"][~last["valid"]] == 1).all() and (last["count"] > 0).all()
    for start in (1, pairs.num_batches):
        _, batch = next(pairs.batches(start))
        halves = [next(pairs.batches(start, shard=(index, 2)))[1] for index in (0, 1)]
        for key, value in seen[start].items():
            np.testing.assert_array_equal(batch[key], value)
            np.testing.assert_array_equal(np.concatenate([h[key] for h in halves]), value)
    ordered = list(dataclasses.replace(pairs, train=False).batches())
    assert len(ordered) == pairs.num_batches and ordered[0][1]["id"][0] == 0
