"""`predict IMAGE --question`: the answer, its probabilities, where the model looked, and errors that say what to do."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments import show_attend_and_tell, stacked_attention, text_cnn, vqa_lstm_cnn
from vlm_jax.data.datasets.scenes_questions import ANSWERS
from vlm_jax.main import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir with two steps of stacked attention, and two pictures."""
    folder = tmp_path_factory.mktemp("answers")
    assert main(stacked_attention.smoke, argv=["train", "--workdir", str(folder / "run")]) == 0
    for name, color in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (70, 50), color).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def predict(trained, capsys):
    def run(*argv, function=stacked_attention.smoke):
        code = main(function, argv=["predict", *argv, "--workdir", str(trained / "run")])
        return code, *capsys.readouterr()

    return run


def test_every_picture_has_an_answer_with_its_probabilities(trained, predict):
    names = [str(trained / f"{name}.png") for name in "ab"]
    code, out, err = predict(*names, "--question", "What color is the zebra?", "--json")
    assert code == 0
    found = [json.loads(line) for line in out.splitlines()]
    assert [each["file"] for each in found] == names
    for each in found:
        assert each["question"] == "What color is the zebra?" and each["answer"] in ANSWERS
        values = list(each["probabilities"].values())
        assert each["answer"] == next(iter(each["probabilities"])) and len(values) == 5
        assert values == sorted(values, reverse=True) and 0 < sum(values) <= 1.001
    assert "words that were not in the training questions: zebra" in err


def test_where_it_looked_is_written_as_a_picture(trained, predict):
    name, folder = str(trained / "a.png"), trained / "looked"
    asked = "is there a red circle left of the circle above the circle below the circle right of it"
    code, out, err = predict(name, "--question", asked, "--attention", str(folder))
    assert code == 0 and out.startswith(f"{name}\t") and "%" in out
    assert "the question is cut after its first 16 words" in err
    sheet = np.asarray(Image.open(folder / "a.png").convert("RGB"))
    assert sheet.shape[1] > 2 * sheet.shape[0]  # the picture and two looks, side by side


@pytest.mark.parametrize(
    "question, says",
    [
        (None, "predict needs a question, none given: predict a.jpg --question"),
        ("  ", "predict needs a question, an empty one given"),
        ("?!", "none of its words was in the training questions: no word"),
        ("wo ist der zircle", "zircle (nearest: circle)"),
    ],
)
def test_a_question_that_cannot_be_read_is_refused(trained, predict, question, says):
    given = [] if question is None else [f"--question={question}"]
    code, out, err = predict(str(trained / "a.png"), *given)
    assert code == 2 and out == "" and err.startswith("error: ") and says in err


def test_a_question_without_a_picture_is_refused(predict):
    code, _, err = predict("--question", "is it red")
    assert code == 2 and "predict needs picture files" in err


@pytest.mark.parametrize(
    "function, says",
    [
        (show_attend_and_tell.scenes, "only pictures: leave it out"),
        (text_cnn.smoke, "only texts: predict 'a text'"),
        (vqa_lstm_cnn.blind, "only texts"),
    ],
)
def test_a_question_to_a_model_that_reads_none_is_refused(trained, predict, function, says):
    code, _, err = predict(str(trained / "a.png"), "--question", "is it red", function=function)
    assert code == 2 and says in err
