"""The same numbers as pycocoevalcap, whose Python code is run beside ours."""

import json
import shutil
from pathlib import Path

import pytest

from tests.metrics import corpora
from tests.text import test_normalize
from vlm_jax.metrics.base import score, total
from vlm_jax.metrics.bleu import Bleu
from vlm_jax.metrics.captioning import CaptionMetrics
from vlm_jax.metrics.meteor import Meteor, require_meteor

needs_official = pytest.mark.skipif(
    not corpora.OFFICIAL, reason="pycocoevalcap (vlm_jax[coco-eval]) is not installed"
)
needs_data = pytest.mark.skipif(
    not corpora.DATA, reason="VLM_JAX_DATA is unset: no real captions to read"
)
needs_java = pytest.mark.skipif(not shutil.which("java"), reason="no Java runtime")


@needs_official
@pytest.mark.parametrize("name", corpora.BY_HAND)
def test_corpora_made_by_hand_score_as_officially(name):
    assert len(corpora.BY_HAND) == 30
    for metric, difference in corpora.largest_difference(corpora.BY_HAND[name]).items():
        assert difference <= 1e-6, metric


@needs_official
@needs_data
def test_a_thousand_random_corpora_score_as_officially():
    worst = dict.fromkeys(corpora.OFFICIAL_NAMES, 0.0)
    for seed in range(1000):
        for metric, difference in corpora.largest_difference(corpora.from_flickr8k(seed)).items():
            worst[metric] = max(worst[metric], difference)
    assert max(worst.values()) <= 1e-6, worst  # of numbers up to 1000; the target is 1e-2


def coco():
    read = {
        name: json.loads(Path(corpora.DATA, "coco_captions", f"{name}.json").read_text())
        for name in ("refs", "hyps", "expected")
    }
    return ({i: texts[0] for i, texts in read["hyps"].items()}, read["refs"]), read["expected"]


@needs_data
def test_coco_captions_score_as_the_official_scorer_printed():
    corpus, expected = coco()
    scores = corpora.ours(corpus)
    for ours, theirs in [
        ("bleu_1", "Bleu_1"),
        ("bleu_2", "Bleu_2"),
        ("bleu_3", "Bleu_3"),
        ("bleu_4", "Bleu_4"),
        ("rouge_l", "ROUGE_L"),
        ("cider", "CIDEr"),
    ]:
        assert scores[ours] / 100 == pytest.approx(expected[theirs], abs=5.01e-4), ours
    bleu = Bleu()
    stats = total(bleu.stats(corpus[0][i], corpus[1][i]) for i in corpus[0])
    orders = (1, 2, 3, 4)
    assert [stats.correct[n] for n in orders] == expected["correct"]
    assert [stats.guessed[n] for n in orders] == expected["guess"]
    assert (stats.length, stats.reference_length) == (expected["testlen"], expected["reflen"])


@needs_data
@needs_official
@needs_java
def test_coco_captions_score_as_the_official_code_on_javas_words(tmp_path):
    (predictions, references), _ = coco()
    texts = [*predictions.values(), *(text for texts in references.values() for text in texts)]
    words = map(" ".join, test_normalize.official(texts, tmp_path))
    theirs = corpora.official((predictions, references), dict(zip(texts, words)))
    ours = corpora.ours((predictions, references))
    for name in corpora.OFFICIAL_NAMES:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-6), name


@needs_official
@needs_java
def test_meteor_is_asked_through_the_official_program():
    """Once only: the program reads its paraphrases for seconds."""
    predictions = {1: "a dog runs", 2: "", 3: "A dog is running."}
    references = {1: ["a dog runs"], 2: ["a cat", "x"], 3: ["a dog runs", "the dog"]}
    metric = CaptionMetrics(meteor=True)
    found = score(metric, predictions, references)
    assert 0 < found.pop("meteor") < 100 and "meteor" in metric.signature()
    assert found == score(CaptionMetrics(), predictions, references)


def test_meteor_without_java_names_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="Java runtime"):
        require_meteor()
    with pytest.raises(RuntimeError, match="Java runtime"):
        Meteor().stats("a dog", ["a dog"])
