"""Words with the words around them: contexts, subsampling, negatives, and a state of one integer."""

import dataclasses

import numpy as np
import pytest

from tests.invariants import word_checks
from vlm_jax import config
from vlm_jax.data.source import Rows
from vlm_jax.data.word_windows import Noise, encoded_text
from vlm_jax.text.tokenizers import WordTokenizer


def test_batches_are_the_same_from_any_position_and_on_any_number_of_hosts():
    windows = word_checks.windows()
    stream = windows.batches()
    seen = [next(stream) for _ in range(2 * windows.num_batches + 1)]
    assert [position for position, _ in seen] == list(range(1, len(seen) + 1))
    for start in (0, 1, windows.num_batches, len(seen) - 1):
        _, batch = next(windows.batches(start))
        halves = [next(windows.batches(start, shard=(index, 2)))[1] for index in (0, 1)]
        for key, value in seen[start][1].items():
            np.testing.assert_array_equal(batch[key], value)
            np.testing.assert_array_equal(np.concatenate([h[key] for h in halves]), value)
    other = next(dataclasses.replace(windows, seed=1).batches())[1]
    assert (other["text"] != seen[0][1]["text"]).any()
    assert (seen[windows.num_batches][1]["text"] != seen[0][1]["text"]).any()
    assert len(list(dataclasses.replace(windows, train=False).batches())) == windows.num_batches


def test_an_epoch_without_subsampling_has_every_word_once_and_unknown_ones_never():
    windows = dataclasses.replace(word_checks.windows(), subsample=1e9)
    stream = windows.batches()
    middle = [next(stream)[1] for _ in range(windows.num_batches)]
    w = windows.window
    centers = np.concatenate([b["text"][:, w:-w].ravel() for b in middle])
    text = encoded_text(windows.source, windows.tokenizer, "sentence")
    np.testing.assert_array_equal(np.bincount(centers, minlength=16)[4:], text.counts[4:])
    assert text.counts[:4].sum() == 0 and len(text.ids) == windows.num_words


@pytest.mark.parametrize("check", word_checks.DATA_CHECKS, ids=lambda check: check.__name__[6:])
def test_the_data(check):
    check()


def test_noise_of_one_or_equal_weights():
    rng = np.random.default_rng(0)
    assert (Noise(np.array([0.0, 0.0, 3.0])).draw(rng, (50,)) == 2).all()
    assert np.bincount(Noise(np.ones(4)).draw(rng, (4000,))).min() > 800


def test_what_cannot_be_is_refused_and_a_description_survives_json():
    windows = word_checks.windows()
    assert config.from_json(config.to_json(windows)) == windows
    for field in ("batch_size", "centers", "window", "negatives"):
        with pytest.raises(ValueError, match=f"{field} is 0, expected at least 1"):
            dataclasses.replace(windows, **{field: 0})
    with pytest.raises(ValueError, match="subsample is 0"):
        dataclasses.replace(windows, subsample=0)
    with pytest.raises(ValueError, match=r"given \(0, 3\)"):
        next(windows.batches(shard=(0, 3)))
    nothing = Rows(names=("sentence",), rows=(("\0 \U0001f600",), ("",)))
    known = WordTokenizer(corpus=windows.source, vocab_size=16, texts="sentence")
    with pytest.raises(ValueError, match="no known word under 'sentence'"):
        encoded_text(nothing, known, "sentence")
