"""Fine-tuning on a folder of pictures, from the command line, with a tiny network in place of MobileNetV2."""

import json

import jax
import pytest

from experiments import finetune_classifier
from vlm_jax.data.datasets.scenes_layout import generate
from vlm_jax.data.datasets.scenes_pictures import render
from vlm_jax.main import main
from vlm_jax.train import checkpoints
from vlm_jax.vision.mobilenet import mobilenet_v2_folded

SIZE = 32


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Twelve scenes with one shape and twelve with several, and functions that take a tiny network."""
    from PIL import Image

    tiny = mobilenet_v2_folded(stages=((1, 4, 1, 2), (2, 6, 1, 1)), stem_width=4, width=8)
    monkeypatch.setattr(finetune_classifier, "mobilenet_v2_folded", lambda: tiny)
    monkeypatch.setattr(finetune_classifier, "MobileNetV2Weights", lambda **_: None)
    monkeypatch.setattr(finetune_classifier, "EARLY", (r"image_encoder/(stem|block_0)/",))
    monkeypatch.setenv("VLM_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    counts, index = {"one": 0, "several": 0}, 0
    while min(counts.values()) < 12:
        scene = generate(0, "train", index)
        name = "one" if len(scene.objects) == 1 else "several"
        if counts[name] < 12:
            split = ("train", "train", "validation", "test")[counts[name] % 4]
            path = tmp_path / "pictures" / split / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(render(scene)).save(path)
            counts[name] += 1
        index += 1
    return tmp_path / "pictures"


def run(function, *argv):
    functions = (finetune_classifier.frozen, finetune_classifier.partly, finetune_classifier.whole)
    assert main(*functions, argv=[function, *argv, "--workdir", f"runs/{function}"]) == 0


@pytest.mark.parametrize("function", ["frozen", "partly", "whole"])
def test_one_command_trains_what_it_should_and_leaves_the_rest(
    folder, function, capsys, compiled_as_it_stands
):
    steps = "--num_steps 3 --checkpoint_every 1 --evaluations.0.every 2 --train_data.batch_size 8"
    run(function, "train", "--folder", "pictures", "--size", str(SIZE), *steps.split())
    workdir = folder.parent / "runs" / function
    first, last = (checkpoints.load_variables(workdir, step)["params"] for step in (1, 3))
    assert last["linear"]["kernel"].shape == (8, 2)
    moved = {
        name: {
            bool((a != b).any())
            for a, b in zip(*map(jax.tree.leaves, (part, last["image_encoder"][name])))
        }
        for name, part in first.get("image_encoder", {}).items()
    }
    early = {function == "whole"}
    assert moved == (
        {}
        if function == "frozen"
        else {"stem": early, "block_0": early, "block_1": {True}, "last": {True}}
    )
    run(function, "evaluate", "--only", "test")
    assert (workdir / "classes_test.html").exists()
    capsys.readouterr()
    picture = next((folder / "test" / "one").iterdir())
    run(function, "predict", str(picture), "--json")
    said = json.loads(capsys.readouterr().out)
    assert said["prediction"] in ("one", "several") and set(said["probabilities"]) == {
        "one",
        "several",
    }


def test_a_folder_that_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    functions = (finetune_classifier.whole,)
    assert main(*functions, argv=["train", "--folder", "photos", "--workdir", "runs/x"]) == 2
    assert "there is no folder photos; expected a folder for each class" in capsys.readouterr().err
