from pathlib import Path

import numpy as np

from experiments import before_and_after
from vlm_jax.data.source import InMemory

SOURCE = InMemory(
    [
        {"id": i, "image": np.full((8, 8, 3), 40 * i, np.uint8), "captions": texts}
        for i, texts in enumerate(
            [("a red dog runs", "a dog"), ("two cats sleep",), ("a man on a bike",)]
        )
    ]
)
WRITTEN = {
    "old": {0: "a dog with a", 1: "two cats sleep", 2: "a man"},
    "new": {0: "a red dog runs", 1: "cats", 2: "a man"},
}


def test_the_page_has_both_captions_and_the_table_both_columns(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        before_and_after, "captions", lambda workdir, name: (WRITTEN[workdir.name], SOURCE)
    )
    (tmp_path / "new").mkdir()
    assert before_and_after.command([str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    page = (tmp_path / "new" / "before_and_after_test.html").read_text()
    assert "a red dog runs" in page and "before: a dog with a" in page
    lines = capsys.readouterr().out.splitlines()
    (endings,) = [line.split() for line in lines if line.startswith("bad_endings")]
    assert [float(value) for value in endings[1:]] == [33.33, 0.0]
    assert Path(lines[-1]).name == "before_and_after_test.html"


def test_without_two_runs_it_says_how_to_call_it(capsys):
    assert before_and_after.command([]) == 2
    assert "python -m experiments.before_and_after" in capsys.readouterr().err


def test_a_folder_without_a_run_is_said_to_be_none(tmp_path, capsys):
    assert before_and_after.command([str(tmp_path / "old"), str(tmp_path / "new")]) == 2
    assert f"{tmp_path / 'old'} has no config.json; train first" in capsys.readouterr().err
