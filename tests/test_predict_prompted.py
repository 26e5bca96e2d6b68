"""`predict IMAGE --question` of a model that writes its answer after a prompt, from the command line, with int8 too."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments import finetune_vqa
from vlm_jax.commands.pipelines import over_pictures, predicting
from vlm_jax.main import main
from vlm_jax.types import PAD


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir with two steps of low-rank updates, and a picture."""
    folder = tmp_path_factory.mktemp("answers")
    assert main(finetune_vqa.smoke, argv=["train", "--workdir", str(folder / "run")]) == 0
    Image.new("RGB", (70, 50), "red").save(folder / "a.png")
    return folder


def test_an_answer_is_written_and_its_probability_told(trained, capsys):
    argv = ["predict", str(trained / "a.png"), "--workdir", str(trained / "run"), "--json"]
    asked = ["--question", "what color is the circle"]
    assert main(finetune_vqa.smoke, argv=[*argv, *asked]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["question"] == asked[1] and said["log_prob"] < 0
    assert isinstance(said["answer"], str)
    assert main(finetune_vqa.smoke, argv=[*argv, *asked, "--int8"]) == 0
    smaller = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(smaller["log_prob"], said["log_prob"], atol=0.1)


def test_the_prompt_of_a_given_picture_is_that_of_training_byte_for_byte(trained):
    experiment = finetune_vqa.smoke()
    row = next(experiment.train_data.batches())[1]
    source = experiment.train_data.source
    places = [i for i in range(len(source)) if int(source[i]["id"]) == int(row["id"][0])]
    question = source[places[0]]["question"]
    pipeline, _ = over_pictures(predicting(experiment).data, [str(trained / "a.png")], question)
    given = next(iter(pipeline.batches()))[1]["prompt"][0]
    given = given[given != PAD]
    first = int(np.argmax(row["predicted"][0])) + 1
    assert row["target"][0, :first].tobytes() == given.tobytes()


def test_evaluate_says_what_int8_costs(trained, capsys):
    argv = ["evaluate", "--int8", "--workdir", str(trained / "run")]
    assert main(finetune_vqa.smoke, argv=argv) == 0
    whole, small = map(json.loads, capsys.readouterr().out.splitlines())
    assert small["weights"] == "int8" and small["megabytes"] < small["before"]
    assert abs(small["loss"] - whole["loss"]) < 0.05
    assert {"accuracy", "loss"} <= whole.keys() and small["evaluation"] == whole["evaluation"]
