"""Search, classes by their names and CLIPScore on the command line, with tiny towers that know nothing."""

import html
import json
import re

import pytest
from PIL import Image

from experiments import clip, show_and_tell
from vlm_jax import config
from vlm_jax import main as command_line
from vlm_jax.data.datasets.scenes_layout import generate
from vlm_jax.data.datasets.scenes_pictures import render
from vlm_jax.report.search import Hit, write_search


def run(*argv):
    """The exit code of the command line of experiments/clip.py."""
    return command_line.main(clip.frozen, clip.smoke, argv=[str(word) for word in argv])


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "towers"
    assert run("smoke", "train", "--workdir", folder) == 0
    return folder


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "captions"
    argv = ["smoke", "train", "--workdir", str(folder), "--evaluations", "[]"]
    assert command_line.main(show_and_tell.paper, show_and_tell.smoke, argv=argv) == 0
    return folder


def test_search_names_the_nearest_pictures_and_writes_a_page(workdir, capsys):
    texts = ("a red circle", "a <script> & a square")
    assert run("search", *texts, "--workdir", workdir, "--json") == 0
    printed = capsys.readouterr()
    found = [json.loads(line) for line in printed.out.splitlines()]
    assert [each["text"] for each in found] == [*texts]
    for each in found:
        cosines = [picture["cosine"] for picture in each["pictures"]]
        assert cosines == sorted(cosines, reverse=True) and len(cosines) == 12
        assert -1.001 <= cosines[-1] and cosines[0] <= 1.001
        assert len({picture["id"] for picture in each["pictures"]}) == 12
    page = (workdir / "search.html").read_text()
    assert page.count("<article>") == page.count('src="data:image/') == 24
    assert "<script" not in page and html.escape(texts[1]) in page
    assert "words that were not in the training captions: script" in printed.err


def test_search_prints_lines_for_a_reader(workdir, capsys):
    assert run("search", "a red circle", "--workdir", workdir) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "a red circle" and len(lines) == 12
    assert all(re.fullmatch(r"  -?\d\.\d{3}\tid \d+\t.+", line) for line in lines)


def test_a_picture_is_given_one_of_the_classes(workdir, tmp_path, capsys):
    Image.fromarray(render(generate(0, "validation", 0))).save(tmp_path / "scene.png")
    classes = "a red circle, a blue square,two objects"
    command = ("predict", tmp_path / "scene.png", "--workdir", workdir, "--classes", classes)
    assert run(*command, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["probabilities"]) == ["a red circle", "a blue square", "two objects"]
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    assert found["class"] == max(found["probabilities"], key=found["probabilities"].get)
    assert run(*command) == 0
    assert capsys.readouterr().out.split("\t")[1] == found["class"]


def test_captions_of_another_run_are_scored_by_the_towers(workdir, captions, capsys):
    functions = (show_and_tell.paper, show_and_tell.smoke)
    whole = json.dumps(config.to_json(show_and_tell.smoke().evaluations))
    argv = ["evaluate", "--workdir", str(captions), "--clip_score", str(workdir)]
    assert command_line.main(*functions, argv=[*argv, f"--evaluations={whole}"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert 0 <= printed["clip_score"] <= 250 and 0 <= printed["ref_clip_score"] <= 143
    page = (captions / "gallery_validation.html").read_text()
    assert "clip_score" in page


@pytest.mark.parametrize(
    "argv, words",
    [
        (["search"], "search needs texts"),
        (["search", " "], "search needs texts"),
        (
            ["search", "xyzzy plugh"],
            "'xyzzy plugh': none of its words was in the training captions",
        ),
        (
            ["search", "a circle", "--only", "none"],
            "--only: given none, expected one of validation",
        ),
        (["predict", "a.png"], "predict IMAGE... --classes"),
        (["predict", "a.png", "--classes", "a dog"], "at least two different names"),
        (["predict", "--classes", "a,b"], "predict needs picture files"),
        (["predict", "none.png", "--classes", "a,b"], "no such picture file: none.png"),
    ],
)
def test_mistakes_are_named(workdir, argv, words, capsys):
    assert run(*argv, "--workdir", workdir) == 2
    assert words in capsys.readouterr().err


def test_other_models_are_refused(workdir, captions, capsys):
    functions = (show_and_tell.paper, show_and_tell.smoke)
    argv = ["search", "a circle", "--workdir", str(captions)]
    assert command_line.main(*functions, argv=argv) == 2
    assert "is no two-tower model" in capsys.readouterr().err
    argv = ["evaluate", "--workdir", str(captions), "--clip_score", str(workdir.parent)]
    assert command_line.main(*functions, argv=argv) == 2
    assert "no evaluations" in capsys.readouterr().err


def test_whatever_is_in_a_text_is_escaped_and_a_picture_that_cannot_be_read_is_left_blank(tmp_path):
    bad = Hit(id=3, image=b"no picture", score=0.5, name="<b>", references=("<i>&", "x"))
    write_search(tmp_path / "page.html", ['"><img src=x>'], [[bad]], "<title>", 1)
    page = (tmp_path / "page.html").read_text()
    for text in ("<b>", "<i>", "<img", "<title><"):
        assert text not in page
    assert "1. &lt;i&gt;&amp;" in page and "0.5" in page
