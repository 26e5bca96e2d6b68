import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.decoding.toys import (
    Markov,
    Recurrent,
    compiled,
    fixed_logits,
    normalised,
    reference_search,
)
from vlm_jax.decoding.beam_search import BeamSearch
from vlm_jax.decoding.sampling import Greedy
from vlm_jax.types import BOS, EOS, PAD

B = 6
RECURRENT = Recurrent(seed=3, batch_size=B)
# Few searches for many tests: each is compiled once.
NARROW = BeamSearch(max_length=12, width=2, num_results=2)
WIDE = BeamSearch(max_length=12, width=5, length_penalty=0.7, num_results=2)
MANY = BeamSearch(max_length=12, width=4, length_penalty=0.6, num_results=4)


@functools.partial(compiled, static_argnums=0)
def search(strategy, step_cache_memory=None):
    cache, memory = step_cache_memory or (RECURRENT.cache(), RECURRENT.memory())
    batch_size = jax.tree.leaves(cache)[0].shape[0]
    step = Markov.step if memory is not None else RECURRENT.step
    return strategy(step, cache, memory, batch_size=batch_size, key=None)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_beam_as_wide_as_the_space_finds_the_best_sentence(alpha):
    """V = 4, T = 4: all sentences, in order of their score."""
    model = Markov(seed=1, batch_size=5)
    strategy = BeamSearch(max_length=4, width=4**4, length_penalty=alpha, banned=(), num_results=10)
    found = jax.device_get(search(strategy, (model.cache(), model.memory())))
    lengths = set()
    for row in range(5):
        scored = sorted(
            ((normalised(model.log_prob(row, s), s, alpha), s) for s in model.sentences(4)),
            reverse=True,
        )
        for rank in range(10):
            score, sentence = scored[rank]
            assert found.tokens[row, rank].tolist() == sentence + [PAD] * (4 - len(sentence))
            assert found.lengths[row, rank] == len(sentence)
            np.testing.assert_allclose(found.scores[row, rank], score, rtol=1e-5, atol=1e-5)
        lengths.add(len(scored[0][1]))
    assert len(lengths) > 1, "the toy should have best sentences of several lengths"


def test_fewer_sentences_than_results_leave_empty_results():
    model = Markov(seed=1)
    strategy = BeamSearch(max_length=2, width=4, num_results=4, min_length=0)  # words 3, EOS
    found = jax.device_get(search(strategy, (model.cache(), model.memory())))
    # [EOS], [3, EOS] end; [3, 3] is cut and comes after them whatever its score; then nothing.
    tokens = found.tokens[0].tolist()
    assert sorted(tokens[:2]) == [[EOS, PAD], [3, EOS]] and tokens[2] == [3, 3]
    assert tokens[3] == [PAD, PAD] and found.lengths[0, 3] == 0
    assert found.scores[0, 3] == -np.inf and np.isfinite(found.scores[0, :3]).all()


@pytest.mark.parametrize("alpha, fields", [(1.0, {}), (0.0, {"min_length": 5, "block_ngram": 2})])
def test_a_beam_of_one_is_greedy(alpha, fields):
    greedy = jax.device_get(search(Greedy(max_length=12, **fields)))
    beam = jax.device_get(
        search(BeamSearch(max_length=12, width=1, length_penalty=alpha, **fields))
    )
    np.testing.assert_array_equal(beam.tokens, greedy.tokens)
    np.testing.assert_allclose(beam.log_probs, greedy.log_probs, rtol=1e-5)


@pytest.mark.parametrize("strategy", [NARROW, WIDE], ids=["narrow", "wide"])
def test_the_search_equals_one_written_with_lists(strategy):
    found = jax.device_get(search(strategy))
    for row in range(B):
        expected = reference_search(RECURRENT, row, strategy)
        for rank in range(2):
            score, tokens = expected[rank]
            assert found.tokens[row, rank].tolist() == tokens + [PAD] * (12 - len(tokens))
            np.testing.assert_allclose(found.scores[row, rank], score, rtol=1e-5, atol=1e-5)


def test_scores_are_the_rescored_log_probs_over_the_length():
    found = jax.device_get(search(MANY))
    ended = 0
    for row in range(B):
        complete = (found.tokens[row] == EOS).any(-1)
        assert (np.diff(complete.astype(int)) <= 0).all(), "sentences that ended come first"
        assert (np.diff(found.scores[row][complete]) <= 0).all()
        for rank in range(4):
            tokens = found.tokens[row, rank].tolist()
            length = tokens.index(EOS) + 1 if EOS in tokens else 12
            ended += EOS in tokens
            assert found.lengths[row, rank] == length
            log_prob = RECURRENT.log_prob(row, tokens, length)
            np.testing.assert_allclose(found.log_probs[row, rank], log_prob, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(
                found.scores[row, rank],
                log_prob / length**MANY.length_penalty,
                rtol=1e-5,
                atol=1e-5,
            )
        assert len({tuple(t) for t in found.tokens[row].tolist()}) == 4, "a sentence comes twice"
    assert ended > B


def test_equal_log_probs_a_token_have_equal_normalised_scores():
    step, cache = fixed_logits(np.zeros(5), 1)
    strategy = BeamSearch(max_length=3, width=40, length_penalty=1.0, num_results=13, banned=())
    found = compiled(lambda: strategy(step, cache, None, batch_size=1))()
    assert set(found.lengths[0].tolist()) == {1, 2, 3}
    np.testing.assert_allclose(found.scores[0], -np.log(5), rtol=1e-6)


def test_a_row_does_not_depend_on_the_others():
    together = jax.device_get(search(WIDE))
    one = compiled(lambda cache: WIDE(RECURRENT.step, cache, None, batch_size=1))
    for row in range(B):
        alone = jax.device_get(one(RECURRENT.row(row).cache()))
        np.testing.assert_array_equal(alone.tokens[0], together.tokens[row])
        np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=1e-5)


def test_the_early_stop_saves_steps_and_not_results():
    """Counts the steps of rows that end at once, and at a limit that no step needs."""
    count = []

    def step(token, cache, memory):
        jax.debug.callback(lambda: count.append(1))
        logits = jnp.where(jnp.arange(6) == EOS, 4.0, 0.0)
        return jnp.broadcast_to(logits, (token.shape[0], 6)), cache

    strategy = BeamSearch(max_length=50, width=3)
    found = compiled(lambda: strategy(step, {"x": jnp.zeros(2)}, None, batch_size=2))()
    jax.effects_barrier()
    assert found.lengths.tolist() == [[1], [1]]
    assert len(count) < 3

    longer = dataclasses.replace(NARROW, max_length=30)
    short, long = (np.asarray(search(strategy).tokens[:, 0]) for strategy in (NARROW, longer))
    ended = (short == EOS).any(-1)
    assert ended.any()
    np.testing.assert_array_equal(long[ended, :12], short[ended])
    assert (long[ended, 12:] == PAD).all()


def test_what_has_ended_outlives_logits_that_are_not_numbers():
    """NaN from the third step on: the first row has ended by then, the second has nothing to give."""

    def step(token, cache, memory):
        end = jnp.where(cache["place"] == 1, cache["end"], -jnp.inf)
        logits = jnp.zeros((token.shape[0], 8)).at[:, EOS].set(end)
        logits = jnp.where((cache["place"] < 2)[:, None], logits, jnp.nan)
        return logits, {**cache, "place": cache["place"] + 1}

    cache = {"end": jnp.array([0.0, -jnp.inf]), "place": jnp.zeros(2, jnp.int32)}
    strategy = BeamSearch(max_length=4, width=2, length_penalty=1.0)
    found = compiled(lambda: strategy(step, cache, None, batch_size=2))()
    assert found.tokens[0, 0].tolist() == [3, EOS, PAD, PAD] and np.isfinite(found.scores[0, 0])
    assert not found.tokens[1].any() and found.lengths[1, 0] == 0
    assert found.scores[1, 0] == found.log_probs[1, 0] == -np.inf


def test_only_pad_follows_eos():
    found = jax.device_get(search(MANY))
    position = np.arange(12)
    ended = (found.tokens == EOS).any(-1)
    assert ended.any()
    after = position >= found.lengths[..., None]
    assert (found.tokens[after] == PAD).all() and (found.tokens[~after] != PAD).all()


def test_no_trigram_comes_twice_and_no_shorter_sentence_than_asked():
    model = Markov(seed=5, batch_size=8, vocab_size=6)
    run = lambda **fields: jax.device_get(  # noqa: E731
        search(BeamSearch(max_length=14, width=3, **fields), (model.cache(), model.memory()))
    ).tokens[:, 0]

    def repeats(tokens, n=3):
        grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        grams = [gram for gram in grams if PAD not in gram]
        return len(grams) - len(set(grams))

    free, blocked = run(min_length=12), run(min_length=12, block_ngram=3)
    assert sum(repeats(row) for row in free.tolist()) > 0, "the toy should repeat itself"
    assert all(repeats(row) == 0 for row in blocked.tolist())
    assert ((blocked != PAD).sum(-1) >= 12).all()


def test_banned_tokens_never_come():
    found = search(BeamSearch(max_length=10, width=4, num_results=4, banned=(PAD, BOS, 3, 7)))
    tokens, lengths = np.asarray(found.tokens), np.asarray(found.lengths)
    real = np.arange(10) < lengths[..., None]
    assert not np.isin(tokens[real], [PAD, BOS, 3, 7]).any()


def test_memory_may_be_any_pytree_and_must_have_a_row_for_each_example():
    step, cache = fixed_logits(np.zeros(5), 2)
    with pytest.raises(ValueError, match="position.*batch_size = 2"):
        BeamSearch()(step, {**cache, "position": jnp.int32(0)}, None, batch_size=2)
    with pytest.raises(ValueError, match="batch_size = 2"):
        BeamSearch()(step, cache, (jnp.zeros((3, 4)),), batch_size=2)


@pytest.mark.parametrize(
    "fields, word",
    [
        ({"width": 0}, "width"),
        ({"max_length": 0}, "max_length"),
        ({"length_penalty": -0.5}, "length_penalty"),
        ({"width": 3, "num_results": 4}, "num_results"),
        ({"max_length": 5, "min_length": 6}, "min_length"),
        ({"block_ngram": -1}, "block_ngram"),
        ({"banned": (EOS,)}, "EOS"),
    ],
)
def test_bad_values_are_refused_by_name(fields, word):
    with pytest.raises(ValueError, match=word):
        BeamSearch(**fields)


def test_more_beams_than_sequences_are_refused():
    step, cache = fixed_logits(np.zeros(4), 1)
    with pytest.raises(ValueError, match="width=17"):
        BeamSearch(width=17, max_length=2)(step, cache, None, batch_size=1)
