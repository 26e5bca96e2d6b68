"""What must hold of questions, of their answers, and of how answers are scored. Each check takes nothing."""

import functools
import tempfile
from fractions import Fraction
from pathlib import Path
from unittest import mock

import numpy as np

from tests.metrics.tiny_wordnet import write_wordnet
from vlm_jax.metrics import wups
from vlm_jax.metrics.base import score
from vlm_jax.metrics.vqa_accuracy import VqaAccuracy
from vlm_jax.metrics.wups import Wups
from vlm_jax.text import normalize

# ---- the official accuracy


def _share(prediction, people):
    return VqaAccuracy().stats(prediction, people).right


def check_three_of_ten_are_nine_tenths():
    expected = [0, Fraction(3, 10), Fraction(6, 10), Fraction(9, 10), 1, 1, 1, 1, 1, 1]
    for same, share in enumerate(expected):
        people = ("red",) * same + tuple(f"other {i}" for i in range(10 - same))
        assert _share("red", people) == share, same
    assert _share("red", ("red",) * 10) == 1
    assert _share("red", ("blue",) * 10) == 0


def check_the_share_is_the_loop_of_the_official_script():
    rng = np.random.default_rng(0)
    words = ("red", "Red.", "the red", "blue", "2", "two", "T-shirt", "t shirt")
    for _ in range(300):
        people = tuple(rng.choice(words, rng.integers(1, 11)))
        prediction = str(rng.choice(words))
        given, answers = prediction, people
        if len(set(people)) > 1:
            given = normalize.vqa_answer(prediction)
            answers = [normalize.vqa_answer(each) for each in people]
        each = []
        for i in range(len(answers)):
            others = [answer for j, answer in enumerate(answers) if j != i]
            each.append(min(1.0, sum(answer == given for answer in others) / 3))
        assert abs(float(_share(prediction, people)) - sum(each) / len(each)) < 1e-12


def check_where_all_agree_nothing_is_normalised():
    assert _share("T-shirt", ("T-shirt",) * 10) == 1
    assert _share("t shirt", ("T-shirt",) * 10) == 0
    assert _share("two", ("two",) * 10) == 1
    assert _share("2", ("two",) * 10) == 0
    assert _share(" two\n", ("two\t",) * 10) == 1
    assert _share("T-Shirt.", ("T-shirt",) * 9 + ("shirt",)) == 1
    assert _share("2", ("two",) * 9 + ("3",)) == 1


def check_answers_are_normalised_once():
    people = ("." * 40 + "x",) * 3 + ("y",) * 7
    assert _share("." * 8 + "x", people) == 0  # each loses 32 periods, once
    assert _share("." * 40 + "x", people) == Fraction(9, 10)


VQA_CHECKS = (
    check_three_of_ten_are_nine_tenths,
    check_the_share_is_the_loop_of_the_official_script,
    check_where_all_agree_nothing_is_normalised,
    check_answers_are_normalised_once,
)

# ---- WUPS


@functools.cache
def _folder():
    return str(write_wordnet(Path(tempfile.mkdtemp(prefix="wordnet_"))))


def _wups(prediction, truth):
    """(at 0.9, at 0.0) of one question, over the tiny WordNet."""
    for cached in (wups._score, wups._similarity, wups._wordnet):
        cached.cache_clear()
    with mock.patch.object(wups, "find_wordnet", _folder):
        found = score(Wups(), {1: prediction}, {1: (truth,)})
    return tuple(found[name] / 100 for name in ("wups_0.9", "wups_0.0"))


def check_wups_by_hand():
    expected = {
        ("chair", "chair"): (1.0, 1.0),
        ("chair", "table"): (0.075, 0.75),  # below the threshold: a tenth
        ("seat", "chair"): (1.0, 1.0),
        ("chair", "dog"): (0.05, 0.5),
        ("nonsense", "nonsense"): (1.0, 1.0),
        ("nonsense", "chair"): (0.0, 0.0),
        ("chair, table", "chair"): (0.075, 0.75),  # table is covered by chair
        ("chair", "chair, table"): (0.075, 0.75),  # and the other way round
        ("table, chair", "chair, table"): (1.0, 1.0),
        ("chair, dog", "table, dog"): (0.075, 0.75),
        ("dog, dog", "chair, table"): (0.0025, 0.25),  # a product, not a mean
        ("", "chair"): (0.0, 0.0),
        ("fido", "dog"): (0.1 * 8 / 9, 8 / 9),
    }
    for (prediction, truth), values in expected.items():
        np.testing.assert_allclose(
            _wups(prediction, truth), values, err_msg=f"{prediction} {truth}"
        )


def check_at_a_threshold_a_similarity_counts_whole():
    for cached in (wups._score, wups._similarity, wups._wordnet):
        cached.cache_clear()
    at = {t: wups._similarity("chair", "table", t, _folder()) for t in (0.7, 0.75, 0.76)}
    np.testing.assert_allclose([at[0.7], at[0.75], at[0.76]], [0.75, 0.75, 0.075])


WUPS_CHECKS = (check_wups_by_hand, check_at_a_threshold_a_similarity_counts_whole)
