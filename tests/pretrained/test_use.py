"""`python -m experiments.pretrained predict`: published weights from a folder write about pictures."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments.pretrained import use
from tests.pretrained import folders
from vlm_jax.data.prompted import TokenizeAnswer
from vlm_jax.data.tiles import TiledPrompt, layout
from vlm_jax.pretrained import weights
from vlm_jax.tasks.generation import Generation
from vlm_jax.types import EOS


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    return folders.captioner(tmp_path_factory.mktemp("ved"))


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return folders.asked(tmp_path_factory.mktemp("pg"))


@pytest.fixture(scope="module")
def questioned(tmp_path_factory):
    return folders.questioned(tmp_path_factory.mktemp("blip"))


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    return folders.tiled(tmp_path_factory.mktemp("smolvlm"))


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.jpg"):
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    (folder / "broken.jpg").write_bytes(b"<html>")
    return folder


def test_a_folder_is_written_about_and_a_second_run_goes_on(captioner, pictures, tmp_path, capsys):
    out = tmp_path / "captions.jsonl"
    line = ["predict", "--weights", captioner, str(pictures), "--batch", "2", "--max_length", "6"]
    assert use([*line, "--out", str(out)]) == 0
    assert "skipped" in capsys.readouterr().err
    first = out.read_text()
    found = [json.loads(each) for each in first.splitlines()]
    assert [each["file"][-5:] for each in found] == ["a.png", "b.png", "c.jpg"]
    assert all(each["text"] and each["log_prob"] < 0 for each in found)
    assert all(set(each["text"].split()) <= {f"w{i}" for i in range(31)} for each in found)

    out.write_text(first[:-20])  # killed within the third line
    assert use([*line, "--out", str(out)]) == 0
    assert [json.loads(each) for each in out.read_text().splitlines()] == found

    assert use([*line[:3], str(pictures / "b.png"), *line[4:]]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["text"] == found[1]["text"]


def test_in_int8_it_writes_too(captioner, pictures, capsys):
    picture = str(pictures / "a.png")
    assert use(["predict", "--weights", captioner, picture, "--int8", "--max_length", "4"]) == 0
    assert json.loads(capsys.readouterr().out)["text"]


def test_what_it_is_asked_is_put_into_the_form_of_the_weights(asked, pictures, capsys):
    picture = str(pictures / "a.png")
    line = ["predict", "--weights", asked, picture, "--max_length", "5", "--prompt"]
    said = []
    for prompt in ("w5 w6", "w7"):
        assert use([*line, prompt]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0]["log_prob"] != said[1]["log_prob"]


def test_a_question_that_is_read_beside_the_picture_is_asked(questioned, pictures, capsys):
    line = ["predict", "--weights", questioned, str(pictures / "a.png"), "--max_length", "4"]
    said = []
    for prompt in ("w6", "w7 w8"):
        assert use([*line, "--prompt", prompt]) == 0
        said.append(json.loads(capsys.readouterr().out)["log_prob"])
    assert said[0] != said[1]
    assert use(line) == 2
    assert "wants to be asked something" in capsys.readouterr().err


def test_pictures_of_another_number_of_squares_are_read_together_as_alone(tiled, pictures, capsys):
    Image.open(pictures / "a.png").resize((40, 9)).save(pictures / "wide.png")
    line = ["predict", "--weights", tiled, "--max_length", "5", "--prompt", "w5 w6"]
    files = [str(pictures / name) for name in ("a.png", "wide.png")]
    assert use([*line, *files]) == 0
    together = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert [each["file"] for each in together] == files
    assert together[0]["text"] != together[1]["text"]
    assert use([*line, files[1]]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["text"] == together[1]["text"]
    assert alone["log_prob"] == pytest.approx(together[1]["log_prob"], abs=1e-3)


def test_the_token_that_ends_an_answer_is_eos(tiled, asked):
    tokenizer = weights.load(tiled).tokenizer
    assert tokenizer.encode_special("<end_of_utterance>") == [EOS]
    assert tokenizer.encode_special("<eos>") != [EOS]
    assert weights.load(asked).tokenizer.encode_special("<eos>") == [EOS]


def test_a_tuned_answer_may_follow_a_prompt_that_has_its_ending(tiled):
    found = weights.load(tiled)
    assert found.family.lead == " "  # after "Assistant:"
    length = 4 + len(found.tokenizer.encode_special(layout(4, 2, 2))) + 20
    prompt = TiledPrompt(
        tokenizer=found.tokenizer,
        template=found.family.template,
        length=length,
        image_token=found.model.decoder.image_token,
        num_images=4,
        special=found.family.special,
    )
    tokenize = TokenizeAnswer(prompt=prompt, max_length=length + 4)
    example = tokenize({"id": 0, "tiles": (2, 2), "question": "w5", "answer": "w6 w7"})
    assert (example["target"] == EOS).sum() == 2 and example["predicted"].sum() == 3
    batch = {name: np.asarray(example[name])[None] for name in ("target", "predicted")}
    batch |= {"valid": np.ones(1, bool), "id": np.zeros(1, np.int32)}
    Generation(tokenizer=found.tokenizer, decoding=None).check(found.model, batch)


def test_a_line_may_hold_whatever_a_text_may(captioner, pictures, tmp_path, capsys):
    out = tmp_path / "captions.jsonl"
    odd = pictures / "a\u2028b\u0085.png"
    (pictures / "a.png").rename(odd)
    out.write_text(json.dumps({"file": str(odd), "text": "x\u2028y"}, ensure_ascii=False) + "\n")
    line = ["predict", "--weights", captioner, str(pictures), "--max_length", "4"]
    assert use([*line, "--out", str(out)]) == 0
    assert "3/4\n" in capsys.readouterr().err  # one of the four cannot be read
    found = [json.loads(each)["file"] for each in out.read_text().split("\n") if each]
    assert found == [str(odd), str(pictures / "b.png"), str(pictures / "c.jpg")]


@pytest.mark.parametrize(
    "change, message",
    [
        (["--prompt", "w5"], "only captions; leave it out"),
        (["no/such.png"], "no/such.png: no such picture file or folder"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(captioner, pictures, change, message, capsys):
    assert use(["predict", "--weights", captioner, str(pictures / "a.png"), *change]) == 2
    assert message in capsys.readouterr().err


def test_weights_that_want_to_be_asked_say_so(asked, pictures, capsys):
    assert use(["predict", "--weights", asked, str(pictures / "a.png")]) == 2
    assert "wants to be asked something" in capsys.readouterr().err
    line = ["predict", "--weights", asked, str(pictures / "a.png"), "--prompt", "w5\nw6"]
    assert use(line) == 2
    assert "one line" in capsys.readouterr().err
