"""A study's one command: every run once, resumed where it was stopped, and a table of what is there."""

import json

from experiments import image_data
from experiments.resnet_cifar import tiny
from experiments.studies import main
from vlm_jax.layers.pooling import pool
from vlm_jax.models.classifier import Classifier
from vlm_jax.tasks.classification import Classification
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.optimizers import Adam
from vlm_jax.vision.precomputed import Precomputed


def plain() -> Experiment:
    """A linear layer on the mean colour, two steps."""
    data = image_data.scenes(batch_size=8, size=8, channels=3)
    _, test = data.evaluations(every=None)
    return tiny(
        Experiment(
            model=Classifier(num_classes=4, image_encoder=Precomputed(), pooling=pool),
            task=Classification(classes=data.classes),
            train_data=data.train,
            num_steps=2,
            optimizer=Adam(learning_rate=0.01),
            evaluations=(test,),
        )
    )


def elsewhere(data: str = "here") -> Experiment:
    """The same, with an argument."""
    assert data == "there"
    return plain()


def smoke() -> Experiment:
    """Is not part of the study."""
    raise AssertionError


def test_every_run_is_made_once_and_all_are_compared(tmp_path, capsys):
    results = tmp_path / "results"
    results.mkdir()

    # The run on another data set is no run of this one.
    about = {"experiment": "test_studies", "function": "plain", "dataset": "clothes", "seed": 3}
    about |= {"split": "test", "commit": None, "command": "", "device": "", "hours": None}
    other = about | {"parameters": 1, "metrics": {"accuracy": 99.0, "macro_f1": 99.0}}
    (results / "test_studies.plain.clothes.s3.json").write_text(json.dumps(other))

    def study() -> str:
        argv = [
            "all",
            "--workdir",
            str(tmp_path / "runs"),
            "--results",
            str(results),
            "--seeds",
            "3",
        ]
        what = dict(dataset="scenes_tiny", metric="accuracy", others=("macro_f1",), title="A study")
        assert main(plain, smoke, argv=argv, **what) == 0
        return capsys.readouterr().out

    first = study()
    (file,) = results.glob("*scenes_tiny*.json")
    found = json.loads(file.read_text())
    assert file.name == "test_studies.plain.scenes_tiny.s3.json"
    assert (found["seed"], found["parameters"]) == (3, 16) and found["hours"] is not None
    assert "plain train --workdir" in found["command"] and "--seed 3" in found["command"]
    table = (results / "test_studies.md").read_text()
    assert table.startswith("A study\n\n| |") and f"{found['metrics']['accuracy']:.1f}" in table
    assert table.count("| plain |") == 1 and "99.0" not in table and "not run" not in table
    assert (results / "test_studies.png").stat().st_size > 5_000
    assert "recorded already" not in first
    assert "plain seed 3: recorded already" in study()

    # Stopped after training: the run goes on with its evaluation.
    file.unlink()
    study()
    assert json.loads(file.read_text()) == found


def test_all_runs_on_the_data_that_is_chosen(tmp_path, capsys):
    argv = ["all", "--workdir", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    what = dict(dataset="here", metric="accuracy", title="Here")
    what |= {"more": {"there": ("scenes_tiny", "There")}}
    assert main(elsewhere, smoke, argv=[*argv, "--seeds", "4", "--data", "there"], **what) == 0
    table = (tmp_path / "results" / "test_studies.there.md").read_text()
    assert table.startswith("There\n") and table.count("| elsewhere |") == 1
    assert (tmp_path / "runs" / "elsewhere.there.s4" / "config.json").is_file()
    assert "elsewhere there seed 4" in capsys.readouterr().out
