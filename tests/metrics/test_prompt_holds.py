"""PromptHolds counts what the judge finds in a picture, and its statistics add."""

import numpy as np
import pytest

from tests.text.test_scene_reader import drawn
from vlm_jax.metrics.base import total
from vlm_jax.metrics.prompt_holds import PlanHolds, PromptHolds
from vlm_jax.text.scene_reader import read_scene

PICTURE = drawn(("circle", "red", 12, 12, 9), ("square", "blue", 44, 44, 5))


def of(*prompts):
    metric = PromptHolds()
    return metric.result(total(metric.stats(PICTURE, (prompt,)) for prompt in prompts))


def test_a_prompt_that_is_true_and_names_every_object_holds():
    found = of("a red circle left of a small blue square")
    assert found == {"prompt_holds": 100, "prompt_facts": 100, "prompt_holds_2": 100}


def test_an_object_too_many_breaks_the_prompt_and_none_of_its_facts():
    assert of("a red circle") == {"prompt_holds": 0, "prompt_facts": 100, "prompt_holds_1": 0}


def test_a_colour_that_the_prompt_leaves_open_may_be_any():
    """A caption would have to say it (text.scene_judge); a prompt is held against its picture."""
    prompts = (
        "a circle and a square",
        "a large circle above a blue square",
        "two objects a circle and a square",
    )
    assert all(of(prompt)["prompt_holds"] == 100 for prompt in prompts)
    assert of("a circle")["prompt_holds"] == 0  # there is another object
    assert PlanHolds().stats(read_scene(PICTURE), ("a circle and a square",)).holding == 1


def test_facts_by_hand_and_prompts_by_their_number_of_objects():
    # red circle, its size (wrong), blue square, and left of it; then one of two objects, and no third.
    found = of("a small red circle left of a blue square", "a red circle and a green square")
    assert found["prompt_facts"] == pytest.approx(100 * (3 + 1) / (4 + 2))
    found = of("a red circle and a blue square", "two red circles and a star", "a blue star")
    assert found["prompt_holds"] == pytest.approx(100 / 3)
    assert (found["prompt_holds_1"], found["prompt_holds_2"], found["prompt_holds_3"]) == (
        0,
        100,
        0,
    )


def test_what_is_no_prompt_of_the_language_does_not_hold():
    assert of("", "ein roter Kreis") == {"prompt_holds": 0, "prompt_facts": 0}


def test_a_plan_is_held_against_its_prompt_and_no_plan_holds_nothing():
    metric = PlanHolds()
    scene = read_scene(PICTURE)
    prompts = ("a red circle left of a small blue square", "a red circle", "a red square")
    stats = [metric.stats(scene, (prompt,)) for prompt in prompts]
    assert [each.holding for each in stats] == [1, 0, 0]
    found = metric.result(total([*stats, metric.stats(None, ("a red circle",))]))
    assert found == {"plan_holds": 25}
    with pytest.raises(ValueError, match="given 2 prompts for one picture"):
        metric.stats(scene, ("a red circle", "a star"))


def test_another_picture_and_other_references_are_refused_by_what_they_are():
    with pytest.raises(ValueError, match="is no scene, expected uint8"):
        PromptHolds().stats(np.zeros((28, 28, 1), np.uint8), ("a red circle",))
    with pytest.raises(ValueError, match="given 2 prompts for one picture"):
        PromptHolds().stats(PICTURE, ("a red circle", "a star"))
