"""The study's one command: what is recorded is not run again, and the table is made of the records."""

import json

import pytest

from experiments import contrastive_study
from vlm_jax import main as command_line


def put(folder, function, seed, recall):
    record = {
        "experiment": "contrastive_study", "function": function, "dataset": "flickr8k", "split": "test", "seed": seed,
        "commit": "abc", "command": "python", "device": "cpu", "hours": 0.1, "parameters": 10,
        "metrics": {"mean_recall": recall, "image_to_text_r1": 20.0, "text_to_image_r1": 10.0},
    }  # fmt: skip
    path = folder / f"contrastive_study.{function}.flickr8k.s{seed}.json"
    path.write_text(json.dumps(record))


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """What the command line was asked; `evaluate` records a mean recall of 30."""
    asked = []

    def main(function, argv):
        asked.append(argv)
        if argv[1] == "evaluate":
            seed = int(argv[argv.index("--workdir") + 1].rsplit(".s")[-1])
            put(tmp_path, argv[0], seed, 30.0)
        return 0

    monkeypatch.setattr(command_line, "main", main)
    return asked


def test_each_run_is_made_once_and_the_table_has_all(runs, tmp_path, capsys):
    put(tmp_path, "softmax_64", 0, 20.0)
    put(tmp_path, "softmax_64", 1, 22.0)
    argv = ["--folder", str(tmp_path / "runs"), "--results", str(tmp_path), "--seeds", "0,1"]
    assert contrastive_study.run(argv) == 0
    trained = [asked[0] for asked in runs if asked[1] == "train"]
    assert len(trained) == 14 and "softmax_64" not in trained and trained.count("sigmoid_512") == 2
    assert contrastive_study.run(argv) == 0
    assert len(runs) == 28
    table = (tmp_path / "runs" / "table.md").read_text()
    assert "| 64 | softmax | 21.0 ± 1.4 | 20.0 ± 0.0 | 10.0 ± 0.0 | 2 |" in table
    assert table.count("\n") == 2 + 8 and capsys.readouterr().out == 2 * table
    assert (tmp_path / "runs" / "recall.png").stat().st_size > 5_000


def test_a_run_that_fails_stops_the_study(monkeypatch, tmp_path):
    monkeypatch.setattr(command_line, "main", lambda function, argv: 2)
    assert contrastive_study.run(["--results", str(tmp_path)]) == 2


def test_runs_differ_in_loss_batch_size_and_rate_only():
    rates = {}
    for name, function in contrastive_study.RUNS.items():
        experiment = function()
        loss, size = name.split("_")
        assert experiment.train_data.batch_size == int(size)
        assert experiment.task.objective.__name__ == f"{loss}_pairs"
        assert (experiment.model.init_bias is None) == (loss == "softmax")
        assert abs(experiment.num_steps * int(size) - 300_000) < int(size)
        rates.setdefault(int(size), set()).add(experiment.optimizer.learning_rate.peak)
    expected = {64: 5e-4, 128: 7.071e-4, 256: 1e-3, 512: 1.414e-3}
    assert {size: round(*found, 7) for size, found in rates.items()} == pytest.approx(
        expected, rel=1e-3
    )
