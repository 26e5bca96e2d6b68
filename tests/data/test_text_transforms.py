"""Text transforms: rows worked out by hand, and refusals that name the example."""

import dataclasses

import numpy as np
import pytest

from vlm_jax import config
from vlm_jax.data.text_transforms import (
    CheckLabels,
    ChooseCaption,
    Drop,
    FirstCaption,
    Keep,
    Tokenize,
)
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.types import BOS, EOS, PAD, UNK


@dataclasses.dataclass(frozen=True)
class Captions:
    lines: tuple[str, ...] = ("a dog runs", "a dog", "a")

    @property
    def references(self):
        return {0: {"captions": self.lines}}


WORDS = WordTokenizer(corpus=Captions(), vocab_size=16)  # a = 4, dog = 5, runs = 6
RNG = np.random.default_rng(0)


def tokenized(caption, max_length):
    return Tokenize(tokenizer=WORDS, max_length=max_length)({"caption": caption}, RNG)["target"]


def test_a_caption_is_framed_and_padded():
    row = tokenized("A dog runs .", 8)
    assert row.dtype == np.int32
    assert row.tolist() == [BOS, 4, 5, 6, EOS, PAD, PAD, PAD]


def test_a_long_caption_loses_words_and_keeps_its_end():
    assert tokenized("a dog runs", 5).tolist() == [BOS, 4, 5, 6, EOS]
    assert tokenized("a dog runs", 4).tolist() == [BOS, 4, 5, EOS]
    assert tokenized("a " * 10_000, 6).tolist() == [BOS, 4, 4, 4, 4, EOS]


@pytest.mark.parametrize("caption", ["", " \n", "...", "\0", "\ud83d"])
def test_a_caption_without_words_still_has_a_token_to_predict(caption):
    assert tokenized(caption, 4).tolist() == [BOS, EOS, PAD, PAD]


def test_what_looks_like_an_end_token_is_not_one():
    assert tokenized("<eos> a <pad>", 8).tolist() == [BOS, UNK, 4, UNK, EOS, PAD, PAD, PAD]


def test_bytes_are_read_as_utf8():
    assert tokenized(b"a dog", 5).tolist() == tokenized(np.str_("a dog"), 5).tolist()


def test_the_source_text_of_a_task_goes_to_its_own_key():
    transform = Tokenize(tokenizer=WORDS, max_length=4, key="question", output="text")
    example = transform({"question": "a dog", "caption": "a"}, RNG)
    assert example["text"].tolist() == [BOS, 4, 5, EOS]
    assert example["question"] == "a dog"


def test_too_short_rows_and_missing_texts_are_refused():
    with pytest.raises(ValueError, match="max_length is 1"):
        Tokenize(tokenizer=WORDS, max_length=1)
    with pytest.raises(KeyError, match="example 7 has no 'caption', only"):
        Tokenize(tokenizer=WORDS, max_length=4)({"id": np.int64(7)}, RNG)


def test_every_caption_is_chosen_and_the_draw_is_the_generators():
    example = {"captions": ("one", "two", "three")}
    chosen = [ChooseCaption()(example, np.random.default_rng(i))["caption"] for i in range(30)]
    again = [ChooseCaption()(example, np.random.default_rng(i))["caption"] for i in range(30)]
    assert set(chosen) == {"one", "two", "three"}
    assert chosen == again
    assert FirstCaption()(example)["caption"] == "one"


@pytest.mark.parametrize("captions", [(), "a plain string"])
def test_no_captions_are_refused_by_id(captions):
    for transform in (ChooseCaption(), FirstCaption()):
        with pytest.raises(ValueError, match="'captions' of example 3"):
            transform({"id": 3, "captions": captions}, RNG)


def test_keys_are_kept_and_dropped():
    example = {"id": 1, "image": 2, "scene": 3}
    assert Keep(keys=("image",))(example) == {"id": 1, "image": 2}
    assert Drop(keys=("scene", "absent"))(example) == {"id": 1, "image": 2}
    with pytest.raises(KeyError, match="Keep: example 1 has no 'absent'"):
        Keep(keys=("absent",))(example)
    assert config.from_json(config.to_json(Keep(keys=("image",)))) == Keep(keys=("image",))


def test_labels_outside_the_classes_are_refused_by_id():
    check = CheckLabels(num_classes=3)
    for label in (0, 2, np.array([0, 1, 2], np.int8)):
        assert check({"id": 5, "label": label})["label"] is label
    for label in (-1, 3, -100, np.array([0, 3])):
        with pytest.raises(ValueError, match="'label' of example 5 has -?[0-9]+, expected 0 to 2"):
            check({"id": 5, "label": label})
    with pytest.raises(TypeError, match="example 5 is float64"):
        check({"id": 5, "label": 1.0})


def test_tokens_beyond_the_embedding_are_refused_by_id():
    example = Tokenize(tokenizer=WORDS, max_length=5)({"id": 9, "caption": "a dog runs"}, RNG)
    CheckLabels(num_classes=7, key="target")(example)
    with pytest.raises(ValueError, match="'target' of example 9 has 6, expected 0 to 5"):
        CheckLabels(num_classes=6, key="target")(example)
