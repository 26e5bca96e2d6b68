"""SceneFacts counts what the judge finds, and its statistics add."""

import pytest

from vlm_jax.metrics.base import score, total
from vlm_jax.metrics.scene_facts import SceneFacts
from vlm_jax.text.scene_judge import Scene, SceneObject

SCENE = Scene(
    objects=(
        SceneObject(shape="circle", color="red", size="small", x=10, y=10, radius=5),
        SceneObject(shape="square", color="blue", size="large", x=40, y=44, radius=10),
    )
).to_json()


def of(*captions):
    predictions = dict(enumerate(captions))
    return score(SceneFacts(), predictions, {i: (SCENE,) for i in predictions})


def test_a_true_and_complete_caption_scores_one_hundred_everywhere():
    expected = {"facts_right": 100, "facts_precision": 100, "facts_recall": 100, "parsed": 100}
    assert of("a small red circle and a blue square") == expected


def test_an_incomplete_caption_is_precise_and_not_right():
    expected = {"facts_right": 0, "facts_precision": 100, "facts_recall": 50, "parsed": 100}
    assert of("a small red circle") == expected


def test_one_wrong_fact_of_four_by_hand():
    # red circle, its size (wrong), blue square, and that it is below: three of four.
    result = of("a large red circle above a blue square")
    assert result == {"facts_right": 0, "facts_precision": 75, "facts_recall": 100, "parsed": 100}


def test_saying_nothing_scores_nothing():
    assert set(of("", "a picture of objects", "nonsense").values()) == {0.0}


def test_vacuous_captions_do_not_score():
    assert of("a circle and a square")["facts_right"] == 0  # true, without the colours
    assert of("a circle and a square")["facts_recall"] == 0


def test_the_corpus_is_the_sum_in_any_order():
    captions = ["a red circle", "a red circle and a blue square", "no", "a blue square", "a star"]
    metric = SceneFacts()
    stats = [metric.stats(caption, (SCENE,)) for caption in captions]
    assert total(stats) == total(stats[::-1]) == sum(stats)
    result = metric.result(total(stats))
    assert result["facts_right"] == pytest.approx(20)
    assert result["facts_precision"] == pytest.approx(80)
    assert result["facts_recall"] == pytest.approx(40)
    assert result["parsed"] == pytest.approx(80)


def test_references_that_are_no_scene_are_refused_by_what_they_say():
    with pytest.raises(ValueError, match="a dog on grass"):
        SceneFacts().stats("a red circle", ("a dog on grass",))
    with pytest.raises(ValueError, match="given 2"):
        SceneFacts().stats("a red circle", (SCENE, SCENE))
