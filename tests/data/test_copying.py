"""The extended vocabulary of a text: rows by hand, their spelling, and hostile texts."""

import dataclasses

import numpy as np
import pytest

from vlm_jax import config
from vlm_jax.data.copying import MAX_BYTES, ExtendedTarget, ExtendedText, spelled
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import Rows
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.types import BOS, EOS, PAD, UNK


@dataclasses.dataclass(frozen=True)
class Corpus:
    @property
    def references(self):
        return {0: {"body": ("ask about deal", "ask about", "ask")}}


WORDS = WordTokenizer(corpus=Corpus(), texts="body", vocab_size=10)  # ask 4, about 5, deal 6
TEXT = ExtendedText(tokenizer=WORDS, max_length=8, num_slots=2)
TARGET = ExtendedTarget(tokenizer=WORDS, max_length=6)


def extended(body, subject="deal"):
    return TARGET(TEXT({"id": 0, "body": body, "subject": subject}))


def test_unknown_words_get_rows_of_their_own_in_the_order_in_which_they_come():
    example = extended("Ask Krista about Krista's deal, Krista!", "krista's unheard deal")
    assert example["text"].tolist() == [4, 10, 5, 11, 6, 10, PAD, PAD]
    assert spelled(example["spelling"]) == {0: "krista", 1: "krista's"}
    assert example["target"].tolist() == [BOS, 11, UNK, 6, EOS, PAD]


def test_a_word_beyond_the_slots_is_unknown_in_both_texts():
    example = extended("one two three one", "three two")
    assert example["text"].tolist() == [10, 11, UNK, 10, PAD, PAD, PAD, PAD]
    assert example["target"].tolist() == [BOS, UNK, 11, EOS, PAD, PAD]


def test_a_word_that_is_cut_off_with_the_text_cannot_be_copied():
    example = extended("ask ask ask ask ask ask ask ask krista", "krista")
    assert example["text"].tolist() == [4] * 8 and spelled(example["spelling"]) == {}
    assert example["target"].tolist() == [BOS, UNK, EOS, PAD, PAD, PAD]


def test_a_long_subject_keeps_its_end():
    assert extended("a", "ask ask ask ask ask ask")["target"].tolist() == [BOS, 4, 4, 4, 4, EOS]


def test_words_are_spelled_whole_or_not_at_all():
    long, umlauts = "x" * (MAX_BYTES + 1), "ü" * (MAX_BYTES // 2)
    example = extended(f"{long} {umlauts}")
    assert example["text"].tolist()[:2] == [UNK, 10]
    assert spelled(example["spelling"]) == {0: umlauts}


@pytest.mark.parametrize("text", ["", " \n", "\0", "\ud83d", "🙂", "<eos> <pad>", "x\0y " * 10_000])
def test_hostile_texts_have_rows(text):
    example = extended(text, text)
    for key, num_rows in (("text", 12), ("target", 12)):
        assert example[key].min() >= 0 and example[key].max() < num_rows
    assert (example["target"] == EOS).sum() == 1


def test_a_pipeline_makes_batches_of_them_and_the_spelling_comes_along():
    source = Rows(names=("body", "subject"), rows=(("ask krista", "krista"), ("deal", "ask")))
    pipeline = Pipeline(source=source, transforms=(TEXT, TARGET), batch_size=2, train=False)
    _, batch = next(pipeline.batches())
    assert batch["text"].dtype == np.int32 and batch["text"].shape == (2, 8)
    assert batch["spelling"].dtype == np.uint8
    assert spelled(batch["spelling"][0]) == {0: "krista"}
    again = config.from_json(config.to_json(pipeline), packages=(*config.KNOWN_PACKAGES, "tests"))
    assert again == pipeline


def test_what_is_out_of_order_or_out_of_range_is_refused():
    with pytest.raises(KeyError, match="put ExtendedText before it"):
        TARGET({"id": 0, "subject": "a"})
    with pytest.raises(KeyError, match="ExtendedText: example 0 has no 'body'"):
        TEXT({"id": 0})
    with pytest.raises(ValueError, match="max_length=0"):
        ExtendedText(tokenizer=WORDS, max_length=0, num_slots=1)
