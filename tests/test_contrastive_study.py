"""The study's one command: what is recorded is not run again, and the table is made of the records."""

import json

import pytest

from experiments import contrastive_study, studies
from vlm_jax import main as command_line

RUNS = [
    getattr(contrastive_study, f"{loss}_{size}")
    for loss in ("softmax", "sigmoid")
    for size in (64, 128, 256, 512)
]


def put(folder, function, seed, recall):
    record = {
        "experiment": "contrastive_study", "function": function, "dataset": "flickr8k", "split": "test", "seed": seed,
        "commit": "abc", "command": "python", "device": "cpu", "hours": 0.1, "parameters": 10,
        "metrics": {"mean_recall": recall},
    }  # fmt: skip
    path = folder / f"contrastive_study.{function}.flickr8k.s{seed}.json"
    path.write_text(json.dumps(record))


def test_each_run_is_made_once_and_the_table_has_all(monkeypatch, tmp_path, capsys):
    asked = []

    def run_one(*functions, argv):
        """`train` leaves the line of its test, `evaluate` a record with a mean recall of 30."""
        asked.append(argv)
        workdir = argv[argv.index("--workdir") + 1]
        if argv[1] == "evaluate":
            put(tmp_path, argv[0], int(workdir.rsplit(".s")[-1]), 30.0)
        else:
            folder = tmp_path / workdir
            folder.mkdir(parents=True)
            (folder / "metrics.jsonl").write_text('{"step": 2, "name": "test"}\n')
        return 0

    monkeypatch.setattr(command_line, "main", run_one)
    put(tmp_path, "softmax_64", 0, 20.0)
    put(tmp_path, "softmax_64", 1, 22.0)
    argv = [
        "all",
        "--workdir",
        str(tmp_path / "runs"),
        "--results",
        str(tmp_path),
        "--seeds",
        "0,1",
    ]
    for _ in range(2):
        assert studies.main(*RUNS, argv=argv, metric="mean_recall", title="A title") == 0
    trained = [each[0] for each in asked if each[1] == "train"]
    assert len(trained) == 14 and "softmax_64" not in trained and trained.count("sigmoid_512") == 2
    table = (tmp_path / "contrastive_study.md").read_text()
    assert "| softmax_64 | 21.0 ± 1.4 |  | 2 | 6.0 |" in table
    assert "| sigmoid_512 | 30.0 ± 0.0 | +9.0 | 2 | 6.0 |" in table
    assert (tmp_path / "contrastive_study.png").stat().st_size > 5_000


def test_runs_differ_in_loss_batch_size_and_rate_only():
    rates = {}
    for function in RUNS:
        experiment = function()
        loss, size = function.__name__.split("_")
        assert experiment.train_data.batch_size == int(size)
        assert experiment.task.objective.__name__ == f"{loss}_pairs"
        assert (experiment.model.init_bias is None) == (loss == "softmax")
        assert abs(experiment.num_steps * int(size) - 300_000) < int(size)
        rates.setdefault(int(size), set()).add(experiment.optimizer.learning_rate.peak)
    expected = {64: 5e-4, 128: 7.071e-4, 256: 1e-3, 512: 1.414e-3}
    assert {size: max(found) for size, found in rates.items()} == pytest.approx(expected, rel=1e-3)
    assert all(len(found) == 1 for found in rates.values())
