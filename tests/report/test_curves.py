"""Curves: what is read from metrics.jsonl, torn or not, and that a picture comes of it."""

import json

import numpy as np
from PIL import Image

from vlm_jax.report.curves import _running_mean, read_curves, write_curves


def written(tmp_path, *lines, end="\n"):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + end
    )
    return path


def values(curves, name, series):
    steps, found = curves[name][series]
    return list(zip(steps.tolist(), found.tolist()))


def test_numbers_are_sorted_into_metrics_and_series(tmp_path):
    path = written(
        tmp_path,
        {"step": 10, "name": "train", "loss": 4.5, "learning_rate": 0.1},
        {"step": 20, "name": "train", "loss": 4.0, "note": "text", "flag": True},
        {"step": 20, "name": "validation", "loss": 5.0, "cider": 12},
        {"step": 5, "kind": "eval", "cider": 1.0},
    )
    curves, unreadable = read_curves(path)
    assert unreadable == 0
    assert set(curves) == {"loss", "learning_rate", "cider"}
    assert values(curves, "loss", "train") == [(10, 4.5), (20, 4.0)]
    assert values(curves, "loss", "validation") == [(20, 5.0)]
    assert values(curves, "cider", "eval") == [(5, 1.0)]
    assert list(curves["loss"]) == ["train", "validation"]


def test_a_torn_last_line_is_left_out_and_a_broken_one_counted(tmp_path):
    path = written(
        tmp_path,
        {"step": 1, "loss": 1.0},
        '{"step": 2, "lo',
        "[1]",
        '{"loss": 3}',
        '{"step": 3, "loss',
        end="",
    )
    curves, unreadable = read_curves(path)
    assert values(curves, "loss", "train") == [(1, 1.0)]
    assert unreadable == 3
    whole_but_torn = written(
        tmp_path, {"step": 1, "loss": 1.0}, '{"step": 22, "loss": 1.2}', end=""
    )
    assert values(read_curves(whole_but_torn)[0], "loss", "train") == [(1, 1.0)]


def test_the_later_of_two_measurements_holds_and_nan_is_a_gap(tmp_path):
    path = written(
        tmp_path, {"step": 2, "loss": 9.0}, {"step": 1, "loss": "nan"}, {"step": 2, "loss": 8.0}, {"step": 3, "loss": "-inf"}
    )  # fmt: skip
    steps, found = read_curves(path)[0]["loss"]["train"]
    np.testing.assert_array_equal(steps, [1, 2, 3])
    np.testing.assert_array_equal(found, [np.nan, 8.0, np.nan])


def test_the_running_mean_leaves_gaps_out():
    mean = _running_mean(np.array([1.0, np.nan, 3.0, 8.0]), 1)
    np.testing.assert_allclose(mean, [1.0, 2.0, 5.5, 5.5])
    assert np.isnan(_running_mean(np.array([np.nan, np.nan, np.nan]), 1)).all()


def test_a_picture_is_drawn(tmp_path):
    lines = [
        {"step": i, "name": "train", "loss": 1 / (i + 1), "learning_rate": 0.1} for i in range(100)
    ]
    lines += [{"step": 50, "name": "validation", "loss": 0.3, "odd $ name_": 1.0}, "torn"]
    png = tmp_path / "new" / "curves.png"
    write_curves(written(tmp_path, *lines), png)
    with Image.open(png) as picture:
        assert picture.width > 1000 and np.asarray(picture.convert("L")).std() > 5
    write_curves(written(tmp_path, end=""), png)  # a run that has measured nothing yet
    assert png.is_file()
