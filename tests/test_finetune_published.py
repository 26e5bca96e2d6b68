"""Published weights, with and without a prompt, with a question beside the picture and with squares, trained on and evaluated on
the pictures made here, from the command line."""

import json
import re

import jax
import numpy as np
import pytest

from experiments import finetune_captioner, finetune_vqa, published_models
from tests.data.test_vqa_v2 import as_published  # noqa: F401
from tests.pretrained import folders
from vlm_jax.main import main
from vlm_jax.pretrained import weights
from vlm_jax.train import checkpoints
from vlm_jax.train.state import named_leaves

SHORT = "--num_steps 2 --log_every 1 --checkpoint_every 2 --evaluations.0.every 2 --evaluations.0.max_batches 1 --best null"


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Sixteen pictures in place of thousands, and three evaluations less."""
    real = published_models.records
    monkeypatch.setattr(
        published_models,
        "records",
        lambda data, known, config=None: {
            split: source
            for split, source in real(data, known, "tiny" if data == "scenes" else config).items()
            if split in ("train", "validation")
        },
    )


def run(module, folder, workdir, *argv):
    line = ["published", "train", "--weights", folder, "--workdir", str(workdir), *SHORT.split()]
    return main(module.published, argv=[*line, "--batch_size", "4", *argv])


def numbers(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {line["name"]: line for line in lines}


@pytest.mark.parametrize("family", ["captioner", "tiled"])
def test_captions_go_on_from_the_published_weights(family, tmp_path):
    folder = getattr(folders, family)(tmp_path)
    assert run(finetune_captioner, folder, tmp_path / "run", "--max_answer", "11") == 0
    found = numbers(tmp_path / "run")
    assert np.isfinite(found["train"]["loss"]) and "facts_right" in found["validation"]
    began = weights.load(folder).variables["params"]
    ended = checkpoints.load_params(tmp_path / "run")
    apart = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), began, ended)
    assert 0 < max(jax.tree.leaves(apart)) < 1e-3  # two steps, the first of them with a rate of 0


@pytest.mark.usefixtures("folder")  # of VQA v2, as it is published
def test_questions_of_vqa_v2_are_answered_and_held_against_ten_people(tmp_path):
    folder = folders.asked(tmp_path / "published")
    assert run(finetune_vqa, folder, tmp_path / "run", "--data", "vqa_v2") == 0
    found = numbers(tmp_path / "run")["validation"]
    assert 0 <= found["vqa_accuracy"] <= 100 and "vqa_accuracy_other" in found


def test_captions_of_coco_are_its_karpathy_split(tmp_path):
    experiment = finetune_captioner.published(
        folders.captioner(tmp_path), data="coco_captions", epochs=1, batch_size=100, max_answer=11
    )
    assert experiment.num_steps == 4141
    records = published_models.records("coco_captions", published_models.CAPTIONS)
    assert records["train"].name == "coco_captions"


def test_a_question_read_beside_the_picture_is_trained_on(tmp_path, capsys):
    folder = folders.questioned(tmp_path)
    assert run(finetune_vqa, folder, tmp_path / "run") == 2
    assert "--max_question: given 24, and two more, but" in capsys.readouterr().err
    assert run(finetune_vqa, folder, tmp_path / "run", "--max_question", "14") == 0
    found = numbers(tmp_path / "run")
    assert np.isfinite(found["train"]["loss"]) and "accuracy_count" in found["validation"]


def test_of_a_rule_low_rank_updates_alone_are_trained_and_kept(tmp_path):
    folder = folders.asked(tmp_path)
    argv = ["--adapt", "decoder/.*/(query|value)/kernel$", "--rank", "2"]
    assert run(finetune_vqa, folder, tmp_path / "run", *argv) == 0
    assert np.isfinite(numbers(tmp_path / "run")["train"]["loss"])
    found = checkpoints.load_variables(tmp_path / "run")
    trained = list(named_leaves(found["params"]))
    assert trained and all("lora_" in name and "self_attention" in name for name in trained)
    began, stays = (
        named_leaves(weights.load(folder).variables["params"]),
        named_leaves(found["base"]),
    )
    assert stays.keys() == began.keys()
    for name, leaf in stays.items():
        np.testing.assert_array_equal(leaf, began[name], err_msg=name)


def test_what_cannot_be_trained_is_said(tmp_path, capsys):
    folder = folders.captioner(tmp_path)
    (tmp_path / "blip").mkdir(), (tmp_path / "pg").mkdir()
    questioned, asked = folders.questioned(tmp_path / "blip"), folders.asked(tmp_path / "pg")
    for module, given, words in (
        (finetune_captioner, "", "--weights: given nothing, expected a folder"),
        (finetune_vqa, folder, "only captions; try finetune_captioner published"),
        (finetune_captioner, questioned, "reads a question beside the picture"),
    ):
        assert run(module, given, tmp_path / "run") == 2
        assert words in capsys.readouterr().err
    for argv, words in (
        (("--asked", "what is it"), "--asked: .* only captions; leave it out"),
        (("--rank", "4", "--max_answer", "11"), "--rank: given 4 without --adapt RULE"),
    ):
        assert run(finetune_captioner, folder, tmp_path / "run", *argv) == 2
        assert re.search(words, capsys.readouterr().err)
    assert run(finetune_captioner, asked, tmp_path / "run", "--asked", "w5 <image>") == 2
    assert "expected one line of text without '<image>'" in capsys.readouterr().err
    assert run(finetune_captioner, folder, tmp_path / "run", "--data", "coco") == 2
    assert "--data: given coco, expected one of scenes, flickr8k" in capsys.readouterr().err
    assert run(finetune_captioner, folder, tmp_path / "run") == 2
    assert "has positions for 12; try --max_answer 11" in capsys.readouterr().err
    (tmp_path / "tokenizer.json").unlink()
    assert run(finetune_captioner, folder, tmp_path / "run") == 2
    assert "has no tokenizer.json" in capsys.readouterr().err
