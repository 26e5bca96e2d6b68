"""Fine-tuning on a folder of pictures, from the command line, with a tiny network in place of MobileNetV2."""

import json

import jax
import numpy as np
import pytest

from experiments import finetune_classifier, finetune_vqa, prompted_scenes
from vlm_jax.data.datasets.scenes_layout import generate
from vlm_jax.data.datasets.scenes_pictures import render
from vlm_jax.data.datasets.scenes_questions import AskAnew
from vlm_jax.main import main
from vlm_jax.text.scene_judge import Scene
from vlm_jax.train import checkpoints
from vlm_jax.types import EOS
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


STEPS = "--num_steps 3 --checkpoint_every 1 --evaluations.0.every 2 --train_data.batch_size 8"


def test_part_of_the_network_is_trained_and_the_rest_stays(folder):
    run("partly", "train", "--folder", "pictures", "--size", str(SIZE), *STEPS.split())
    workdir = folder.parent / "runs" / "partly"
    first, last = (checkpoints.load_variables(workdir, step)["params"] for step in (1, 3))
    moved = {
        name: {
            bool((a != b).any())
            for a, b in zip(*map(jax.tree.leaves, (part, last["image_encoder"][name])))
        }
        for name, part in first["image_encoder"].items()
    }
    assert moved == {"stem": {False}, "block_0": {False}, "block_1": {True}, "last": {True}}
    assert finetune_classifier.whole("pictures").optimizer.frozen == ()


def test_a_linear_layer_on_cached_features_is_trained_tested_and_used(folder, capsys, monkeypatch):
    run("frozen", "train", "--folder", str(folder), "--size", str(SIZE), *STEPS.split())
    run("frozen", "evaluate", "--only", "test")
    workdir = folder.parent / "runs" / "frozen"
    assert set(checkpoints.load_variables(workdir, 3)["params"]) == {"linear"}
    assert (workdir / "classes_test.html").exists()
    capsys.readouterr()
    picture = next((folder / "test" / "one").iterdir())
    run("frozen", "predict", str(picture), "--json")
    said = json.loads(capsys.readouterr().out)
    assert said["prediction"] in ("one", "several")
    assert set(said["probabilities"]) == {"one", "several"}
    # Where the default folder is not one of classes, the run's own is all that counts.
    (folder.parent / "elsewhere" / "pictures").mkdir(parents=True)
    (folder.parent / "elsewhere" / "pictures" / "a.jpg").write_bytes(b"")
    monkeypatch.chdir(folder.parent / "elsewhere")
    line = ["predict", str(picture), "--workdir", str(workdir), "--json"]
    assert main(finetune_classifier.frozen, argv=line) == 0
    assert json.loads(capsys.readouterr().out) == said
    assert main(finetune_classifier.frozen, argv=["--help"]) == 0
    assert "not to be listed here: " in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    functions = (finetune_classifier.whole,)
    assert main(*functions, argv=["train", "--folder", "photos", "--workdir", "runs/x"]) == 2
    assert "there is no folder photos; expected a folder for each class" in capsys.readouterr().err


def test_the_modules_that_low_rank_updates_adapt_are_described(capsys):
    assert main(finetune_vqa.smoke, argv=["describe"]) == 0
    printed = capsys.readouterr().out
    assert "What Lora adapts" in printed and "decoder/blocks_0" in printed


def test_held_out_pictures_are_listed_one_row_a_picture_behind_the_question():
    """What is learned is the listing and its end; the same in every pass."""
    asked = prompted_scenes.answers(batch_size=4, places=4, config="tiny", max_answer=24)
    listed = AskAnew(shares=(("listing", 1.0),))
    for pipeline in prompted_scenes.listings(asked).values():
        rows = []
        for _, batch in pipeline.batches():
            words = pipeline.transforms[-2].prompt.tokenizer
            for target, predicted, valid in zip(
                batch["target"], batch["predicted"], batch["valid"]
            ):
                if valid:
                    learned = target[1:][predicted]
                    rows.append(words.decode(learned))
                    assert learned[-1] == EOS and (target == prompted_scenes.IMAGE).sum() == 4
                    question = words.decode(target[1:][~predicted])
                    assert question.strip() == "what is in the picture"
        scenes = [Scene.from_json(pipeline.source[i]["scene"]) for i in range(len(pipeline.source))]
        rng = np.random.default_rng(1)
        assert rows == [listed({"scene": each.to_json()}, rng)["answer"] for each in scenes]
