import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.decoding.toys import Recurrent, compiled, fixed_logits
from vlm_jax.decoding import sampling
from vlm_jax.decoding.base import top_k
from vlm_jax.decoding.sampling import Greedy, Sampling, filtered_sample, nucleus
from vlm_jax.types import BOS, EOS, PAD

B, L = 6, 12
MODEL = Recurrent(seed=3, batch_size=B)


@functools.partial(compiled, static_argnums=0)
def decode(strategy, key=None):
    return strategy(MODEL.step, MODEL.cache(), MODEL.memory(), batch_size=B, key=key)


def draws(logits, num, **fields):
    """num one-token samples of fixed logits."""
    step, cache = fixed_logits(logits, num)
    strategy = Sampling(max_length=1, banned=fields.pop("banned", ()), **fields)
    return np.asarray(
        compiled(lambda key: strategy(step, cache, None, batch_size=num, key=key).tokens)(
            jax.random.key(fields.pop("seed", 0))
        )
    ).reshape(-1)


def chi_square(counts, probs):
    expected = probs * counts.sum()
    return ((counts - expected) ** 2 / expected).sum()


def test_stages_follow_each_other():
    """Two tokens of 5 to 6, one of 4, then any; each as likely as the model has it among those that may come."""
    logits = np.linspace(0, 2, 8)
    step, cache = fixed_logits(logits, 4000)
    strategy = Sampling(max_length=4, banned=(), stages=((2, 5, 6), (1, 4, 4)))
    decoded = compiled(lambda key: strategy(step, cache, None, batch_size=4000, key=key))(
        jax.random.key(0)
    )
    tokens = np.asarray(decoded.tokens)[:, 0]
    assert set(tokens[:, 0]) == set(tokens[:, 1]) == {5, 6} and set(tokens[:, 2]) == {4}
    assert set(tokens[:, 3]) == set(range(8))
    share = 1 / (1 + np.exp(logits[5] - logits[6]))
    np.testing.assert_allclose((tokens[:, 0] == 6).mean(), share, atol=0.03)
    whole = logits - np.log(np.exp(logits).sum())
    np.testing.assert_allclose(decoded.log_probs[:, 0], whole[tokens].sum(1), rtol=1e-4)


@pytest.mark.parametrize("stage", [(0, 4, 5), (1, 6, 5), (1, -1, 5)])
def test_stages_that_are_none_are_refused(stage):
    with pytest.raises(ValueError, match="expected .count, first, last. of each"):
        Sampling(stages=(stage,))


def test_stages_beyond_the_length_or_the_vocabulary_are_refused():
    with pytest.raises(ValueError, match="their counts are more than max_length, 4"):
        Sampling(max_length=4, stages=((3, 4, 5), (2, 4, 5)))
    with pytest.raises(ValueError, match="names a token beyond the 8 logits"):
        draws(np.zeros(8), 2, stages=((1, 4, 8),))


def test_greedy_takes_the_most_probable_token_at_every_position():
    decoded = jax.device_get(decode(Greedy(max_length=L)))
    for row in range(B):
        tokens = []
        while len(tokens) < L and EOS not in tokens:
            best = max(
                (w for w in range(MODEL.vocab_size) if w not in (PAD, BOS)),
                key=lambda w: MODEL.log_prob(row, [*tokens, w]),
            )
            tokens.append(best)
        assert decoded.tokens[row, 0].tolist() == tokens + [PAD] * (L - len(tokens))
        assert decoded.lengths[row, 0] == len(tokens)
        np.testing.assert_allclose(
            decoded.log_probs[row, 0], MODEL.log_prob(row, tokens), rtol=1e-5, atol=1e-5
        )
    ended = (decoded.tokens == EOS).any(-1)
    assert ended.any() and not ended.all(), "the toy should show both rows that end and rows cut"


@pytest.mark.parametrize("strategy", [Greedy, Sampling])
def test_a_longer_limit_changes_nothing_after_eos(strategy):
    short = jax.device_get(decode(strategy(max_length=L), jax.random.key(0)))
    long = jax.device_get(decode(strategy(max_length=2 * L), jax.random.key(0)))
    np.testing.assert_array_equal(long.tokens[:, :, :L], short.tokens)
    ended = (short.tokens == EOS).any(-1)
    np.testing.assert_array_equal(long.log_probs[ended], short.log_probs[ended])
    assert (long.tokens[ended][:, L:] == PAD).all()


@pytest.mark.parametrize("strategy", [Greedy, Sampling])
def test_logits_that_are_not_numbers_end_a_row_without_eos(strategy):
    def step(token, cache, memory):
        logits = jnp.where(jnp.arange(6) == 4, 99.0, jnp.zeros((token.shape[0], 6)))
        return jnp.where((cache < 2)[:, None], logits, jnp.nan), cache + 1

    run = strategy(max_length=4)
    start = jnp.array([0, 2], jnp.int32)
    found = compiled(lambda key: run(step, start, None, batch_size=2, key=key))(jax.random.key(0))
    assert found.tokens[:, 0].tolist() == [[4, 4, PAD, PAD], [PAD] * 4]
    assert np.isnan(found.log_probs).all() and found.lengths[:, 0].tolist() == [2, 0]


def test_temperature_zero_and_top_k_one_and_a_tiny_top_p_are_greedy():
    greedy = jax.device_get(decode(Greedy(max_length=L)))
    for fields in ({"temperature": 0.0}, {"top_k": 1}, {"temperature": 1e-4, "top_p": 1e-6}):
        sampled = jax.device_get(decode(Sampling(max_length=L, **fields), jax.random.key(1)))
        np.testing.assert_array_equal(sampled.tokens, greedy.tokens, err_msg=str(fields))
        np.testing.assert_allclose(sampled.log_probs, greedy.log_probs, rtol=1e-6)


def test_samples_without_filters_follow_the_model():
    logits = np.array([0.0, 1.0, -1.0, 2.0, 0.5, -0.5])
    counts = np.bincount(draws(logits, 20_000), minlength=6)
    probs = np.asarray(jax.nn.softmax(jnp.asarray(logits)))
    assert chi_square(counts, probs) < 20.5  # p = 0.001 at 5 degrees of freedom
    # All of the vocabulary and all of the mass go through the sorting path.
    counts = np.bincount(draws(logits, 20_000, top_k=6, top_p=1 - 1e-7), minlength=6)
    assert chi_square(counts, probs) < 20.5


def test_temperature_then_top_k_then_top_p():
    logits = np.log([0.30, 0.25, 0.20, 0.15, 0.10])
    # Temperature 1/2 squares them: .09 .0625 .04 .0225 .01, of which the first four sum to .215.
    # Shares after top_k: .419 .291 .186 .105, so three reach top_p = .86 (.895). Before top_k, or
    # before the temperature, three reach only .856 or .75, and a fourth would be kept.
    counts = np.bincount(draws(logits, 20_000, temperature=0.5, top_k=4, top_p=0.86), minlength=5)
    kept = np.array([0.09, 0.0625, 0.04])
    assert (counts[3:] == 0).all()
    assert chi_square(counts[:3], kept / kept.sum()) < 13.8  # p = 0.001 at 2 degrees


def test_the_same_key_draws_the_same_text_and_rows_draw_different_noise():
    strategy = Sampling(max_length=8, num_results=2)
    step, cache = fixed_logits(np.zeros(50), 4)
    run = compiled(lambda key: strategy(step, cache, None, batch_size=4, key=key).tokens)
    one, two, other = run(jax.random.key(5)), run(jax.random.key(5)), run(jax.random.key(6))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    flat = {tuple(row) for row in np.asarray(one).reshape(8, 8).tolist()}
    assert len(flat) == 8
    assert len(set(np.asarray(one)[0, 0].tolist())) > 1, "positions share their noise"


def test_with_a_key_a_row_what_a_row_draws_does_not_depend_on_the_batch():
    strategy = Sampling(max_length=8, num_results=2)
    keys = jax.vmap(jax.random.key)(jnp.arange(4))

    def draw(keys):
        step, cache = fixed_logits(np.zeros(50), len(keys))
        return strategy(step, cache, None, batch_size=len(keys), key=keys).tokens

    drawn = np.asarray(draw(keys))
    np.testing.assert_array_equal(draw(keys[::-1]), drawn[::-1])
    np.testing.assert_array_equal(draw(keys[2:3]), drawn[2:3])
    assert len({tuple(row) for row in drawn.reshape(8, 8).tolist()}) == 8


def test_banned_tokens_never_come():
    logits = np.array([5.0, 5.0, 0.0, 5.0, 0.0, 0.0])
    tokens = draws(logits, 20_000, banned=(0, 1, 3))
    assert set(np.unique(tokens)) == {2, 4, 5}


def test_log_probs_are_the_models_whatever_the_filters():
    strategy = Sampling(max_length=L, temperature=1.7, top_k=4, top_p=0.9, num_results=3)
    decoded = jax.device_get(decode(strategy, jax.random.key(2)))
    assert decoded.tokens.shape == (B, 3, L)
    for row in range(B):
        for i in range(3):
            tokens = decoded.tokens[row, i].tolist()
            length = int(decoded.lengths[row, i])
            assert length == (tokens.index(EOS) + 1 if EOS in tokens else L)
            expected = MODEL.log_prob(row, tokens, length)
            np.testing.assert_allclose(decoded.log_probs[row, i], expected, rtol=1e-5, atol=1e-5)


def test_min_length_counts_eos_and_trigrams_are_blocked():
    step, cache = fixed_logits([0, 0, 3.0, 0, 2.0, 1.0], 1)  # EOS, then 4, then 5

    def run(strategy):
        decoded = compiled(lambda: strategy(step, cache, None, batch_size=1))()
        return decoded.tokens[0, 0].tolist()

    assert run(Greedy(max_length=6)) == [2, 0, 0, 0, 0, 0]
    assert run(Greedy(max_length=6, min_length=4)) == [4, 4, 4, 2, 0, 0]
    # 4 4 4 may not come twice, nor 4 4 5, so after 4 4 4 5 4 4 there is only 3.
    blocked = Greedy(max_length=9, min_length=9, block_ngram=3, banned=(0, 1))
    assert run(blocked) == [4, 4, 4, 5, 4, 4, 3, 4, 2]


def test_filtered_sample_never_leaves_the_kept_tokens_at_full_vocabulary_size():
    logits = np.random.default_rng(0).normal(size=(64, 1000)).astype(np.float32)

    @compiled
    def draw(key, logits):
        return filtered_sample(jax.random.split(key, 64), logits, top_k=5, top_p=1.0)

    best = np.argsort(-logits, axis=-1)[:, :5]
    assert (draw(jax.random.key(1), logits)[:, None] == best).any(-1).all()


def test_the_nucleus_is_the_shortest_run_of_the_sorted_tokens_that_reaches_top_p():
    logits = np.random.default_rng(1).normal(size=(40, 200)).astype(np.float32) * 3
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for top_p in (1e-6, 0.3, 0.9, 0.999):
        kept = np.asarray(compiled(nucleus, static_argnums=1)(probs, top_p))
        for row in range(40):
            order = np.argsort(-probs[row])
            count = 1 + np.searchsorted(np.cumsum(probs[row][order].astype(np.float64)), top_p)
            assert set(np.flatnonzero(kept[row])) == set(order[:count])
    equal = np.array([[0.25, 0.25, 0.25, 0.25], [0.4, 0.3, 0.3, 0.0]], np.float32)
    np.testing.assert_array_equal(nucleus(equal, 0.5), [[1, 1, 1, 1], [1, 1, 1, 0]])


@pytest.mark.parametrize("size, k", [(4, 3), (1000, 3), (1024, 4), (777, 2)])
def test_blocked_top_k_is_lax_top_k_with_its_ties(size, k):
    rng = np.random.default_rng(0)
    both = compiled(lambda x: (top_k(x, k), jax.lax.top_k(x, k)))
    for x in (rng.normal(size=(5, size)), rng.integers(0, 3, (5, size)), np.zeros((5, size))):
        x = x.astype(np.float32)
        x[0, 3:] = -np.inf
        for ours, theirs in zip(*both(x)):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "strategy, fields, word",
    [
        (Greedy, {"max_length": 0}, "max_length"),
        (Greedy, {"max_length": 5, "min_length": 6}, "min_length"),
        (Greedy, {"banned": (EOS,)}, "EOS"),
        (Sampling, {"temperature": -0.1}, "temperature"),
        (Sampling, {"temperature": float("nan")}, "temperature"),
        (Sampling, {"top_p": 0.0}, "top_p"),
        (Sampling, {"top_p": 1.1}, "top_p"),
        (Sampling, {"top_k": 0}, "top_k"),
        (Sampling, {"num_results": 0}, "num_results"),
    ],
)
def test_bad_values_are_refused_by_name(strategy, fields, word):
    with pytest.raises(ValueError, match=word):
        strategy(**fields)


def test_a_missing_key_and_a_token_beyond_the_vocabulary_are_refused():
    step, cache = fixed_logits(np.zeros(4), 2)
    with pytest.raises(ValueError, match="key"):
        Sampling()(step, cache, None, batch_size=2)
    with pytest.raises(ValueError, match="banned"):
        Greedy(banned=(0, 9))(step, cache, None, batch_size=2)


def test_rounding_never_reaches_a_token_without_probability():
    """Wherever the uniform number falls, the ends of the interval too; in one block and over several."""
    logits = np.full((1, 200), -np.inf, np.float32)
    logits[0, [70, 75, 130]] = [0.0, 1.0, -12.0]
    keys = jax.random.split(jax.random.key(0), 3)
    rows = np.repeat(logits, 3, 0)
    with mock.patch.object(jax.random, "uniform", lambda key: jnp.float32(1.0)):
        assert sampling.categorical(keys, rows).tolist() == [130] * 3
    with mock.patch.object(jax.random, "uniform", lambda key: jnp.float32(0.0)):
        assert sampling.categorical(keys, rows).tolist() == [70] * 3
    ends = jnp.array([[0.0, 1.0, 1.0, 3.0, 3.0]])
    places = [sampling._first_beyond(ends, jnp.float32([at])).item() for at in (-1, 0.9, 1, 3, 9)]
    assert places == [1, 1, 3, 3, 3]
