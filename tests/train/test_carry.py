"""A state that goes on from batch to batch: truncated backpropagation, resumed, evaluated, begun anew."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.model_zoo import filled
from vlm_jax.data.source import Rows
from vlm_jax.data.streams import Streams
from vlm_jax.language.recurrent import RecurrentDecoder
from vlm_jax.layers.recurrent import GRU, LSTM
from vlm_jax.models.generator import Generator
from vlm_jax.tasks.generation import shift
from vlm_jax.tasks.language_modelling import LanguageModelling
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.train.checkpoints import load_variables
from vlm_jax.train.evaluation import Evaluation, Evaluator, evaluate
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.loop import train
from vlm_jax.train.optimizers import Sgd
from vlm_jax.train.state import state_hash
from vlm_jax.train.steps import gradient_sums
from vlm_jax.types import BOS, CARRY

LINES = ("a b c d", "b a", "c d a b e", "e e a", "d c b a", "a c e b d")  # 29 tokens
SOURCE = Rows(names=("text",), rows=tuple((line,) for line in LINES))
WORDS = WordTokenizer(corpus=SOURCE, vocab_size=12, texts="text", spaces=True)
TASK = LanguageModelling(tokenizer=WORDS, decoding=None)
MODEL = Generator(
    decoder=RecurrentDecoder(
        cell=LSTM(), vocab_size=12, width=5, embedding_width=4, num_layers=2, carry=True
    )
)


def streams(*, train=True, **fields):
    fields = {"batch_size": 2, "length": 4, **fields}
    return Streams(source=SOURCE, tokenizer=WORDS, train=train, **fields)


def first(count, **fields):
    return [batch for (_, batch), _ in zip(streams(**fields).batches(), range(count))]


@pytest.fixture(scope="module")
def variables():
    shapes = jax.eval_shape(
        lambda: MODEL.init(jax.random.key(0), {"target": jnp.ones((2, 4), int)}, train=False)
    )
    return filled(shapes)


@jax.jit
def read(variables, inputs):
    """Logits, and what goes on."""
    return MODEL.apply(variables, {"target": inputs}, train=False, mutable=[CARRY])


def inputs_of(batch):
    return shift(batch)[0]


def test_two_windows_of_four_are_one_of_eight(variables):
    (whole,) = first(1, length=8)
    expected, left = read(variables, inputs_of(whole))
    logits, carried = [], variables
    for batch in first(2, length=4):
        found, after = read(carried, inputs_of(batch))
        logits.append(found)
        carried = {**variables, **after}
    np.testing.assert_allclose(np.concatenate(logits, 1), expected, rtol=1e-5, atol=1e-6)
    for a, b in zip(jax.tree.leaves(carried[CARRY]), jax.tree.leaves(left[CARRY]), strict=True):
        assert a.shape == (2, 5)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    # And not what it is without what was carried.
    alone, _ = read(variables, inputs_of(first(2, length=4)[1]))
    assert np.abs(alone - logits[1]).max(-1).min() > 1e-3


def test_a_row_that_begins_with_bos_starts_anew_and_the_other_goes_on(variables):
    inputs = np.array([[BOS, 5, 6, 7], [8, 5, 6, 7]])
    nothing = {**variables, CARRY: jax.tree.map(jnp.zeros_like, variables[CARRY])}
    (carried, _), (fresh, _) = read(variables, inputs), read(nothing, inputs)
    np.testing.assert_array_equal(carried[0], fresh[0])
    assert (np.abs(carried[1] - fresh[1]).max(-1) > 1e-3).all()


def test_padding_at_the_end_of_a_row_leaves_the_state_as_it_was(variables):
    _, short = read(variables, np.array([[5, 6, 0, 0], [7, 8, 0, 0]]))
    _, cut = read(variables, np.array([[5, 6], [7, 8]]))
    jax.tree.map(np.testing.assert_array_equal, short[CARRY], cut[CARRY])


def test_the_gradient_stops_where_the_state_was_carried(variables):
    """The gradient of the second window is that of a decoder started at a constant."""
    one, two = first(2)
    _, carried = read(variables, inputs_of(one))

    @jax.jit
    def carried_gradient(params, collections):
        sums = gradient_sums(MODEL, TASK)
        return sums(params, collections, {k: jnp.asarray(v) for k, v in two.items()}, KEY)[0]

    @jax.jit
    def gradient_from(params, state):
        inputs, labels, mask = shift(two)

        def total(params):
            logits = MODEL.apply({"params": params}, inputs, state, method=_read_from)
            log_p = jax.nn.log_softmax(logits)
            return -jnp.where(
                mask, jnp.take_along_axis(log_p, labels[..., None], -1)[..., 0], 0
            ).sum()

        return jax.grad(total)(params)

    found = carried_gradient(variables["params"], carried)
    expected = gradient_from(variables["params"], carried[CARRY]["decoder"]["state"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )


KEY = jax.random.key(0)


def _read_from(model, inputs, state):
    return model.decoder.read(inputs, {"state": state}, None, train=False).logits


# ---- evaluation


def numbers(variables, **fields):
    evaluation = Evaluation(name="text", data=streams(train=False, **fields), predict=False)
    return evaluate(evaluation, MODEL, TASK, variables).numbers


def test_an_evaluation_carries_from_window_to_window_and_begins_at_zero(variables):
    whole = numbers(variables, batch_size=1, length=29)
    assert whole["tokens"] == 29
    windows = numbers(variables, batch_size=1, length=8)
    assert windows["tokens"] == 29
    for name in ("loss", "perplexity", "bits_per_byte"):
        np.testing.assert_allclose(windows[name], whole[name], rtol=1e-5)
    # Whatever training left, and also where only the parameters are at hand.
    other = {**variables, CARRY: jax.tree.map(lambda x: x + 3, variables[CARRY])}
    for given in (other, {"params": variables["params"]}):
        assert numbers(given, batch_size=1, length=8) == windows


def test_an_evaluation_can_be_repeated_and_leaves_the_variables_alone(variables):
    before = state_hash(variables)
    data = streams(train=False, batch_size=1, length=8)
    evaluator = Evaluator(Evaluation(name="text", data=data, predict=False), MODEL, TASK)
    first = evaluator(variables, KEY).numbers
    assert evaluator(variables, KEY).numbers == first
    assert state_hash(variables) == before


# ---- training


def experiment(num_steps, **fields):
    return Experiment(
        model=MODEL,
        task=TASK,
        train_data=streams(),
        num_steps=num_steps,
        optimizer=Sgd(learning_rate=0.1, **fields),
        evaluations=(
            Evaluation(
                name="text", data=streams(train=False, batch_size=1), predict=False, every=3
            ),
        ),
        checkpoint_every=3,
    )


class Quiet:
    def open(self, workdir, num_steps):
        return self

    def __getattr__(self, name):
        return lambda *_: None


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path):
    """Over the beginning of an epoch, and with evaluations of other rows between the steps."""
    assert streams().num_batches == 4
    state = train(experiment(5), log=Quiet())
    assert {leaf.shape for leaf in jax.tree.leaves(state.collections[CARRY])} == {(2, 5)}
    train(experiment(3), tmp_path, Quiet())
    resumed = train(experiment(5), tmp_path, Quiet())
    assert state_hash(resumed) == state_hash(state)
    read_back = load_variables(tmp_path)
    assert numbers(read_back, batch_size=1) == numbers(resumed.variables, batch_size=1)


def test_what_would_mix_up_rows_is_refused(variables):
    with pytest.raises(ValueError, match=r"2 rows, the batch 1.*accumulate=1"):
        jax.eval_shape(
            gradient_sums(MODEL, TASK, accumulate=2),
            variables["params"],
            {CARRY: variables[CARRY]},
            {k: jnp.asarray(v) for k, v in first(1)[0].items()},
            KEY,
        )


def test_without_carry_each_window_stands_alone():
    model = Generator(decoder=dataclasses.replace(MODEL.decoder, carry=False, cell=GRU()))
    batch = {"target": jnp.ones((2, 4), int)}
    assert jax.eval_shape(lambda: model.init(KEY, batch, train=False)).keys() == {"params"}
