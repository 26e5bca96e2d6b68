"""WUPS over a WordNet of ten meanings, and over the real one where it is."""

import pytest

from tests.invariants import question_checks
from tests.metrics.tiny_wordnet import write_wordnet
from vlm_jax.metrics import wups
from vlm_jax.metrics.base import score
from vlm_jax.metrics.wups import Wups
from vlm_jax.text import wordnet
from vlm_jax.text.wordnet import WordNet, find_wordnet


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return WordNet(write_wordnet(tmp_path_factory.mktemp("wordnet")))


def similarity(net, one, other):
    return max(
        (net.similarity(a, b) for a in net.meanings(one) for b in net.meanings(other)), default=0
    )


@pytest.mark.parametrize(
    "one, other, expected",
    [
        ("chair", "table", 2 * 3 / (1 + 1 + 2 * 3)),  # by furniture, the root's depth being 1
        ("chair", "dog", 2 * 2 / (2 + 2 + 2 * 2)),
        ("chair", "furniture", 2 * 3 / (1 + 0 + 2 * 3)),
        ("chair", "seat", 1.0),  # one meaning
        ("chair", "entity", 2 * 1 / (3 + 0 + 2 * 1)),
        ("dog", "fido", 2 * 4 / (0 + 1 + 2 * 4)),  # an instance
        ("meal", "table", 1.0),  # the other meaning of table
        ("futon", "chair", 2 * 3 / (1 + 1 + 2 * 3)),  # two ways up: the one that meets lower
        ("futon", "entity", 2 * 1 / (1 + 0 + 2 * 1)),  # the shorter one
        ("chairs", "chair", 1.0),
        ("Geese", "goose", 1.0),
        ("garbage bin", "garbage_bin", 1.0),
        ("island", "chair", 0.0),  # nothing above both
        ("nonsense", "chair", 0.0),
    ],
)
def test_the_similarity_of_wu_and_palmer_by_hand(tiny, one, other, expected):
    assert similarity(tiny, one, other) == pytest.approx(expected)
    assert similarity(tiny, other, one) == pytest.approx(expected)


@pytest.mark.parametrize("check", question_checks.WUPS_CHECKS, ids=lambda c: c.__name__[6:])
def test_wups(check):
    check()


def test_without_wordnet_there_is_no_number_and_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("VLM_JAX_DATA", str(tmp_path))
    monkeypatch.setattr(wordnet, "DEBIAN", str(tmp_path / "none"))
    wups._warn.cache_clear()
    assert score(Wups(), {1: "chair", 2: "table"}, {1: ["chair"], 2: ["chair"]}) == {}
    assert "WUPS is not run" in caplog.text and "data.noun" in caplog.text
    with pytest.raises(FileNotFoundError, match="index.noun is missing"):
        WordNet(tmp_path)


@pytest.mark.skipif(find_wordnet() is None, reason="WordNet is not in $VLM_JAX_DATA/wordnet")
def test_the_real_wordnet_has_the_known_similarities():
    net = WordNet(find_wordnet())
    assert len(net.meanings("dog")) == 7 and net.meanings("dogs") == net.meanings("dog")
    dog, cat = net.meanings("dog")[0], net.meanings("cat")[0]
    assert net.similarity(dog, cat) == pytest.approx(2 * 12 / 28)  # 0.857, widely quoted
