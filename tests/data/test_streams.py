import numpy as np
import pytest

from tests.data.made import HOSTILE
from vlm_jax.data.source import Rows
from vlm_jax.data.streams import Streams
from vlm_jax.tasks.generation import shift
from vlm_jax.text.tokenizers import BpeTokenizer, WordTokenizer
from vlm_jax.types import BOS, EOS, PAD, UNK

LINES = ("a b c", "d e", "f", "", "g h i j")
SOURCE = Rows(names=("text",), rows=tuple((line,) for line in LINES))
WORDS = WordTokenizer(corpus=SOURCE, vocab_size=16, texts="text", spaces=True)
A, B, C, D, E, F, G, H, I, J = (WORDS.encode(word)[0] for word in "abcdefghij")
TEXT = [A, B, C, EOS, D, E, EOS, F, EOS, EOS, G, H, I, J, EOS]


def streams(*, train=False, **fields):
    fields = {"source": SOURCE, "tokenizer": WORDS, "batch_size": 2, "length": 3, **fields}
    return Streams(train=train, **fields)


def epoch(pipeline):
    return [b for (_, b), _ in zip(pipeline.batches(), range(pipeline.num_batches), strict=False)]


def predicted(batches):
    """The labels that count, row after row."""
    labels, masks = zip(*(map(np.asarray, shift(batch)[1:]) for batch in batches))
    rows = range(len(labels[0]))
    return [[t for x, m in zip(labels, masks) for t in x[row][m[row]].tolist()] for row in rows]


def test_windows_by_hand():
    first, second, third = epoch(streams())
    np.testing.assert_array_equal(first["target"], [[BOS, A, B, C], [BOS, EOS, EOS, G]])
    np.testing.assert_array_equal(second["target"], [[C, EOS, D, E], [G, H, I, J]])
    np.testing.assert_array_equal(third["target"], [[E, EOS, F, PAD], [J, EOS, PAD, PAD]])
    assert [b["id"].tolist() for b in (first, second, third)] == [[0, 1], [2, 3], [4, 5]]
    # "a b c" and its line feed are 6 bytes, "d e" 4, "f" 2, "" 1, "g h i j" 8.
    assert [b["bytes"].tolist() for b in (first, second, third)] == [[0, 3], [6, 0], [4, 8]]


@pytest.mark.parametrize("context", [0, 1, 4, 40])
@pytest.mark.parametrize("batch_size, length", [(1, 1), (1, 4), (2, 3), (4, 2), (7, 5), (20, 3)])
def test_every_token_is_predicted_once_and_every_byte_counted(batch_size, length, context):
    batches = epoch(streams(batch_size=batch_size, length=length, context=context))
    rows = predicted(batches)
    assert [token for row in rows for token in row] == TEXT
    assert sum(int(b["bytes"].sum()) for b in batches) == sum(len(line) + 1 for line in LINES)
    assert {b["target"].shape for b in batches} == {(batch_size, length + context + 1)}
    assert all((b["id"] == -1).tolist() == (~b["valid"]).tolist() for b in batches)


@pytest.mark.parametrize("context, rows", [(0, 1), (2, 1), (5, 1), (2, 2), (5, 3)])
def test_a_token_is_predicted_after_those_before_it_at_least_as_many_as_the_context(context, rows):
    stride, number = 2, 0
    batches = epoch(streams(batch_size=rows, length=stride, context=context))
    for row in range(rows):
        for batch in batches:
            inputs, labels, mask = (np.asarray(x)[row] for x in shift(batch))
            places = np.flatnonzero(mask)
            np.testing.assert_array_equal(np.diff(places), 1)
            for step, place in enumerate(places):
                assert labels[place] == TEXT[number]
                seen = [t for t in inputs[: place + 1].tolist() if t != PAD]
                before = [BOS, *TEXT][max(number - step - context, 0) : number + 1]
                assert seen == before and len(before) >= min(context, number) + 1
                number += 1
    assert number == len(TEXT)


def test_a_row_goes_on_where_its_last_window_ended():
    batches = epoch(streams(batch_size=3, length=2))
    for one, other in zip(batches, batches[1:]):
        np.testing.assert_array_equal(other["target"][:, 0], one["target"][:, -1])


def test_training_is_endless_and_each_epoch_begins_anew_whatever_the_seed():
    pipeline = streams(train=True, seed=3)
    run = [b for (_, b), _ in zip(pipeline.batches(), range(2 * pipeline.num_batches + 1))]
    for number, batch in enumerate(run):
        other = epoch(streams(train=True))[number % pipeline.num_batches]
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])
        assert (batch["target"][:, 0] == BOS).all() == (number % pipeline.num_batches == 0)


def test_the_whole_state_is_the_position():
    for train in (True, False):
        run = [item for item, _ in zip(streams(train=train).batches(), range(3))]
        for (position, _), (_, following) in zip(run, run[1:]):
            _, batch = next(streams(train=train).batches(position))
            for key, value in following.items():
                np.testing.assert_array_equal(batch[key], value)
    assert not list(streams().batches(3))


def test_hosts_share_the_rows_of_a_batch():
    whole = epoch(streams(batch_size=4))
    for step in range(len(whole)):
        parts = [next(streams(batch_size=4).batches(step, shard=(index, 2)))[1] for index in (0, 1)]
        for key, value in whole[step].items():
            np.testing.assert_array_equal(np.concatenate([p[key] for p in parts]), value)
    for shard in ((0, 3), (2, 2)):
        with pytest.raises(ValueError, match="index < count"):
            streams(batch_size=4).batches(shard=shard)
    with pytest.raises(ValueError, match="position -1, expected 0 or more"):
        streams(batch_size=4).batches(-1)
    with pytest.raises(ValueError, match="at least 1, 1 and 0"):
        streams(length=0)


def test_hostile_text_is_only_text():
    source = Rows(names=("text",), rows=tuple((text,) for text in (*HOSTILE, "⟨eos⟩ ⟨pad⟩")))
    bytewise = BpeTokenizer(corpus=source, vocab_size=260, texts="text")
    words = WordTokenizer(corpus=source, vocab_size=64, texts="text", spaces=True)
    for tokenizer in (bytewise, words):
        rows = predicted(epoch(streams(source=source, tokenizer=tokenizer, length=500)))
        tokens = [token for row in rows for token in row]
        assert tokens.count(EOS) == len(source), "a text ends once, whatever is written in it"
        assert not {PAD, BOS, UNK} & set(tokens)
    with pytest.raises(ValueError, match="no text"):
        next(streams(source=Rows(names=("text",), rows=())).batches())
