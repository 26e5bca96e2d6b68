"""The command that trains every fusion: what it runs, what it does not run again, and the table of what is recorded."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import fusion_study, studies
from vlm_jax.commands.command import UserError

WRITTEN = {"scenes": ("scenes", "scenes-test_unseen"), "daquar": ("daquar_single",)}


def record(folder, name, dataset, accuracy, seed=0, **changes):
    data, _, split = dataset.partition("-")
    result = {
        "experiment": "fusion_study",
        "function": name,
        "dataset": data,
        "split": split or "test",
        "seed": seed,
        "commit": None,
        "command": "",
        "device": "",
        "hours": 0.025,
        "parameters": 123_456,
        "metrics": {"accuracy": accuracy, "accuracy_majority": 40.0},
    }
    path = folder / f"fusion_study.{name}.{dataset}.s{seed}.json"
    path.write_text(json.dumps(result | changes))


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """The commands that were run; an evaluation leaves its records."""
    seen = []

    def main(function, argv):
        seen.append(argv)
        place = Path(argv[argv.index("--workdir") + 1])
        if argv[1] == "train":
            place.mkdir(parents=True)
            (place / "metrics.jsonl").write_text('{"step": 9, "name": "test"}\n')
        else:
            _, data, seed = place.name.split(".")
            for dataset in WRITTEN[data]:
                record(tmp_path, argv[0], dataset, 50.0, int(seed[1:]))
        return 0

    monkeypatch.setattr(studies.command_line, "main", main)
    return seen


def test_every_fusion_is_run_once_with_each_seed_on_both(commands, tmp_path):
    argv = ["--workdir", str(tmp_path / "runs"), "--results", str(tmp_path), "--seeds", "0,1"]
    argv += ["--encoder", "runs/eyes"]
    assert fusion_study.run(argv) == 0
    assert len(commands) == 2 * 2 * 2 * len(fusion_study.RUNS)
    assert commands[0][2:6] == ["--data", "scenes", "--encoder", "runs/eyes"]
    assert fusion_study.run(argv) == 0
    assert len(commands) == 2 * 2 * 2 * len(fusion_study.RUNS), "what is done was done again"
    assert (tmp_path / "fusion_study.png").stat().st_size > 10_000
    assert "| `film` | 50.0 ± 0.0 |" in (tmp_path / "fusion_study.md").read_text()


@pytest.mark.parametrize("code", [0, 130])
def test_a_run_that_is_stopped_is_not_recorded_and_stops_the_others(code, monkeypatch, tmp_path):
    """Stopped by a signal a run ends well, but before its test."""
    for dataset in ("scenes", "scenes-test_unseen"):
        record(tmp_path, "blind", dataset, 41.0)
    record(tmp_path, "concat", "scenes", 50.0)  # killed between the two files
    commands = []

    def main(function, argv):
        commands.append(argv)
        place = tmp_path / "concat.scenes.s0"
        place.mkdir()
        (place / "metrics.jsonl").write_text('{"step": 9, "name": "validation"}\n')
        return code

    monkeypatch.setattr(studies.command_line, "main", main)
    argv = ["--workdir", str(tmp_path), "--results", str(tmp_path)]
    assert fusion_study.run(argv) == 130
    assert [argv[:4] for argv in commands] == [["concat", "train", "--data", "scenes"]]


def test_the_table_has_means_and_says_what_was_not_run(tmp_path):
    record(tmp_path, "concat", "scenes", 50.0)
    record(tmp_path, "concat", "scenes", 52.0, seed=1)
    record(tmp_path, "concat", "daquar_single", 20.0)
    record(tmp_path, "concat", "daquar_single-validation", 90.0)  # not what is compared
    lines = fusion_study.table(fusion_study.recorded(tmp_path)).splitlines()
    assert lines[2].startswith(
        "| most frequent answer of each kind of question | 40.0 | not run | 40.0 |"
    )
    (row,) = [line for line in lines if "`concat`" in line]
    assert row == "| `concat` | 51.0 ± 1.4 | not run | 20.0 | 123 k / 123 k | 1.5 / 1.5 | 2 / 1 |"
    assert "| `film` | not run | not run | not run |  |  | 0 |" in lines


@pytest.mark.parametrize("data", fusion_study.STEPS)
def test_every_fusion_fits_its_encoders(data, monkeypatch, tmp_path):
    """By shape alone, and without data."""
    monkeypatch.setenv("VLM_JAX_DATA", str(tmp_path))
    shape = (2, 64, 96) if data == "scenes" else (2, 49, 1280)
    batch = {"image": np.zeros(shape, np.float32), "text": np.ones((2, 18), np.int32)}
    for name, function in fusion_study.RUNS.items():
        model = function(data).model
        logits, variables = jax.eval_shape(
            lambda batch, model=model: model.init_with_output(
                jax.random.key(0), batch, train=False
            ),
            batch,
        )
        assert logits.shape == (2, model.num_classes), name
        count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        assert 100_000 < count < 1_000_000, (name, count)


def test_other_data_are_refused_by_name():
    with pytest.raises(UserError, match="given vqa, expected one of scenes, daquar"):
        fusion_study.film("vqa")
