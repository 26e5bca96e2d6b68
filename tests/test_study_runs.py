"""One command makes every run of a study once, and the table of them."""

import dataclasses
import json

from experiments import long_tail_study, studies


def plain():
    """Two steps."""
    experiment = long_tail_study.smoke()
    (validation,) = experiment.evaluations
    test = dataclasses.replace(
        validation,
        name="test",
        data=dataclasses.replace(
            validation.data, source=dataclasses.replace(validation.data.source, split="test")
        ),
    )
    return dataclasses.replace(experiment, evaluations=(test,))


def test_a_study_runs_each_function_once_and_goes_on(tmp_path, capsys, compiled_as_it_stands):
    results = tmp_path / "results"
    results.mkdir()

    # The run on another data set is no run of this one.
    about = {"experiment": "test_study_runs", "function": "plain", "dataset": "clothes", "seed": 0}
    about |= {"split": "test", "commit": None, "command": "", "device": "", "hours": None}
    other = about | {"parameters": 1, "metrics": {"accuracy": 99.0, "few_shot": 99.0}}
    (results / "test_study_runs.plain.clothes.s0.json").write_text(json.dumps(other))

    def study():
        words = ["all", "--workdir", str(tmp_path / "runs"), "--results", str(results)]
        what = dict(dataset="scenes_tiny", metric="accuracy", others=("few_shot",), title="a study")
        assert studies.main(plain, argv=[*words, "--seeds", "0"], **what) == 0
        return capsys.readouterr().out

    assert "recorded already" not in study()
    made = results / "test_study_runs.plain.scenes_tiny.s0.json"
    before = made.stat().st_mtime_ns
    assert "plain seed 0: recorded already" in study() and made.stat().st_mtime_ns == before
    table = (results / "test_study_runs.md").read_text()
    assert table.count("| plain |") == 1 and "99.0" not in table and "not run" not in table
    assert (results / "test_study_runs.png").stat().st_size > 1000
