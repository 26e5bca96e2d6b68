"""The task around the gradient (that is in tests/invariants): what it refuses, evaluation, a real model, resuming."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments import self_critical as experiment
from tests import model_zoo
from tests.decoding.toys import compiled
from tests.invariants.self_critical_checks import CORPUS, reward
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import InMemory
from vlm_jax.decoding.sampling import Greedy, Sampling
from vlm_jax.tasks.captioning import Captioning
from vlm_jax.tasks.self_critical import SelfCritical
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.loop import train
from vlm_jax.train.optimizers import Adam
from vlm_jax.train.state import state_hash
from vlm_jax.types import BOS, EOS, PAD, UNK

BANNED = (PAD, BOS, UNK)


def pay(tokens, ids):
    """Tokens are worth 0 to 6, less so the further away, and some pictures pay more than others."""
    worth = (tokens % 7 / (1 + np.arange(tokens.shape[-1]))).sum(-1)
    return (worth * (1 + ids[:, None] % 3)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Pay:
    """The same as part of a configuration."""

    def __call__(self, tokens, ids):
        return pay(tokens, ids)

    def check(self, ids):
        pass


def task(**changes):
    fields = dict(
        tokenizer=None,
        decoding=None,
        reward=Pay(),
        sampling=Sampling(max_length=3, num_results=3, banned=BANNED),
    )
    return SelfCritical(**{**fields, **changes})


def pictures(count=6):
    rng = np.random.default_rng(0)
    shape = (model_zoo.NUM_PLACES, model_zoo.FEATURES)
    return [
        {
            "id": i,
            "image": rng.normal(size=shape).astype(np.float32),
            "target": np.array([BOS, 4, 5 + i, EOS, PAD], np.int32),
        }
        for i in range(count)
    ]


def batch(rows=4):
    source = InMemory(pictures())
    return next(iter(Pipeline(source=source, batch_size=rows, train=False).batches()))[1]


@pytest.mark.parametrize(
    "field, value",
    [("top_k", 5), ("top_p", 0.9), ("min_length", 2), ("block_ngram", 3)],
)
def test_captions_drawn_from_another_distribution_are_refused(field, value):
    sampling = dataclasses.replace(task().sampling, **{field: value})
    with pytest.raises(ValueError, match="drawn from the distribution whose gradient is taken"):
        task(sampling=sampling)


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="draws nothing"):
        task(sampling=dataclasses.replace(task().sampling, temperature=0.0))


def test_one_caption_needs_a_baseline():
    one = Sampling(max_length=4, banned=BANNED)
    with pytest.raises(ValueError, match="at least 2, or baseline=Greedy"):
        task(sampling=one)
    assert task(sampling=one, baseline=Greedy(max_length=4)).baseline


def test_a_baseline_longer_than_what_is_drawn_is_refused():
    with pytest.raises(ValueError, match="max_length 4, expected no more than the sampling's 3"):
        task(baseline=Greedy(max_length=4))


def test_units_do_not_drop_out_of_a_decoder_that_reads_its_own_words(model):
    words = SimpleNamespace(vocab_size=model.decoder.vocab_size)
    mixing = dataclasses.replace(
        model, decoder=dataclasses.replace(model.decoder, sampling_rate=0.25)
    )
    task(tokenizer=words).check(mixing, batch())
    task(tokenizer=words, dropout=True).check(model, batch())
    with pytest.raises(
        ValueError, match=r"sampling_rate 0.25.*try replace\(decoder, sampling_rate=0"
    ):
        task(tokenizer=words, dropout=True).check(mixing, batch())


def test_a_picture_without_references_is_refused_by_name():
    with pytest.raises(ValueError, match="no references for example id 7"):
        reward(CORPUS).check(np.array([0, 1, -1, 7]))
    reward(CORPUS).check(np.array([0, 1, -1]))


def test_a_row_that_fills_the_batch_is_paid_nothing():
    judge = reward(CORPUS)
    tokens = np.array([[[4, EOS]], [[4, EOS]]])
    assert judge(tokens, np.array([-1, 0])).shape == (2, 1)
    assert judge(tokens, np.array([-1, 0]))[0, 0] == 0


@pytest.fixture(scope="module")
def model():
    return model_zoo.generators()["merge_sum"]


@pytest.fixture(scope="module")
def variables(model):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch(), train=False))
    return model_zoo.filled(shapes)


def test_evaluation_is_the_cross_entropy_of_the_targets(model, variables):
    ours, plain = task(), Captioning(tokenizer=None, decoding=None)
    found = [
        compiled(lambda v, t=t: t.loss(model, v, batch(), rngs={}, train=False)[0])(variables)
        for t in (ours, plain)
    ]
    assert float(found[0]) == float(found[1]) > 0


def test_the_gradient_reaches_every_parameter_and_no_target_is_read(model, variables):
    ours = task(baseline=Greedy(max_length=2, banned=BANNED))

    @compiled
    def gradient(variables, batch, key):
        def objective(variables):
            rngs = {"sampling": key, "dropout": key}
            return ours.loss(model, variables, batch, rngs=rngs, train=True)[0]

        return jax.grad(objective)(variables)

    found = gradient(variables, batch(), jax.random.key(0))
    still = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(found)
        if not np.isfinite(leaf).all() or not leaf.any()
    ]
    assert not still, still
    other = {**batch(), "target": np.roll(batch()["target"], 1, 0)}
    again = gradient(variables, other, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, found, again)


@pytest.mark.parametrize("dropout", [False, True])
def test_units_drop_out_where_they_are_asked_to_and_not_in_what_is_drawn(dropout, model, variables):
    decoder = dataclasses.replace(model.decoder, rnn_dropout_rate=0.5)
    dropping, ours = dataclasses.replace(model, decoder=decoder), task(dropout=dropout)

    @compiled
    def loss(sampling, units):
        rngs = {"sampling": sampling, "dropout": units}
        found, aux = ours.loss(dropping, variables, batch(), rngs=rngs, train=True)
        return found, aux.metrics["reward"].total

    keys = jax.random.split(jax.random.key(0))
    first, second = loss(keys[0], keys[0]), loss(keys[0], keys[1])
    assert first[1] == second[1]
    assert (first[0] != second[0]) == dropout


def learning(**changes):
    shape = Experiment(
        model=model_zoo.generators()["merge_sum"],
        task=task(),
        train_data=Pipeline(source=InMemory(pictures()), batch_size=6, train=True),
        num_steps=4,
        optimizer=Adam(learning_rate=0.05),
        checkpoint_every=2,
    )
    return dataclasses.replace(shape, **changes)


@pytest.fixture
def without_check(monkeypatch):
    monkeypatch.setattr(SelfCritical, "check", lambda *given: None)


def test_a_run_that_goes_on_is_a_run_that_never_stopped(tmp_path, without_check, monkeypatch):
    from vlm_jax.train import runs

    monkeypatch.setattr(runs, "describe", lambda *given, **options: None)  # sources in memory
    whole = train(learning(), tmp_path / "whole")
    train(learning(num_steps=2), tmp_path / "parts")
    assert state_hash(train(learning(), tmp_path / "parts")) == state_hash(whole)


def test_a_captioner_learns_to_write_what_is_paid(without_check):
    state = train(learning(num_steps=40))
    data = batch()
    ours = task(decoding=Greedy(max_length=3, banned=BANNED))
    model = learning().model
    written = ours.predict(model, state.eval_variables, data, jax.random.key(0))
    assert (np.asarray(written.tokens)[:, 0] % 7 == 6).mean() > 0.8


def test_the_experiment_goes_on_from_a_captioner_with_the_same_words():
    chosen = experiment.leave_one_out(start="somewhere")
    assert chosen.init_params.workdir == "somewhere"
    assert chosen.init_params.tokenizer == chosen.task.tokenizer == chosen.task.reward.tokenizer
