"""Vectors of a file in the rows of an embedding table."""

import dataclasses

import numpy as np
import pytest

from experiments import text_cnn
from vlm_jax import config
from vlm_jax.data.source import Rows
from vlm_jax.pretrained.word_vectors import WordVectors
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.text.word_vectors import write_glove
from vlm_jax.train.loop import train

CORPUS = Rows(names=("sentence",), rows=(("a dog a cat a bird a dog a cat a dog",),))
TOKENIZER = WordTokenizer(corpus=CORPUS, vocab_size=10, texts="sentence")  # a dog cat bird


@pytest.fixture
def given(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32) * 5
    write_glove(tmp_path / "v.txt", ("dog", "whale", "a"), vectors)
    rng = np.random.default_rng(1)
    params = {
        "text_encoder": {"embedding": {"table": rng.normal(size=(10, 4)).astype(np.float32)}},
        "linear": {"kernel": np.ones((4, 2), np.float32)},
    }
    return WordVectors(file=str(tmp_path / "v.txt"), tokenizer=TOKENIZER), vectors, params


def test_words_get_their_vectors_and_the_others_their_deviation(given, capsys):
    weights, vectors, params = given
    found = weights(params)
    table, before = (
        np.array(found["text_encoder"]["embedding"]["table"]),
        params["text_encoder"]["embedding"]["table"],
    )
    assert TOKENIZER.vocabulary[4:] == ("a", "dog", "cat", "bird")
    np.testing.assert_array_equal(table[[4, 5]], vectors[[2, 0]])
    scale = vectors[[0, 2]].std() / before.std()
    others = [0, 1, 2, 3, 6, 7, 8, 9]
    np.testing.assert_allclose(table[np.array(others)], before[others] * scale, rtol=1e-5)
    assert found["linear"] == params["linear"]
    assert "v.txt: vectors of 2 of 4 words (50.0%); without: cat, bird" in capsys.readouterr().err
    assert config.from_json(config.to_json(weights)) == weights


def test_what_does_not_fit_is_refused(given, tmp_path, monkeypatch):
    weights, _, params = given
    with pytest.raises(
        ValueError, match="rule 'no_such' finds no parameter.*text_encoder/embedding"
    ):
        dataclasses.replace(weights, parameter="no_such")(params)
    narrow = {"embedding": {"table": np.ones((10, 3), np.float32)}}
    with pytest.raises(
        ValueError, match=r"vectors of 4 numbers for 8 words, embedding/table is \(10, 3\)"
    ):
        weights(narrow)
    write_glove(tmp_path / "other.txt", ("whale",), np.ones((1, 4)))
    with pytest.raises(ValueError, match="has none of the 8 words .* such as a, dog, cat, bird"):
        dataclasses.replace(weights, file=str(tmp_path / "other.txt"))(params)
    monkeypatch.setenv("VLM_JAX_DATA", str(tmp_path))
    assert dataclasses.replace(weights, file="v.txt")._path() == tmp_path / "v.txt"
    with pytest.raises(FileNotFoundError, match="absent.txt is not there"):
        dataclasses.replace(weights, file="absent.txt")(params)


def test_static_vectors_stay_what_the_file_says_and_others_are_trained(tmp_path):
    experiment = text_cnn.smoke()
    tokenizer = experiment.train_data.transforms[0].tokenizer
    vectors = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    write_glove(tmp_path / "v.txt", ("film", "fine"), vectors)
    begin = WordVectors(file=str(tmp_path / "v.txt"), tokenizer=tokenizer)
    frozen = text_cnn.static().optimizer.frozen
    rows = np.array([tokenizer.encode(word)[0] for word in ("film", "fine")])
    for rules in (frozen, ()):
        optimizer = dataclasses.replace(experiment.optimizer, frozen=rules)
        made = dataclasses.replace(experiment, init_params=begin, optimizer=optimizer)
        state = train(dataclasses.replace(made, evaluations=()))
        table = np.array(state.params["text_encoder"]["embedding"]["table"])[rows]
        assert (table == vectors).all() == bool(rules)
        np.testing.assert_allclose(table, vectors, atol=0.02)
