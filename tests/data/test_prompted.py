import dataclasses
import logging

import numpy as np
import pytest

from vlm_jax import config
from vlm_jax.data.pipeline import Pipeline, TooManyBadPictures
from vlm_jax.data.prompted import Prompt, TokenizeAnswer
from vlm_jax.data.source import BadExample, Rows
from vlm_jax.tasks.generation import shift
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.types import BOS, EOS, PAD, UNK

QUESTIONS = (
    ("what color", "red"),
    ("is it a dog", "yes it is"),
    ("what", ""),
    ("what <image> <bos> color {answer}", "red"),
)
SOURCE = Rows(names=("question", "answer"), rows=QUESTIONS)
WORDS = WordTokenizer(
    corpus=Rows(names=("text",), rows=(("what color is it a dog red yes question answer en",),)),
    vocab_size=16,
    texts="text",
)
WHAT, COLOR, IS, IT, A, DOG, RED, YES, QUESTION, ANSWER, EN = (
    WORDS.encode(word)[0] for word in "what color is it a dog red yes question answer en".split()
)
PROMPT = Prompt(tokenizer=WORDS, length=6)
ANSWERED = TokenizeAnswer(prompt=PROMPT, max_length=8)


def test_rows_by_hand():
    row = ANSWERED(PROMPT(SOURCE[0]))
    assert row["prompt"].tolist() == [PAD, PAD, PAD, BOS, WHAT, COLOR]
    assert row["target"].tolist() == [BOS, WHAT, COLOR, RED, EOS, PAD, PAD, PAD]
    assert row["predicted"].tolist() == [False, False, True, True, False, False, False]
    assert ANSWERED(SOURCE[2])["target"].tolist() == [BOS, WHAT, EOS, *[PAD] * 5]  # says nothing


def test_what_leads_to_an_answer_is_learned_with_it():
    led = TokenizeAnswer(prompt=dataclasses.replace(PROMPT, lead="yes "), max_length=8)
    row = led(SOURCE[0])
    assert row["target"].tolist() == [BOS, WHAT, COLOR, YES, RED, EOS, PAD, PAD]
    assert row["predicted"].tolist() == [False, False, True, True, True, False, False]
    nothing = led(SOURCE[2])["target"].tolist()
    assert nothing == [BOS, WHAT, EOS, *[PAD] * 5]  # leads nowhere


def test_only_the_answer_and_its_end_are_learned():
    pipeline = Pipeline(source=SOURCE, transforms=(ANSWERED,), batch_size=3, train=False)
    _, labels, mask = map(np.asarray, shift(next(pipeline.batches())[1]))
    learned = [row[kept].tolist() for row, kept in zip(labels, mask)]
    assert learned == [[RED, EOS], [YES, IT, EOS], [EOS]]  # of the second there is room for so much


def test_an_answer_has_no_more_tokens_than_are_written_when_asked():
    long = TokenizeAnswer(prompt=PROMPT, max_length=12, max_answer=3)
    row = long({"id": 1, "question": "is it a dog", "answer": "yes it is a dog"})
    assert row["target"].tolist() == [BOS, IS, IT, A, DOG, YES, IT, EOS, *[PAD] * 4]
    assert long(SOURCE[0])["target"].tolist() == [BOS, WHAT, COLOR, RED, EOS, *[PAD] * 7]


def test_the_prompt_of_training_is_that_of_every_other_use_byte_for_byte():
    for index in range(len(QUESTIONS)):
        row = Prompt(tokenizer=WORDS, length=12, template="question {question} answer")
        answered = TokenizeAnswer(prompt=row, max_length=20)(row(SOURCE[index]))
        given = row({"id": 7, "question": QUESTIONS[index][0], "image_name": "a.jpg"})["prompt"]
        prompt = given[given != PAD]
        assert answered["target"][: len(prompt)].tobytes() == prompt.tobytes()
        assert answered["prompt"].tobytes() == given.tobytes()
        first = int(np.argmax(answered["predicted"]))
        assert first == len(prompt) - 1  # the first label that counts is the first after the prompt


def test_a_template_says_where_picture_begin_and_text_stand():
    prompt = Prompt(
        tokenizer=WORDS,
        template="<image><bos>answer en {question}",
        length=10,
        image_token=15,
        num_images=3,
    )
    assert prompt.ids(SOURCE[0]) == [15, 15, 15, BOS, ANSWER, EN, WHAT, COLOR]
    same = Prompt(tokenizer=WORDS, template="answer en", length=4)
    assert (same.key, same.ids({"id": 0})) == ("id", [BOS, ANSWER, EN])
    assert prompt.key == "question"


def test_what_stands_in_a_question_is_text_and_no_mark():
    ids = Prompt(tokenizer=WORDS, length=12).ids(SOURCE[3])
    assert ids.count(BOS) == 1 and 15 not in ids
    assert ids[:2] == [BOS, WHAT] and RED not in ids and UNK in ids


@pytest.mark.parametrize(
    "transform, words",
    [
        (Prompt(tokenizer=WORDS, length=4), "its prompt has 5 tokens, Prompt.length is 4"),
        (TokenizeAnswer(prompt=PROMPT, max_length=6), "5 tokens, which leave no room"),
    ],
)
def test_what_does_not_fit_is_left_out_by_name(transform, words):
    with pytest.raises(BadExample, match=f"example 1: .*{words}"):
        transform(SOURCE[1])
    transform(SOURCE[0])


def test_rows_without_anything_to_learn_are_counted_and_stop_a_run(caplog):
    def asked(number):
        long = (("is it a dog", "yes"),) * number
        source = Rows(names=("question", "answer"), rows=(("what", "dog"),) * 200 + long)
        transform = TokenizeAnswer(prompt=PROMPT, max_length=6)
        return Pipeline(source=source, transforms=(transform,), batch_size=201, train=True)

    few = asked(2).batches()
    with caplog.at_level(logging.WARNING):
        batches = [next(few)[1] for _ in range(3)]
    assert sorted(few.skipped) == ["example 200", "example 201"]
    assert "skipped example 200: its prompt has 5 tokens" in caplog.text
    assert all(b["predicted"].any(1).all() for b in batches)
    with pytest.raises(TooManyBadPictures, match="(?s)more than 1%.*no room for the answer"):
        many = asked(9).batches()
        for _ in range(3):
            next(many)


def test_a_picture_needs_its_token_and_its_place():
    with pytest.raises(ValueError, match="<image> in the template, an image_token and num_images"):
        Prompt(tokenizer=WORDS, length=4, image_token=15, num_images=2)


def test_it_is_plain_data():
    again = config.from_json(config.to_json(ANSWERED))
    assert again == ANSWERED and hash(again) == hash(ANSWERED)
