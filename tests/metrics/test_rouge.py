"""ROUGE of summaries: values worked out by hand, several references, and that it is not the caption scorer's."""

import pytest

from vlm_jax.metrics.base import score, total
from vlm_jax.metrics.rouge import Rouge
from vlm_jax.metrics.rouge_l import RougeL

TWO_WORDS = ("the netting agreement", "agreement netting")


def test_f1_by_hand():
    """Five words against three. Shared: the, netting, agreement; one pair; in order all three."""
    found = score(
        Rouge(), {1: "the master netting agreement draft"}, {1: ["the netting agreement"]}
    )
    assert found["rouge_1"] == pytest.approx(100 * 2 * 3 / (5 + 3))
    assert found["rouge_2"] == pytest.approx(100 * 2 * 1 / (4 + 2))
    assert found["rouge_l"] == pytest.approx(100 * 2 * 3 / (5 + 3))


def test_order_counts_in_rouge_l_and_not_in_rouge_1():
    found = score(Rouge(), {1: TWO_WORDS[0]}, {1: [TWO_WORDS[1]]})
    assert found["rouge_1"] == pytest.approx(80) and found["rouge_2"] == 0
    assert found["rouge_l"] == pytest.approx(40)


def test_several_references_give_their_mean_and_the_best_of_them():
    references = ["netting agreement", "something else"]
    found = score(Rouge(), {1: "netting agreement"}, {1: references})
    assert found["rouge_1"] == pytest.approx(50) and found["rouge_1_best"] == pytest.approx(100)
    alone = [score(Rouge(), {1: "netting agreement"}, {1: [text]}) for text in references]
    for name in ("rouge_1", "rouge_2", "rouge_l"):
        assert found[name] == pytest.approx(sum(one[name] for one in alone) / 2)
        assert found[f"{name}_best"] == pytest.approx(max(one[name] for one in alone))
    assert not any(name.endswith("_best") for name in alone[0])


def test_case_punctuation_and_endings_do_not_count_but_without_the_stemmer_endings_do():
    examples = {1: "Re: MEETINGS, moved!"}, {1: ["re meeting moves"]}
    assert score(Rouge(), *examples)["rouge_1"] == pytest.approx(100)
    assert score(Rouge(stemmer=False), *examples)["rouge_1"] == pytest.approx(100 / 3)


def test_it_is_not_the_rouge_l_of_captions():
    """Which recall weighs more, and which keeps endings."""
    texts = {1: "the meetings"}, {1: ["the meeting room"]}
    ours, captions = score(Rouge(), *texts)["rouge_l"], score(RougeL(), *texts)["rouge_l"]
    assert ours == pytest.approx(80) and captions != pytest.approx(ours)


@pytest.mark.parametrize("text", ["", " \n", "\0", "\ud83d", "🙂", "<eos>", "word " * 10_000])
def test_hostile_texts_are_scored(text):
    found = score(Rouge(), {1: text}, {1: ["a word", text[:50], ""]})
    assert all(0 <= value <= 100 for value in found.values())


def test_order_and_shards_change_no_bit():
    parts = [
        Rouge().stats(prediction, references)
        for prediction, references in (
            ("a b c", ["a b", "c"]),
            ("a", ["a b c d e f g"]),
            ("x y", ["y x", "z"]),
            ("", ["a"]),
        )
    ]
    whole = Rouge().result(total(parts))
    assert Rouge().result(total(parts[::-1])) == whole
    assert Rouge().result(total([total(parts[:1]), total(parts[1:])])) == whole


def test_two_of_them_in_a_task_are_told_apart_by_their_prefix():
    metric = Rouge(reference="annotations", prefix="annotators_")
    assert score(metric, {1: "a"}, {1: ["a"]}) == {
        "annotators_rouge_1": 100,
        "annotators_rouge_2": 0,
        "annotators_rouge_l": 100,
    }
    assert "porter" in metric.signature()
    assert metric.signature() != Rouge(stemmer=False).signature()


def test_no_references_and_a_lone_text_are_refused():
    for references in ([], "a text"):
        with pytest.raises(ValueError, match="expected a sequence of at least one text"):
            Rouge().stats("a", references)
