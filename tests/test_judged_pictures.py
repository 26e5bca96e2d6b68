"""`evaluate --judge DIR --nearest`: what other runs and the training pictures say of pictures that were made."""

import json

import numpy as np
import pytest

from experiments import fashion_mnist, picture_data, show_and_tell, text_cnn
from tests import painter
from vlm_jax import config
from vlm_jax.commands.command import UserError
from vlm_jax.commands.pictures import Judge, judged, with_nearest
from vlm_jax.data.prompts import Prompted
from vlm_jax.data.source import Tfds
from vlm_jax.main import main
from vlm_jax.metrics.frechet import frechet_distance, moments
from vlm_jax.train.evaluation import Evaluation, Results


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Workdirs of a painter, a captioner and a classifier, two steps each."""
    folder = tmp_path_factory.mktemp("judges")
    for name, function in (
        ("painter", painter.smoke),
        ("captioner", show_and_tell.smoke),
        ("classifier", fashion_mnist.smoke),
    ):
        assert main(function, argv=["train", "--workdir", str(folder / name)]) == 0
    return folder


@pytest.fixture(scope="module")
def real():
    """An evaluation of the tiny test set, and results whose pictures are the real ones, twice."""
    data = picture_data.scenes(batch_size=8, config="tiny")
    pipeline = data.held_out["test"]
    batch = next(pipeline.batches())[1]
    pictures = np.round(255 * (batch["image"] * 0.5 + 0.5)).astype(np.uint8)[:32]
    examples = [
        {"id": int(i), "picture": picture, "pictures": np.stack([picture, picture])}
        for i, picture in zip(batch["id"], pictures)
    ]
    return Evaluation(name="test", data=pipeline), Results({"loss": 1.0}, examples)


def test_a_captioner_says_what_is_kept_of_made_and_real_pictures_alike(runs, real):
    judge = Judge.of(runs / "captioner")
    found = judged(judge, *real).numbers
    assert found["loss"] == 1.0 and found["frechet_samples"] == 64
    assert found["facts_kept"] == pytest.approx(found["facts_kept_real"])
    assert found["prompts_kept"] == found["prompts_kept_real"]
    vectors = judge.vectors(np.stack([each["picture"] for each in real[1].examples]))
    twice = np.concatenate([vectors, vectors])
    by_hand = frechet_distance(*moments(twice), *moments(vectors))
    assert found["frechet_distance"] == pytest.approx(by_hand, rel=1e-3, abs=1e-6)


def test_a_classifier_says_how_often_the_class_is_the_prompt(runs, real):
    judge = Judge.of(runs / "classifier")
    pictures = np.stack([each["picture"] for each in real[1].examples])
    names = judge.experiment.task.classes
    consistent = [judge.said(pictures, [name] * len(pictures)) for name in names]
    shares = [each["class_consistency"] for each in consistent]
    assert sum(shares) == pytest.approx(100)  # every picture is of one class
    with pytest.raises(UserError, match="tells one, two, three, four apart, of which 'a zebra'"):
        judge.said(pictures, ["a zebra"] * len(pictures))


def test_evaluate_prints_what_the_judge_and_the_training_pictures_say(runs, capsys):
    argv = ["evaluate", "--workdir", str(runs / "painter"), "--judge", str(runs / "captioner"), "--nearest"]  # fmt: skip
    assert main(painter.smoke, argv=argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["signature"] == "judge:captioner,step:2" and found["frechet_samples"] == 16
    assert {
        "prompt_holds",
        "facts_kept",
        "facts_kept_real",
        "copies",
        "nearest_made",
    } <= found.keys()
    page = (runs / "painter" / "nearest_validation.html").read_text()
    assert page.count("<article>") == 16 and "the nearest of 64 training pictures" in page


def test_training_pictures_handed_out_again_are_copies(runs, real, tmp_path):
    data = picture_data.scenes(batch_size=8, config="tiny")
    evaluation, found = real
    training = with_nearest(tmp_path, data.train, evaluation, found).numbers
    assert training["copies"] <= 6.3 and training["nearest_made"] == training["nearest_real"] > 5
    source = Prompted(Tfds("scenes", "test", config="tiny"))
    pictures = next(data.train.batches())[1]["image"]
    copied = np.round(255 * (pictures[:1] * 0.5 + 0.5)).astype(np.uint8)
    examples = [{**each, "pictures": copied} for each in found.examples]
    numbers = with_nearest(tmp_path, data.train, evaluation, Results({}, examples)).numbers
    assert numbers["copies"] == 100 and numbers["nearest_made"] == 0
    assert len(source) == len(examples)


@pytest.mark.parametrize(
    "judge, says",
    [
        ("nowhere", "nowhere has no config.json; give the workdir of a classifier"),
        ("texts", "neither tells the class of a picture nor captions it"),
    ],
)
def test_a_workdir_that_cannot_judge_is_refused_before_anything_is_made(runs, capsys, judge, says):
    (runs / "texts").mkdir(exist_ok=True)
    node = json.dumps(config.to_json(text_cnn.smoke()))  # it classifies texts
    (runs / "texts" / "config.json").write_text(node)
    argv = ["evaluate", "--workdir", str(runs / "painter"), "--judge", str(runs / judge)]
    assert main(painter.smoke, argv=argv) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and says in printed.err


def test_a_model_that_makes_no_pictures_is_not_judged(runs, capsys):
    argv = ["evaluate", "--workdir", str(runs / "captioner"), "--nearest"]
    assert main(show_and_tell.smoke, argv=argv) == 2
    assert "makes no pictures of prompts" in capsys.readouterr().err
