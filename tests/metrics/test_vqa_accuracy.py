"""The official VQA accuracy and its oddities (INVARIANTS 42), by hand."""

import pytest

from tests.invariants import question_checks
from vlm_jax.metrics.base import score, total
from vlm_jax.metrics.vqa_accuracy import VqaAccuracy
from vlm_jax.text.normalize import vqa_answer

NORMALISED = {
    "The red T-shirt.": "red t shirt",
    "two, or 3": "2 or 3",
    "Yes!": "yes",
    "none": "0",
    "Ten": "10",
    "eleven": "eleven",
    "an apple and a pear": "apple and pear",
    "the": "",
    "": "",
    "1,000": "1000",
    "1,000-2": "10002",  # a comma between digits: every mark goes, and no space comes
    "3.5": "3.5",
    ".5": ".5",
    "3.": "3",
    "a.m.": "am",
    "10:30": "10:30",
    "red/white": "red white",
    "red / white": "red white",
    "red /white/blue": "red whiteblue",  # beside a space once: goes everywhere
    "new-york , usa": "new york usa",
    "a/b": "b",
    'say "hi" {now}': "say hi now",
    "dont know": "don't know",
    "Im": "im",
    "well": "well",
    "it's": "it's",
    "whats": "what's",
    "twas": "'twas",
    "shouldnt've": "shouldn't've",
    "shouldn'tve": "shouldn't've",
    "shouldntve": "shouldntve",
    "yall'll": "y'all'll",
    "y'allll": "y'all'll",
    "y'alld've": "y'all'd've",
    "'ows'at": "'ow's'at",
    "somebody'd": "somebodyd",
}


@pytest.mark.parametrize("answer, expected", NORMALISED.items())
def test_an_answer_is_normalised_as_the_official_script_does(answer, expected):
    assert vqa_answer(answer) == expected


def test_normalising_twice_is_not_normalising_once():
    once = vqa_answer("." * 40 + "x")
    assert once == "." * 8 + "x" and vqa_answer(once) == "x"


def test_a_long_hostile_answer_takes_no_time():
    vqa_answer("1,a.-' " * 20_000)


@pytest.mark.parametrize("check", question_checks.VQA_CHECKS, ids=lambda c: c.__name__[6:])
def test_vqa_accuracy(check):
    check()


def test_the_corpus_is_the_mean_over_questions_in_any_order():
    metric = VqaAccuracy()
    people = {1: ("red",) * 10, 2: ("blue",) * 2 + ("green",) * 8}
    found = score(metric, {1: "red", 2: "blue"}, people)
    assert found == pytest.approx({"vqa_accuracy": 100 * (1 + 0.6) / 2})
    stats = [metric.stats("blue", people[2]), metric.stats("red", people[1])]
    assert metric.result(total(stats)) == found
    with pytest.raises(ValueError, match="no answers"):
        metric.stats("red", ())
