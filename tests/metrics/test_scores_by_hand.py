"""Numbers that one can check with a pencil."""

import dataclasses
import math

import pytest

from vlm_jax.metrics.base import score, total
from vlm_jax.metrics.bleu import Bleu
from vlm_jax.metrics.captioning import CaptionMetrics
from vlm_jax.metrics.cider import Cider, PlainCider
from vlm_jax.metrics.distinct import Distinct
from vlm_jax.metrics.endings import Endings
from vlm_jax.metrics.lengths import Lengths
from vlm_jax.metrics.novelty import Novelty
from vlm_jax.metrics.rouge_l import RougeL, common_subsequence
from vlm_jax.metrics.words import split_words


def one(metric, prediction, *references):
    return metric.result(metric.stats(prediction, references))


def test_bleu_clips_to_the_reference_that_has_it_most():
    """Papineni et al., section 2.1: 'the' seven times, twice in the first reference."""
    scores = one(
        Bleu(), "the the the the the the the", "the cat is on the mat", "there is a cat on the mat"
    )
    assert scores["bleu_1"] == pytest.approx(100 * 2 / 7)
    assert scores["bleu_2"] == pytest.approx(0, abs=1e-4)


def test_bleu_is_the_geometric_mean_of_precisions():
    scores = one(Bleu(), "a b c d x", "a b c d y")  # 4/5, 3/4, 2/3, 1/2
    assert scores["bleu_4"] == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_bleu_penalises_short_predictions_against_the_closest_reference():
    scores = one(Bleu(), "a b c", "a b c d", "a b c d e f g h i j")
    assert scores["bleu_1"] == pytest.approx(100 * math.exp(1 - 4 / 3), abs=1e-6)


def test_bleu_takes_the_shorter_of_two_equally_close_references():
    metric = Bleu()
    assert metric.stats("a b c d e", ["a b c d e f", "a b c d"]).reference_length == 4
    assert metric.stats("a b c d e", ["a b c d", "a b c d e f"]).reference_length == 4


def test_bleu_sums_counts_over_the_corpus_before_it_divides():
    scores = score(Bleu(), {1: "a b c d", 2: "x"}, {1: ["a b c d"], 2: ["y"]})
    assert scores["bleu_1"] == pytest.approx(100 * 4 / 5)


def test_rouge_l_weighs_the_best_precision_and_the_best_recall():
    scores = one(RougeL(), "a dog runs fast", "a dog runs", "dogs run")  # 3/4 and 3/3
    assert scores["rouge_l"] == pytest.approx(100 * 2.44 * 0.75 / (1 + 1.44 * 0.75))


def test_rouge_l_maximises_precision_and_recall_separately():
    """Precision 1 of the long reference, recall 1 of the short one."""
    assert one(RougeL(), "a b", "a", "a x b y z w")["rouge_l"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("first", "second", "length"),
    [
        ("abcde", "ace", 3),
        ("abc", "", 0),
        ("abc", "xyz", 0),
        ("aab", "aba", 2),
        ("ba" * 40, "a" * 50, 40),
    ],
)
def test_common_subsequence(first, second, length):
    assert common_subsequence(first, second) == common_subsequence(second, first) == length


def test_cider_is_ten_times_the_mean_cosine_of_four_orders():
    """Two images, every n-gram in one of them. 'x y': orders 1 and 2 agree, 3 and 4 are empty:
    10 * 2/4. 'v w' and 'v z': cosine 1/2 in order 1 only: 10 * 1/8."""
    scores = score(Cider(), {1: "x y", 2: "v w"}, {1: ["x y"], 2: ["v z"]})
    assert scores["cider"] == pytest.approx(100 * (5 + 1.25) / 2)
    assert scores["cider_d"] == scores["cider"]


def test_cider_clips_what_is_repeated_and_plain_cider_does_not():
    """'x x' for 'x y': weight 2 clipped to 1, norms 2 and sqrt 2. The bigrams differ."""
    corpus = {1: "x x", 2: "q"}, {1: ["x y"], 2: ["p"]}
    assert score(Cider(), *corpus)["cider"] == pytest.approx(1000 / 4 / math.sqrt(8) / 2)
    assert score(PlainCider(), *corpus)["cider_plain"] == pytest.approx(
        1000 / 4 * 2 / math.sqrt(8) / 2
    )


def test_cider_penalises_a_difference_in_length_by_a_gaussian():
    """Seven words for one: officially six bigrams for none; exp(-36 / (2 * 36))."""
    corpus = {1: "t u v w x y z", 2: "q"}, {1: ["t"], 2: ["p"]}
    plain = 1000 / 4 / math.sqrt(7) / 2
    assert score(PlainCider(), *corpus)["cider_plain"] == pytest.approx(plain)
    assert score(Cider(), *corpus)["cider"] == pytest.approx(plain * math.exp(-0.5))


def test_cider_weighs_words_by_how_few_images_have_them():
    """'dog' is in every image's references and weighs log(2/2) = 0: it neither helps nor hurts."""
    scores = score(Cider(), {1: "dog x", 2: "cat"}, {1: ["x dog"], 2: ["dog"]})
    assert scores["cider"] == pytest.approx(1000 / 4 / 2)  # order 1 of image 1 agrees fully


def test_cider_of_one_image_is_zero():
    assert one(Cider(), "a dog runs on grass", "a dog runs on grass")["cider"] == 0.0


def test_cider_of_each_image_comes_in_the_order_of_the_statistics():
    metric = Cider()
    parts = [metric.stats("x y", ["x y"]), metric.stats("v w", ["v z"])]
    assert metric.scores(total(parts)) == pytest.approx([500, 125])
    assert metric.scores(total(parts[::-1])) == pytest.approx([125, 500])


def test_distinct_counts_over_all_predictions():
    scores = score(Distinct(), {1: "a dog runs", 2: "a dog sits"}, {1: ["x"], 2: ["x"]})
    assert scores == {"distinct_1": pytest.approx(400 / 6), "distinct_2": pytest.approx(300 / 4)}
    assert one(Distinct(), "", "x") == {"distinct_1": 0.0, "distinct_2": 0.0}


def test_lengths():
    scores = score(Lengths(), {1: "a dog runs.", 2: "."}, {1: ["one", "one two"], 2: ["one"]})
    assert scores == {"length": 1.5, "reference_length": pytest.approx(4 / 3), "empty": 50.0}


@dataclasses.dataclass(frozen=True)
class Train:
    """A Source as far as a metric cares."""

    split: str = "train"

    @property
    def references(self):
        return {7: {"captions": ("A dog runs.", "Two cats")}, 8: {"captions": ("A cow",)}}


@pytest.mark.parametrize("training", [("A dog runs.", "Two cats", "A cow"), Train()])
def test_novelty_compares_words_with_the_training_captions(training):
    metric = Novelty(training=training)
    predictions = {1: "a dog runs", 2: "two cats .", 3: "two dogs", 4: "cow a"}
    assert score(metric, predictions, {i: ["x"] for i in predictions}) == {"novelty": 50.0}
    assert hash(metric) == hash(Novelty(training=training))


def test_novelty_refuses_one_string_for_a_corpus():
    with pytest.raises(TypeError, match="tuple of captions"):
        one(Novelty(training="a dog runs"), "a dog runs", "x")


def test_a_metric_without_references_says_what_is_missing():
    for references in ([], "a dog"):
        with pytest.raises(ValueError, match="at least one"):
            Bleu().stats("a dog", references)


def test_the_bundle_tokenises_each_text_once_and_scores_as_its_metrics_do():
    seen = []

    def split(text):
        seen.append(text)
        return text.split()

    corpus = {1: "x y", 2: "v w"}, {1: ["x y", "x"], 2: ["v z"]}
    bundle = score(CaptionMetrics(tokenize=split), *corpus)
    assert sorted(seen) == sorted(["x y", "v w", "x y", "x", "v z"])
    alone = {}
    for metric in (Bleu(tokenize=split), RougeL(tokenize=split), Cider(tokenize=split)):
        alone |= score(metric, *corpus)
    assert bundle == alone
    assert list(bundle) == ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider", "cider_d"]


def test_the_signature_names_metrics_tokeniser_and_version():
    from vlm_jax import __version__

    assert CaptionMetrics().signature() == (
        f"bleu+rougel+cider|tokeniser:ptb-corenlp-3.4.1-lowercase-nopunct|vlm_jax:{__version__}"
    )
    assert "|tokeniser:builtins.str.split|" in Bleu(tokenize=str.split).signature()
    assert "|tokeniser:vlm_jax.metrics.words.split_words|" in Bleu(tokenize=split_words).signature()


def test_endings_count_captions_that_stop_short_and_that_say_a_thing_twice():
    written = ["a dog with a", "a dog on a red ball .", "a red dog and a red dog", "a a dog", ""]
    stats = total(Endings().stats(text, ("a dog",)) for text in written)
    assert Endings().result(stats) == {"bad_endings": 20, "repeating": 40}
