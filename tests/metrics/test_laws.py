"""What holds for every corpus: INVARIANTS 40 and 41."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics import corpora
from vlm_jax.metrics.base import score, total
from vlm_jax.metrics.bleu import Bleu
from vlm_jax.metrics.captioning import CaptionMetrics
from vlm_jax.metrics.cider import Cider, PlainCider
from vlm_jax.metrics.distinct import Distinct
from vlm_jax.metrics.endings import Endings
from vlm_jax.metrics.lengths import Lengths
from vlm_jax.metrics.novelty import Novelty
from vlm_jax.metrics.rouge_l import RougeL

EVERYTHING = CaptionMetrics(
    metrics=(
        *CaptionMetrics().metrics,
        PlainCider(),
        Distinct(),
        Lengths(),
        Endings(),
        Novelty(training=("a dog runs on grass",)),
    )
)
TEXT = st.lists(st.sampled_from("a a the dog dogs cat runs on red . can't".split()), max_size=9)
TEXTS = TEXT.map(" ".join)
CORPORA = st.lists(
    st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=4)), min_size=1, max_size=9
)


def statistics(examples):
    return [EVERYTHING.stats(prediction, references) for prediction, references in examples]


@given(CORPORA, st.randoms(use_true_random=False))
@settings(derandomize=True, max_examples=60, deadline=None)
def test_order_and_shards_change_no_bit(examples, draw):
    parts = statistics(examples)
    whole = EVERYTHING.result(total(parts))
    shards = [part for part in (parts[0::3], parts[1::3], parts[2::3]) if part]
    assert EVERYTHING.result(total(map(total, shards))) == whole
    assert EVERYTHING.result(sum(parts)) == whole
    draw.shuffle(parts)
    assert EVERYTHING.result(total(parts)) == whole


def test_the_mean_of_shards_is_another_number():
    """So the test above can fail: corpus scores are not means."""
    parts = statistics(zip(*(part.values() for part in corpora.BY_HAND["many references"])))
    parts += statistics(zip(*(part.values() for part in corpora.BY_HAND["too short"])))
    whole = EVERYTHING.result(total(parts))
    halves = [EVERYTHING.result(total(half)) for half in (parts[:2], parts[2:])]
    for name in ("bleu_1", "bleu_4", "cider", "distinct_1"):
        assert abs(whole[name] - sum(half[name] for half in halves) / 2) > 0.1, name


@given(CORPORA)
@settings(derandomize=True, max_examples=60, deadline=None)
def test_scores_stay_in_their_range(examples):
    scores = EVERYTHING.result(total(statistics(examples)))
    for name, value in scores.items():
        top = 1000 if "cider" in name else 100
        assert 0 <= value <= top + 1e-6, (name, value)


def test_a_perfect_prediction_scores_the_maximum():
    texts = ["a dog runs on grass", "two cats sleep in the sun", "one red bus is parked here"]
    scores = score(EVERYTHING, dict(enumerate(texts)), {i: [t] for i, t in enumerate(texts)})
    for name in ("bleu_1", "bleu_4", "rouge_l"):
        assert scores[name] == pytest.approx(100, abs=1e-5)
    for name in ("cider", "cider_d", "cider_plain"):
        assert scores[name] == pytest.approx(1000)


def test_references_scored_against_themselves_are_perfect_but_for_cider():
    """One of five references as the prediction: n-gram precision and ROUGE-L are full, CIDEr is
    the agreement among the references, a property of the data and not an upper bound."""
    predictions, references = corpora.BY_HAND["perfect"]
    scores = score(EVERYTHING, predictions, references)
    assert scores["bleu_1"] == pytest.approx(100, abs=1e-5)
    assert scores["rouge_l"] == pytest.approx(100)
    assert 0 < scores["cider"] < 1000


def test_an_empty_prediction_scores_zero():
    scores = score(EVERYTHING, {1: "", 2: " . "}, {1: ["a dog"], 2: ["a cat"]})
    assert scores.pop("empty") == 100 and scores.pop("novelty") == 100
    assert scores.pop("reference_length") == 2
    assert set(scores.values()) == {0.0}


def test_references_without_words_are_no_crash():
    """The official CIDEr stops here: no reference has a word."""
    scores = score(EVERYTHING, {1: "a dog", 2: ""}, {1: [""], 2: ["."]})
    assert scores["cider"] == 0.0
    assert scores["rouge_l"] == 50.0  # officially nothing matches nothing


@given(CORPORA, TEXTS)
@settings(derandomize=True, max_examples=60, deadline=None)
def test_another_reference_never_lowers_matches_or_rouge(examples, text):
    for prediction, references in examples:
        before, after = (
            Bleu().stats(prediction, texts) for texts in (references, [*references, text])
        )
        assert all(after.correct[n] >= before.correct[n] for n in (1, 2, 3, 4))
        rouge = RougeL()
        assert (
            rouge.stats(prediction, [*references, text]).total
            >= rouge.stats(prediction, references).total
        )


@given(CORPORA)
@settings(derandomize=True, max_examples=30, deadline=None)
def test_what_the_tokeniser_drops_changes_no_score(examples):
    noisy = [
        (f"  {p.upper()} . \n", [f"{r.capitalize()} ;" for r in texts]) for p, texts in examples
    ]
    assert EVERYTHING.result(total(statistics(noisy))) == EVERYTHING.result(
        total(statistics(examples))
    )


def test_a_thousand_images_are_scored_within_two_seconds():
    import time

    draw = random.Random(0)
    words = [f"w{i}" for i in range(300)]

    def caption():
        return " ".join(draw.choices(words, k=11)) + " ."

    predictions = {i: caption() for i in range(1000)}
    references = {i: [caption() for _ in range(5)] for i in range(1000)}
    begin = time.process_time()
    score(CaptionMetrics(), predictions, references)
    assert time.process_time() - begin < 2  # 0.8 s measured


def test_a_caption_of_ten_thousand_words_is_scored():
    long = "dog cat " * 5000
    parts = [EVERYTHING.stats(long, ["a dog", long]), EVERYTHING.stats("a", ["a cat"])]
    assert EVERYTHING.result(total(parts))["rouge_l"] == pytest.approx(
        50 + 50 * 2.44 * 0.5 / (0.5 + 1.44)
    )
    assert Cider().scores(Cider().stats(long, [long])) == [0.0]
