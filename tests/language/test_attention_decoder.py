import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.decoding.toys import compiled
from tests.model_zoo import filled
from vlm_jax.language.attention_decoder import AttentionDecoder, HardAttention, SoftAttention
from vlm_jax.language.feedback import read_with_own_tokens
from vlm_jax.language.recurrent import InitInject, RecurrentDecoder
from vlm_jax.layers.recurrent import LSTM, RNN
from vlm_jax.types import BOS, EOS, PAD, Features

TOKENS = np.array([[BOS, 5, 6, 7, EOS], [BOS, 8, EOS, PAD, PAD]])
B, L, N = 2, 5, 4
MEMORY = Features(
    values=jnp.asarray(np.random.default_rng(0).normal(size=(B, N, 6)), jnp.float32),
    mask=jnp.array([[1, 1, 1, 1], [1, 0, 1, 0]], bool),
)
SIZES = {"vocab_size": 11, "width": 8, "embedding_width": 5, "attention_width": 7}


def variables_of(module):
    return filled(
        jax.eval_shape(lambda: module.init(jax.random.key(0), TOKENS, MEMORY, train=False))
    )


def sown(module, variables, key=None, train=True):
    """Logits and what is sown, the tuples of one unpacked."""
    logits, found = module.apply(
        variables,
        TOKENS,
        MEMORY,
        train=train,
        rngs={} if key is None else {"sampling": key},
        mutable=["intermediates", "losses", "policy"],
    )
    return logits, {name: leaf[0] for kind in found.values() for name, leaf in kind.items()}


def test_soft_attention_equals_the_equations():
    module = AttentionDecoder(**SIZES, cell=LSTM(), doubly_stochastic_weight=2.0)
    variables = variables_of(module)
    logits, found = jax.device_get(jax.jit(functools.partial(sown, module))(variables))

    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    dense = lambda name, x: x @ p[name]["kernel"] + p[name]["bias"]  # noqa: E731
    missing = np.zeros(B)
    for b in range(B):
        a = np.asarray(MEMORY.values[b], np.float64)[np.asarray(MEMORY.mask[b])]
        h, c = (np.tanh(dense(f"initial_{j}", a.mean(0))) for j in (0, 1))
        looked = np.zeros(len(a))
        rnn = p["rnn"]
        for t in range(L):
            if TOKENS[b, t] == PAD:
                continue
            word = p["embedding"]["table"][TOKENS[b, t]]
            e = np.tanh(dense("keys", a) + h @ rnn["query_kernel"]) @ rnn["score"][:, 0]  # eq. 4
            alpha = np.exp(e) / np.exp(e).sum()  # eq. 5
            beta = sigmoid(h @ rnn["gate_kernel"] + rnn["gate_bias"])
            z = beta * (alpha @ a)
            gates = word @ rnn["kernel"] + z @ rnn["memory_kernel"] + rnn["bias"]
            i, f, g, o = np.split(gates + h @ rnn["recurrent_kernel_0"], 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            deep = word + dense("from_state", h) + z @ p["from_memory"]["kernel"]  # eq. 7
            linear = p["vocabulary"]["linear"]
            np.testing.assert_allclose(
                logits[b, t], deep @ linear["kernel"] + linear["bias"], rtol=1e-4, atol=1e-4
            )
            np.testing.assert_allclose(
                found["attention"][b, t, np.asarray(MEMORY.mask[b])], alpha, rtol=1e-4
            )
            if TOKENS[b, t] != EOS:  # what follows EOS is not a word that is to be written
                looked += alpha
        missing[b] = 2.0 * ((1 - looked) ** 2).sum()
    np.testing.assert_allclose(found["doubly_stochastic"], missing, rtol=1e-4)
    assert "log_prob" not in found


HARD = AttentionDecoder(**SIZES, attend=HardAttention(expected_rate=0.0))


@pytest.fixture(scope="module")
def hard():
    """Its variables, a key -> what it sows, and what soft attention sows with the same variables."""
    variables = variables_of(HARD)
    run = jax.jit(lambda key: sown(HARD, variables, key))
    soft = AttentionDecoder(**SIZES, attend=SoftAttention())
    return variables, run, jax.device_get(jax.jit(lambda: sown(soft, variables, train=False))())


def test_hard_attention_looks_at_one_real_place_and_reports_its_probability(hard):
    _, run, _ = hard
    _, found = jax.device_get(run(jax.random.key(0)))
    weights = found["attention"]
    assert set(np.unique(weights)) == {0.0, 1.0} and (weights.sum(-1) == 1).all()
    assert (weights[1][:, [1, 3]] == 0).all(), "padding was looked at"
    assert (found["log_prob"] < 0).all()
    assert (found["entropy"] > 0).all() and (found["entropy"] <= np.log(N) + 1e-5).all()
    _, other = jax.device_get(run(jax.random.key(1)))
    assert (other["attention"] != weights).any()


def test_places_are_drawn_as_often_as_they_are_probable(hard):
    _, run, (_, expected) = hard
    # The first place depends on nothing drawn before it.
    keys = jax.random.split(jax.random.key(2), 2000)
    weights, log_prob = jax.device_get(
        jax.jit(jax.vmap(lambda key: [run(key)[1][k][:, 0] for k in ("attention", "log_prob")]))(
            keys
        )
    )
    p = expected["attention"][:, 0]
    np.testing.assert_allclose(weights.mean(0), p, atol=4 * np.sqrt(0.25 / 2000))
    place = weights.argmax(-1)
    np.testing.assert_allclose(
        log_prob, np.log(np.take_along_axis(p[None], place[..., None], 2)[..., 0]), rtol=1e-4
    )


def test_hard_attention_takes_the_most_probable_place_when_it_does_not_train(hard):
    variables, _, (_, expected) = hard
    _, found = jax.device_get(jax.jit(lambda: sown(HARD, variables, train=False))())
    first, p = found["attention"][:, 0], expected["attention"][:, 0]
    np.testing.assert_array_equal(first.argmax(-1), p.argmax(-1))
    assert (first.max(-1) == 1).all() and "log_prob" not in found


def test_rows_that_look_at_the_expected_place_are_soft_and_have_no_policy(hard):
    variables, _, (expected, _) = hard
    module = AttentionDecoder(**SIZES, attend=HardAttention(expected_rate=1.0))
    logits, found = jax.device_get(jax.jit(lambda: sown(module, variables, jax.random.key(0)))())
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    assert (found["log_prob"] == 0).all()


FEEDBACK = {
    "recurrent": RecurrentDecoder(
        vocab_size=11, width=8, embedding_width=5, inject=InitInject(), sampling_rate=1.0
    ),
    "attention": AttentionDecoder(**SIZES, sampling_rate=1.0, doubly_stochastic_weight=1.0),
}


@pytest.mark.parametrize("name", FEEDBACK)
def test_scheduled_sampling_at_0_is_teacher_forcing_and_at_1_ignores_the_text(name):
    module = FEEDBACK[name]
    variables = variables_of(module)

    @jax.jit
    def run(tokens, key):
        def both(module):
            cache = module.initial_cache(MEMORY, B, L)
            return [
                read_with_own_tokens(module, tokens, cache, MEMORY, rate).logits
                for rate in (0.0, 1.0)
            ]

        never, always = module.apply(variables, method=both, rngs={"sampling": key})
        through_call = module.apply(variables, tokens, MEMORY, train=True, rngs={"sampling": key})
        return never, always, through_call, module.apply(variables, tokens, MEMORY, train=False)

    key = jax.random.key(0)
    never, always, through_call, forced = jax.device_get(run(TOKENS, key))
    np.testing.assert_allclose(never, forced, rtol=1e-5, atol=1e-5)
    others = np.where((TOKENS > EOS), 10, TOKENS)
    _, always_other, _, forced_other = jax.device_get(run(others, key))
    assert (forced_other != forced).any()
    np.testing.assert_array_equal(always, always_other)
    assert not np.allclose(always, forced) and not np.allclose(through_call, forced)
    off = module.clone(sampling_rate=0.0)
    exact, also = jax.jit(
        lambda: [off.apply(variables, TOKENS, MEMORY, train=train) for train in (True, False)]
    )()
    np.testing.assert_array_equal(exact, also)


@pytest.mark.parametrize("same", [True, False])
def test_the_same_dropout_stays_the_same_where_a_decoder_reads_its_own_words(same):
    """With the text read as it stands, a word vector's number that is dropped at one time is so at all times."""
    module = RecurrentDecoder(
        cell=RNN(),
        vocab_size=6,
        width=4,
        embedding_width=64,
        embedding_dropout_rate=0.5,
        same_dropout=same,
        sampling_rate=1e-9,
    )
    tokens = jnp.full((1, 9), 5).at[0, 0].set(BOS)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), tokens, None, train=False))
    rngs = {"dropout": jax.random.key(1), "sampling": jax.random.key(2)}

    def of_one_word(params):
        return module.apply({"params": params}, tokens, None, train=True, rngs=rngs)[..., 3].sum()

    gradient = compiled(jax.grad(of_one_word))(filled(shapes)["params"])
    never_seen = (gradient["embedding"]["table"][5] == 0).mean()
    assert 0.3 < never_seen < 0.7 if same else never_seen < 0.1


def test_a_coin_for_each_row_is_refused_where_words_are_read_one_by_one():
    module = AttentionDecoder(**SIZES, attend=HardAttention(), sampling_rate=0.25)
    with pytest.raises(ValueError, match="sampling_rate=0.25.*try expected_rate=0.0 or 1.0"):
        variables_of(module)
