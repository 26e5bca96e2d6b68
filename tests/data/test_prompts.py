"""Sources of prompts, and the pipelines that experiments make of them."""

import numpy as np
import pytest

from experiments import picture_data
from vlm_jax.data.prompts import ClassPrompted, Prompted
from vlm_jax.data.source import InMemory, Rows
from vlm_jax.types import BOS, EOS, PAD

TEXTS = Rows(names=("captions", "scene"), rows=((("a", "b"), "{}"), (("c", "d"), "{}")))


def test_the_first_caption_is_the_prompt_and_stands_in_the_references():
    source = Prompted(TEXTS)
    assert [source[i]["prompt"] for i in range(len(source))] == ["a", "c"]
    assert source.references[1] == {"captions": ("c", "d"), "scene": ("{}",), "prompt": ("c",)}
    with pytest.raises(ValueError, match="example 0 has no 'captions'"):
        Prompted(InMemory([{"id": 0}]))[0]


def test_the_name_of_the_class_is_the_prompt():
    source = ClassPrompted(InMemory([{"id": 4, "label": 1}]), classes=("bag", "ankle boot"))
    assert source[0]["prompt"] == "ankle boot"
    assert source.references == {4: {"prompt": ("ankle boot",)}}
    with pytest.raises(ValueError, match="'label' of example 4 is 1, expected 0 to 0"):
        ClassPrompted(InMemory([{"id": 4, "label": 1}]), classes=("bag",))[0]


def test_scenes_keep_their_prompt_in_evaluation_and_draw_another_in_training():
    data = picture_data.scenes(batch_size=64, config="tiny")
    held = data.held_out["test_unseen"]
    batch = next(held.batches())[1]
    texts = held.source.references
    for row in range(3):
        prompt = texts[int(batch["id"][row])]["prompt"][0]
        ids = data.tokenizer.encode(prompt)
        assert batch["text"][row].tolist() == [BOS, *ids, EOS] + [PAD] * (34 - len(ids))
    assert batch["image"].shape[1:] == (64, 64, 3) and batch["image"].min() >= -1
    assert batch["image"].max() <= 1 and "scene" in texts[int(batch["id"][0])]
    first, second = (next(data.train.batches(position))[1] for position in (0, 1))
    order = [np.argsort(batch["id"]) for batch in (first, second)]
    np.testing.assert_array_equal(first["image"][order[0]], second["image"][order[1]])
    same = (first["text"][order[0]] == second["text"][order[1]]).all(1)
    assert 0 < same.mean() < 0.6
