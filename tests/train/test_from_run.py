import dataclasses

import jax
import numpy as np
import pytest

from tests import model_zoo
from tests.train import toys
from vlm_jax.data.source import Rows
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.train import checkpoints, from_run
from vlm_jax.train.from_run import FromRun, PartFromRun, VariablesFromRun
from vlm_jax.train.loop import train
from vlm_jax.train.state import init_state, state_hash

WORDS = WordTokenizer(corpus=Rows(names=("captions",), rows=((("a dog",),),)), vocab_size=16)


def begun(**changes):
    """The state of a run before its first step."""
    return train(toys.experiment(num_steps=0, evaluations=(), **changes))


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A run that is over; it has batch statistics and a moving average."""
    workdir, tx = tmp_path_factory.mktemp("before"), toys.experiment().optimizer.build()
    batch = next(toys.Pipeline().batches())[1]
    shapes = jax.eval_shape(
        lambda key: init_state(toys.Model(), tx, batch, key, ema=True), jax.random.key(0)
    )
    for step in (3, 5):
        checkpoints.save(workdir, step, model_zoo.filled(shapes, seed=step), position=step)
    return workdir


def test_a_run_begins_with_the_average_and_the_statistics_of_another(before):
    state, found = (
        begun(init_params=FromRun(workdir=str(before))),
        checkpoints.load_variables(before),
    )
    assert state_hash(state.params) == state_hash(found["params"]) == state_hash(state.ema)
    assert state_hash(state.collections) == state_hash({"batch_stats": found["batch_stats"]})
    assert state_hash(found["params"]) != state_hash(checkpoints.load_params(before, 3))


def test_a_step_can_be_named(before):
    started = FromRun(workdir=str(before), step=3)
    shapes = begun().params
    assert state_hash(started(shapes)) == state_hash(checkpoints.load_params(before, 3))
    with pytest.raises(checkpoints.CheckpointError, match="has no step 7"):
        dataclasses.replace(started, step=7)(shapes)


def test_a_run_of_another_model_is_refused_with_every_path_that_differs(before):
    started = FromRun(workdir=str(before))
    with pytest.raises(ValueError, match="init_params returned other parameters") as error:
        begun(model=toys.Model(width=16), init_params=started)
    for name in ("embed/embedding", "hidden/kernel", "head/kernel", "batch_stats/norm/mean"):
        assert name in str(error.value)


def test_a_run_without_statistics_cannot_begin_one_that_has_them(tmp_path):
    state = begun(model=toys.Model(batch_norm=False))
    checkpoints.save(tmp_path, 1, state, position=1)
    with pytest.raises(ValueError, match="has no 'batch_stats', which this model has"):
        FromRun(workdir=str(tmp_path)).collections({"batch_stats": {}})


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(checkpoints.CheckpointError, match="has no checkpoint; train first"):
        FromRun(workdir=str(tmp_path))({})


def test_other_words_are_refused(before):
    other = WordTokenizer(corpus=Rows(names=("captions",), rows=((("a cat",),),)), vocab_size=16)
    WORDS.save(before / "tokenizer.json")
    with pytest.raises(ValueError, match="has other words than WordTokenizer has here"):
        FromRun(workdir=str(before), tokenizer=other)({})
    assert FromRun(workdir=str(before), tokenizer=WORDS)({})


FOUND = {
    "params": {"decoder": {"kernel": np.ones(3)}, "encoder": {"kernel": np.ones(5)}},
    "codebook": {"quantiser": {"vectors": np.full((2, 2), 7.0)}},
}


def test_a_part_begins_as_a_run_of_its_own_left_it_and_the_rest_as_it_was(monkeypatch):
    monkeypatch.setattr(from_run, "load_variables", lambda workdir, step: FOUND)
    params = {"part": {"decoder": {"kernel": np.zeros(3)}}, "other": {"kernel": np.zeros(4)}}
    codebook = {"codebook": {"part": {"quantiser": {"vectors": np.zeros((2, 2))}}}}
    started = PartFromRun(workdir="run", part="part")
    assert set(started(params)["part"]) == {"decoder"}  # of the encoder it has nothing
    assert started(params)["part"]["decoder"]["kernel"].sum() == 3
    assert started(params)["other"] is params["other"]
    assert started.collections(codebook)["codebook"]["part"]["quantiser"]["vectors"].max() == 7
    variables = VariablesFromRun(workdir="run", part="part")({"params": params, **codebook})
    assert variables.keys() == {"params", "codebook"}
    assert variables["codebook"]["part"]["quantiser"]["vectors"].max() == 7


def test_a_model_may_begin_as_a_part_of_a_run(monkeypatch):
    """A scope is the part's name in that run; without a part the whole model is meant."""
    monkeypatch.setattr(from_run, "load_variables", lambda workdir, step: FOUND)
    encoder = VariablesFromRun(workdir="run", scope="encoder")
    assert encoder({"params": {"kernel": np.zeros(5)}})["params"]["kernel"].sum() == 5
    moved = PartFromRun(workdir="run", part="eyes", scope="encoder")
    assert moved({"eyes": {"kernel": np.zeros(5)}})["eyes"]["kernel"].sum() == 5
    with pytest.raises(
        ValueError, match=r"scope='eyes'\): run has no such part; it has decoder, enc"
    ):
        PartFromRun(workdir="run", scope="eyes")({"kernel": np.zeros(5)})
    with pytest.raises(ValueError, match="no params/encoder/bias, which the model has"):
        PartFromRun(workdir="run", scope="encoder")({"bias": np.zeros(5)})


@pytest.mark.parametrize(
    "part, params, words",
    [
        ("part", {"part": {"decoder": {"kernel": np.zeros(4)}}}, "kernel of shape"),
        ("part", {"part": {"head": {"kernel": np.zeros(4)}}}, "has no params/head"),
        ("part", {"other": {}}, "the model has no such part; it has other"),
    ],
)
def test_a_part_of_other_choices_is_refused_in_words(part, params, words, monkeypatch):
    monkeypatch.setattr(from_run, "load_variables", lambda workdir, step: FOUND)
    with pytest.raises(ValueError, match=words):
        PartFromRun(workdir="run", part=part)(params)
