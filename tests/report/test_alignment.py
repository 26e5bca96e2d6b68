import numpy as np
import pytest
from PIL import Image

from tests.data.made import HOSTILE
from vlm_jax.report.alignment import Alignments, alignment


def picture(path):
    return np.asarray(Image.open(path).convert("L"), np.float64)


def test_a_row_a_word_of_the_target_a_column_a_word_of_the_source(tmp_path):
    source, target = ["a", "dog", "runs"], ["ein", "Hund"]
    dark = {}
    for name, weights in (("first", [[1, 0, 0], [1, 0, 0]]), ("last", [[0, 0, 1], [0, 0, 1]])):
        alignment(source, target, np.array(weights), tmp_path / "new" / f"{name}.png")
        dark[name] = 255 - picture(tmp_path / "new" / f"{name}.png")
    assert dark["first"].shape == dark["last"].shape
    moved = dark["first"] - dark["last"]  # black on the left, white on the right
    columns = np.flatnonzero(np.abs(moved).sum(0) > 0)
    middle = columns.mean()
    assert moved[:, : int(middle)].sum() > 0 > moved[:, int(middle) + 1 :].sum()


def test_hostile_words_are_drawn(tmp_path):
    words = [text[:200] for text in HOSTILE]
    alignment(
        words, ["$x_1$", *words], np.full((len(words) + 1, len(words)), 0.1), tmp_path / "a.png"
    )
    assert picture(tmp_path / "a.png").size
    long = ["w"] * 80
    alignment(long, long, np.eye(80), tmp_path / "b.png")
    assert max(picture(tmp_path / "b.png").shape) < 3000


def test_weights_that_are_no_alignment_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\(1, 2\), expected a row for each of the 2 target"):
        alignment(["a", "b"], ["x", "y"], np.ones((1, 2)), tmp_path / "a.png")
    for bad in (np.nan, -1.0):
        with pytest.raises(ValueError, match="finite and at least 0"):
            alignment(["a"], ["x"], np.array([[bad]]), tmp_path / "a.png")


def test_the_report_draws_the_first_few_examples(tmp_path):
    def example(id, words):
        weights = np.full((len(words), 2), 0.5)
        return {"id": id, "words": words, "source_words": ["a", "b"], "attention": weights}

    examples = [
        example(4, ["x"]),
        example(5, []),
        {"id": 6, "words": ["y"]},
        example(8, ["x", "y"]),
    ]
    paths = Alignments(count=2)(tmp_path, 10, "test", examples, {})
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "alignments_test/4.png",
        "alignments_test/8.png",
    ]
    assert all(path.exists() for path in paths)
