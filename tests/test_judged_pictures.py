"""`evaluate --judge DIR --nearest`: what other runs and the training pictures say of pictures that were made."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import fashion_mnist, picture_data, show_and_tell, text_cnn
from tests import painter
from tests.data.test_views import png
from vlm_jax import config
from vlm_jax.commands.command import UserError
from vlm_jax.commands.pictures import Judge, judged, with_nearest
from vlm_jax.data.held import Held
from vlm_jax.data.image_transforms import CentreCrop, Decode, ResizeShorter
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.prompts import Prompted
from vlm_jax.data.source import InMemory, Tfds
from vlm_jax.main import main
from vlm_jax.metrics.frechet import frechet_distance, moments
from vlm_jax.metrics.prefixed import Prefixed
from vlm_jax.metrics.prompt_holds import PromptHolds
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


def test_an_evaluation_without_predictions_is_not_judged_and_others_keep_their_prefix(
    runs, real, tmp_path
):
    judge = Judge.of(runs / "classifier")
    evaluation, found = real
    codes = dataclasses.replace(evaluation, predict=False)
    assert judged(judge, codes, Results({"loss": 1.0}, [])).numbers == {"loss": 1.0}
    data = picture_data.scenes(batch_size=8, config="tiny")
    assert with_nearest(tmp_path, data.train, codes, Results({}, [])).numbers == {}
    metrics = (Prefixed(metric=PromptHolds(), prefix="best_of_8_"),)
    task = dataclasses.replace(painter.smoke().task, metrics=metrics)
    best = dataclasses.replace(evaluation, task=task)
    assert "best_of_8_copies" in with_nearest(tmp_path, data.train, best, found).numbers


def test_photographs_are_cut_to_the_size_that_is_made(real, tmp_path):
    """Training pictures of any size beside those of 64x64 that were made."""
    rng = np.random.default_rng(0)
    stored = [
        {"id": i, "image": png(rng.integers(0, 256, (h, w, 3), np.uint8)), "captions": ("a",)}
        for i, (h, w) in enumerate([(80, 70), (66, 100), (64, 64)])
    ]
    cuts = (Decode(at_least=64), ResizeShorter(size=64), CentreCrop(size=64))
    training = Pipeline(
        source=Held(InMemory(stored), cuts), transforms=(), batch_size=2, train=True
    )
    numbers = with_nearest(tmp_path, training, *real).numbers
    assert 0 < numbers["nearest_made"] < 255


def test_prompts_that_are_not_of_the_scenes_are_no_captioner_s(runs, real):
    judge = Judge.of(runs / "captioner")
    pictures = np.stack([each["picture"] for each in real[1].examples])
    with pytest.raises(UserError, match="captions scenes, and the prompt 'ankle boot' is not of"):
        judge.said(pictures, ["ankle boot"] * len(pictures))


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
