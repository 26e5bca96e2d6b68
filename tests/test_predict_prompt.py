"""`predict --prompt`: a contact sheet of any model that makes pictures, prompts that cannot be read, and the gallery."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments import show_and_tell
from tests import painter
from tests.text.test_scene_reader import drawn
from vlm_jax.commands.paint import Painter
from vlm_jax.commands.workdirs import experiment_of, variables_of
from vlm_jax.main import main
from vlm_jax.report.contact_sheet import RIGHT, WRONG, write_sheet
from vlm_jax.report.painted import PaintedGallery

PROMPT = "a red circle left of a small blue square"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("painted") / "run"
    assert main(painter.smoke, argv=["train", "--workdir", str(folder)]) == 0
    return folder


@pytest.fixture
def predict(workdir, capsys):
    def run(*argv, function=painter.smoke):
        code = main(function, argv=["predict", *argv, "--workdir", str(workdir)])
        return code, *capsys.readouterr()

    return run


def test_a_prompt_becomes_a_sheet_of_so_many_pictures(workdir, predict):
    code, out, _ = predict("--prompt", PROMPT, "--count", "18")
    path = workdir / "a_red_circle_left_of_a_small_blue_square.png"
    assert code == 0 and f"wrote {path}" in out
    assert "the whole prompt holds in 0 of 18 pictures" in out
    sheet = np.asarray(Image.open(path))
    assert sheet.shape[1] == 12 + 5 * (192 + 12)  # five columns of pictures three times as large
    assert (sheet == WRONG).all(-1).any() and not (sheet == RIGHT).all(-1).any()


def test_json_says_where_it_is_and_which_hold(workdir, predict):
    file = workdir / "there" / "sheet.png"
    code, out, _ = predict("--prompt", PROMPT, "--count=2", "--json", "--sheet", str(file))
    found = json.loads(out)
    assert code == 0 and found == {"prompt": PROMPT, "holds": [False, False], "file": str(file)}
    assert file.is_file()


def test_between_two_prompts_the_noise_stays_and_the_ends_are_the_prompts(workdir, predict):
    code, out, _ = predict("--prompt", "a red circle", "--to", "two blue squares", "--steps", "3", "--count", "2")  # fmt: skip
    assert code == 0 and "a_red_circle_to_two_blue_squares.png" in out
    assert Image.open(workdir / "a_red_circle_to_two_blue_squares.png").size[0] == 12 + 3 * 204
    made = Painter(experiment_of(workdir, "tests"), variables_of(workdir, None)[0])
    steps = [next(each) for each in made.between("a red circle", "two blue squares", 2, 3)]
    for end, prompt in ((0, "a red circle"), (2, "two blue squares")):
        np.testing.assert_array_equal(steps[end], next(made(prompt, 2)))
    assert np.abs(steps[1].astype(int) - steps[0]).max() > 0
    first, again = (next(made(PROMPT, 2)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any()  # noise of its own


@pytest.mark.parametrize(
    "argv, says",
    [
        (["--prompt", ""], "--prompt: given '', which has no word; a prompt may have the words "),
        (["--prompt", " ?!"], "which has no word"),
        (
            ["--prompt", "a red zebra and a bluue star"],
            "not among the words of the training prompts: zebra, bluue (nearest: blue); a prompt may have the words a, ",
        ),
        (["--prompt", "a red circle and " * 9 + "a star"], "given 38 words, expected at most 34; leave out what begins with 'circle and"),
        (["--prompt", "a star", "--to", "ein Stern"], "--to: not among the words"),
        (["--prompt", "a star", "--count", "0"], "--count: given 0, expected a number from 1"),
        (["--prompt", "a star", "--to", "a star", "--steps", "1"], "a number from 2"),
        (["--prompt", "a star", "--steps", "3"], '--steps are those between two prompts: add --to'),
        (["--prompt", "a", "red", "star"], "beside the prompt, given red star; write the prompt in quotes"),
        (["--prompt", "a star", "--int8"], "--int8 is not for --prompt; leave it out"),
        (["--prompt", "a star", "--question", "what"], "--question is not for --prompt"),
        (["--count", "3", "a star"], "--count is for --prompt alone; leave it out"),
        (["a red circle"], 'this model makes pictures: predict --prompt "a red circle"'),
    ],
)  # fmt: skip
def test_a_prompt_that_cannot_be_read_is_refused(predict, argv, says):
    code, out, err = predict(*argv)
    assert code == 2 and out == "" and err.startswith("error: ") and says in err
    assert err.count("\n") == 1 or "zebra" in err


def test_a_prompt_to_a_model_that_makes_no_pictures_is_refused(predict):
    code, _, err = predict("--prompt", PROMPT, function=show_and_tell.smoke)
    assert code == 2 and "makes no pictures" in err


def test_frames_of_a_sheet_say_what_is_right(tmp_path):
    pictures = np.stack([drawn(("circle", "red", 30, 30, 9)), drawn(("star", "red", 30, 30, 9))])
    write_sheet(tmp_path / "sheet.png", pictures, "a title", right=[True, False], columns=2)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    green, red = ((sheet == color).all(-1) for color in (RIGHT, WRONG))
    assert green.any() and red.any() and green.nonzero()[1].max() < red.nonzero()[1].min()
    grey = np.zeros((3, 28, 28, 1), np.uint8)
    write_sheet(tmp_path / "grey.png", grey, below=["a", "b", "c"])
    assert Image.open(tmp_path / "grey.png").size == (
        12 + 2 * 180,
        12 + 4 + 2 * (168 + 12 + 18) + 12,
    )
    with pytest.raises(ValueError, match=r"given pictures float64 \(3, 28, 28, 1\)"):
        write_sheet(tmp_path / "no.png", grey / 255)


def test_the_gallery_shows_the_same_prompts_at_every_evaluation(workdir):
    page = (workdir / "gallery_validation.html").read_text()
    assert "<th>real</th><th>1</th><th>2</th><th>prompt</th>" in page
    assert sorted(p.name for p in (workdir / "pictures_validation").iterdir()) == ["1.png", "2.png"]
    source = experiment_of(workdir, "tests").evaluations[0].data.source
    ids = list(source.references)[:8]
    for id in ids:
        assert source.references[id]["prompt"][0] in page
    strip = np.asarray(Image.open(workdir / "pictures_validation" / "2.png"))
    assert strip.shape == (8 * 64, 64, 3)
    assert "prompt_holds" in page  # the number of the evaluation


def test_a_gallery_of_many_steps_keeps_the_first_and_the_last(tmp_path):
    references = {5: {"prompt": ("a <b>star</b>",)}}
    source = type("Source", (), {"references": references})()
    gallery = PaintedGallery(source=source)
    picture = np.zeros((1, 28, 28, 1), np.uint8)
    for step in range(100, 2100, 100):
        page = gallery(tmp_path, step, "test", [{"id": 5, "pictures": picture}], {}).read_text()
    assert page.count("<th>") == 10 and "<th>100</th>" in page and "<th>2,000</th>" in page
    assert "<b>" not in page and "&lt;b&gt;star" in page
