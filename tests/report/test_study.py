"""Runs side by side."""

from PIL import Image

from vlm_jax.report.study import markdown, rows_of, write_plot


def result(function, seed, accuracy, split="test"):
    return {
        "experiment": "a_study",
        "function": function,
        "split": split,
        "seed": seed,
        "hours": 0.1,
        "metrics": {"accuracy": accuracy},
    }


RESULTS = [
    result("plain", 1, 82.0),
    result("plain", 0, 80.0),
    result("crop", 0, 83.5),
    result("crop", 0, 11.0, split="validation"),
    {**result("crop", 0, 99.0), "experiment": "another"},
]


def test_a_row_is_a_function_with_a_value_a_seed(tmp_path):
    rows = rows_of(RESULTS, "a_study", ("plain", "crop", "flip"), "accuracy")
    assert [row.values for row in rows] == [[80.0, 82.0], [83.5], []]
    lines = markdown(rows, "accuracy").splitlines()
    assert lines[0] == "| | accuracy | against plain | seeds | minutes a run |"
    assert lines[2] == "| plain | 81.0 ± 1.4 |  | 2 | 6.0 |"
    assert lines[3] == "| crop | 83.5 | +2.5 | 1 | 6.0 |"
    assert lines[4] == "| flip | not run |  | 0 |  |"
    write_plot(tmp_path / "study.png", rows, "accuracy", "a study")
    assert Image.open(tmp_path / "study.png").size[0] > 600


def test_other_metrics_and_one_data_set(tmp_path):
    first, second, other = (
        {**result("plain", seed, 80.0), "dataset": dataset}
        for seed, dataset in ((0, "clothes"), (1, "clothes"), (0, "animals"))
    )
    first["metrics"] |= {"few_shot": 40.0, "many_shot": 90.0}
    second["metrics"] |= {"few_shot": 44.0}
    rows = rows_of(
        [first, second, other],
        "a_study",
        ("plain", "crop"),
        "accuracy",
        dataset="clothes",
        others=("many_shot", "few_shot"),
    )
    lines = markdown(rows, "accuracy").splitlines()
    header = "| | accuracy | against plain | many-shot accuracy | few-shot accuracy | seeds | minutes a run |"
    assert lines[0] == header and lines[1].count("|") == header.count("|")
    assert lines[2] == "| plain | 80.0 ± 0.0 |  | 90.0 | 42.0 ± 2.8 | 2 | 6.0 |"
    assert lines[3] == "| crop | not run |  | not run | not run | 0 |  |"
    write_plot(tmp_path / "study.png", rows, "accuracy", "a study")
    write_plot(tmp_path / "none.png", rows[1:], "accuracy", "nothing was run")
    assert Image.open(tmp_path / "study.png").size[0] > 1200
