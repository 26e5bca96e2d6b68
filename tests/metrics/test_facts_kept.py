"""What a caption still says of a prompt, counted by hand."""

import pytest

from vlm_jax.metrics.base import total
from vlm_jax.metrics.facts_kept import FactsKept


def of(prompt, *captions):
    metric = FactsKept()
    return metric.result(total(metric.stats(caption, (prompt,)) for caption in captions))


def test_the_prompt_itself_and_another_wording_keep_everything():
    prompt = "a red circle left of a small blue square"
    everything = {"facts_kept": 100, "prompts_kept": 100, "facts_repeated": 100}
    assert of(prompt, prompt) == everything
    other = "from left to right, a large red circle and a small blue square"
    assert of(prompt, other, "a blue square right of a red circle")["facts_kept"] == 100


TWO = "a red circle left of a small blue square"
PLACED = "a red circle at the top left"


@pytest.mark.parametrize(
    "prompt, caption, kept, facts",
    [
        (TWO, "a red circle and a blue star", 2, 3),  # circle and number
        (TWO, "a red circle", 1, 3),
        (TWO, "a red circle and a large blue square", 3, 4),  # not the size
        (TWO, "a red circle right of a blue square", 3, 4),  # not the relation
        (TWO, "a red circle above a blue square", 3, 3),  # which says nothing of left
        (TWO, "a red circle, a blue square and a star", 2, 3),
        (TWO, "no caption", 0, 3),
        (TWO, "", 0, 3),
        (PLACED, "a red circle", 2, 2),  # says nothing of where
        (PLACED, PLACED, 4, 4),
        (PLACED, "a red circle on the left", 3, 3),
        (PLACED, "a red circle on the right", 2, 3),
        (PLACED, "a red circle at the bottom left", 3, 4),
        (PLACED, "a red circle in the middle", 2, 4),
        ("a red circle in the middle", "a red circle at the top", 2, 3),
    ],
)
def test_facts_by_hand(prompt, caption, kept, facts):
    found = of(prompt, caption)
    assert found["facts_kept"] == pytest.approx(100 * kept / facts)
    assert found["prompts_kept"] == (100 if kept == facts else 0)


@pytest.mark.parametrize(
    "caption, kept",
    [(TWO, 5), ("a blue square and a red circle", 3), ("a red circle", 1), ("no caption", 0)],
)
def test_what_a_caption_leaves_out_is_not_repeated(caption, kept):
    """Two objects, their number, a size and a relation."""
    assert of(TWO, caption)["facts_repeated"] == pytest.approx(100 * kept / 5)


def test_twins_are_matched_in_the_captions_favour():
    prompt = "a small red circle and a large red circle"
    assert of(prompt, "a large red circle and a small red circle")["facts_kept"] == 100
    assert of(prompt, "two small red circles")["facts_kept"] == pytest.approx(80)


def test_the_corpus_divides_sums():
    metric = FactsKept()
    one = metric.stats("a red circle", ("a red circle",))  # 2 of 2
    two = metric.stats("a star", ("two red circles",))  # 0 of 3
    found = {"facts_kept": 40, "prompts_kept": 50, "facts_repeated": 40}
    assert metric.result(one + two) == found
    assert metric.result(one + metric.stats("a star", ("ein Kreis",)))["prompts_kept"] == 50
