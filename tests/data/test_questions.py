"""Questions about pictures: one example a question, answers from a list, pictures decoded once."""

import dataclasses
import pickle

import numpy as np
import pytest

from tests.data.made import jpeg
from tests.invariants import question_checks
from vlm_jax.data.encoded import Encoded
from vlm_jax.data.held import Held
from vlm_jax.data.image_transforms import Decode
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.questions import Answered, EachQuestion
from vlm_jax.data.source import InMemory, Rows, replace_source
from vlm_jax.data.text_transforms import Label
from vlm_jax.text.answers import AnswerList
from vlm_jax.vision.small_cnn import SmallCnn

PICTURES = Rows(
    names=("questions", "answers", "question_types"),
    rows=(
        (("is it red", "how many"), ("yes", "2"), ("existence", "count")),
        ((), (), ()),
        (
            ("is it blue", "what is it", "how many"),
            ("no", "a cup", "2"),
            ("existence", "what", "count"),
        ),
    ),
)


def test_each_question_has_its_answer_and_an_id_and_references_of_its_own():
    each = EachQuestion(PICTURES)
    assert [each[i] for i in range(len(each))] == [
        {"id": 0, "question": "is it red", "answer": "yes", "question_type": "existence"},
        {"id": 1, "question": "how many", "answer": "2", "question_type": "count"},
        {"id": 200, "question": "is it blue", "answer": "no", "question_type": "existence"},
        {"id": 201, "question": "what is it", "answer": "a cup", "question_type": "what"},
        {"id": 202, "question": "how many", "answer": "2", "question_type": "count"},
    ]
    assert list(each.references) == [0, 1, 200, 201, 202]
    assert each.references[201] == {
        "question": ("what is it",),
        "answer": ("a cup",),
        "question_type": ("what",),
    }
    with pytest.raises(IndexError, match="index 5 of 5 questions"):
        each[5]


def test_ids_of_the_data_set_and_what_ten_people_answered_are_kept():
    people = tuple(f"a{i}" for i in range(20))
    one = {
        "id": np.int64(9),
        "questions": ("q", "r"),
        "answers": ("a", "b"),
        "human_answers": people,
    }
    each = EachQuestion(InMemory([{**one, "question_ids": np.array([9001, 9000])}]))
    assert each[0] == {"id": 9001, "question": "q", "answer": "a", "human_answers": people[:10]}
    assert each.references[9000]["human_answers"] == people[10:]


def test_too_many_questions_and_too_few_answers_are_refused():
    many = Rows(names=("questions",), rows=((("q",) * 101,),))
    with pytest.raises(ValueError, match="has 101 questions, expected at most 100"):
        len(EachQuestion(many))
    short = Rows(names=("questions", "answers"), rows=((("q", "r"), ("a",)),))
    with pytest.raises(ValueError, match="has 2 questions and 1 answers"):
        len(EachQuestion(short))


def test_questions_go_outside_of_cached_features_and_away_where_there_are_none():
    with pytest.raises(TypeError, match="try EachQuestion.Encoded"):
        Encoded(source=EachQuestion(PICTURES), encoder=SmallCnn())
    bare = InMemory([{"id": np.int64(1)}])
    assert replace_source(EachQuestion(PICTURES), bare) is bare
    assert replace_source(EachQuestion(bare), PICTURES) == EachQuestion(PICTURES)


def test_the_list_has_the_most_frequent_answers_of_training_and_rows_left_over():
    answers = AnswerList(corpus=PICTURES, size=6)
    assert list(answers) == ["2", "a cup", "no", "yes", "", ""] and len(answers) == 6
    assert answers[1] == "a cup" and answers.encode("no") == [2] and answers.decode([2]) == "no"
    assert answers.encode("perhaps") == answers.encode("") == []
    assert list(AnswerList(corpus=PICTURES, size=2)) == ["2", "a cup"]
    assert list(AnswerList(corpus=PICTURES, size=2, min_count=2)) == ["2", ""]
    with pytest.raises(ValueError, match="no 'captions'; its references have .*answers"):
        list(AnswerList(corpus=PICTURES, size=6, texts="captions"))


def test_a_saved_list_is_read_without_its_corpus(tmp_path):
    answers = AnswerList(corpus=PICTURES, size=6)
    answers.save(tmp_path / "answers.json")
    read = AnswerList(file=str(tmp_path / "answers.json"), size=6)
    assert read.names == answers.names
    assert pickle.loads(pickle.dumps(answers)).names == answers.names
    with pytest.raises(ValueError, match="has 6 answers, expected 7"):
        list(dataclasses.replace(read, size=7))
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match="no list of answers that `save` wrote"):
        list(AnswerList(file=str(tmp_path / "other.json"), size=6))
    with pytest.raises(FileNotFoundError, match="no file"):
        list(AnswerList(file=str(tmp_path / "none.json"), size=6))
    with pytest.raises(ValueError, match="give a corpus with references, or the file"):
        AnswerList(size=6)


def test_an_answer_outside_the_list_is_left_out_of_training_and_minus_one_elsewhere():
    classes = AnswerList(corpus=PICTURES, size=2)
    each = EachQuestion(PICTURES)
    kept = Answered(each, classes)
    assert [kept[i]["id"] for i in range(len(kept))] == list(kept.references) == [1, 201, 202]
    pipeline = Pipeline(
        source=each, transforms=(Label(classes=classes),), batch_size=5, train=False
    )
    (_, batch), *_ = pipeline.batches()
    assert batch["label"].tolist() == [-1, 0, -1, 1, 0] and batch["valid"].all()
    assert Label(classes=("no", "yes"))({"answer": "yes"})["label"] == 1


def test_a_held_picture_is_decoded_once(monkeypatch):
    calls = []
    monkeypatch.setattr(Decode, "decode", lambda self, image, name: calls.append(name) or image)
    source = InMemory([{"id": np.int64(3), "image": jpeg(), "questions": ("a", "b")}])
    each = EachQuestion(Held(source, (Decode(),)))
    assert len(each) == 2 and not calls
    assert each[0]["image"] is each[1]["image"] and each[0]["id"] == 300
    assert calls == ["id 3"]


@pytest.mark.parametrize(
    "check",
    (*question_checks.DATA_CHECKS, *question_checks.SCORE_CHECKS),
    ids=lambda check: check.__name__[6:],
)
def test_questions(check):
    check()
