"""DAQUAR: the official pictures, sets of answers, and files that are refused by name."""

import os

import pytest

from tests.data.made import jpeg
from vlm_jax.data.datasets import daquar
from vlm_jax.data.source import Tfds

TRAIN, TEST = 60, 2
QUESTIONS = (
    ("what is under the pan in the image{} ?", "oven"),
    ("how many red chairs are there on the image{} ?", "3"),
    ("what colour is the door in the image{0} near the wall in the image{0} ?", "red, white"),
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Sixty pictures to train on, two to test on, one of them without a question."""
    monkeypatch.delenv("VLM_JAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(
        daquar, "SIZES", {"train_images_list.txt": TRAIN, "test_images_list.txt": TEST}
    )
    monkeypatch.setattr(daquar, "SHA256", {})
    folder = tmp_path / "downloads" / "manual" / "daquar"
    (folder / "images").mkdir(parents=True)
    train, test = range(1, TRAIN + 1), range(TRAIN + 1, TRAIN + TEST + 1)
    for name, numbers in (("train", train), ("test", test)):
        lines = [f"image{number}" for number in numbers]
        (folder / f"{name}_images_list.txt").write_text("\n".join(lines))
    asked = []
    for number in (*train, *test):
        (folder / "images" / f"image{number}.jpg").write_bytes(jpeg(number))
        if number != 7:
            asked += [line.format(number) for pair in QUESTIONS for line in pair]
    (folder / "all_qa_pairs.txt").write_text("\n".join(asked) + "\n")
    return folder


def examples(split, config="all"):
    source = Tfds("daquar", split, config=config)
    return [source[index] for index in range(len(source))]


def test_validation_is_the_last_of_ten_blocks_of_five_pictures(folder):
    ids = {split: [int(e["id"]) for e in examples(split)] for split in ("train", "validation")}
    assert ids["validation"] == [46, 47, 48, 49, 50]
    assert sorted(ids["train"] + ids["validation"]) == list(range(1, TRAIN + 1))
    assert [int(e["id"]) for e in examples("test")] == [61, 62]


def test_questions_do_not_name_their_picture_and_sets_are_kept_or_left_out(folder):
    example = examples("test")[0]
    assert example["questions"] == (
        "what is under the pan",
        "how many red chairs are there on the image",
        "what colour is the door in the image near the wall",
    )
    assert example["answers"] == ("oven", "3", "red, white")
    assert example["question_types"] == ("object", "number", "color")
    assert example["image"] == jpeg(61) and example["image_name"] == "image61.jpg"
    assert examples("test", "single")[0]["answers"] == ("oven", "3")
    assert examples("train")[6]["questions"] == ()


def test_files_that_are_missing_short_or_other_are_refused_by_name(folder, monkeypatch):
    path = folder / "all_qa_pairs.txt"
    whole = path.read_text()
    path.write_text(whole + "what is this in the image999 ?\nsofa\n")
    with pytest.raises(ValueError, match="(?s)all_qa_pairs.txt line 367: given 'what is this.*62"):
        examples("train")
    path.write_text(whole + "what is this in the image1 ?\n")
    with pytest.raises(ValueError, match="367 lines, expected a question and its answer"):
        examples("train")
    monkeypatch.setattr(daquar, "SHA256", {"all_qa_pairs.txt": "0" * 64})
    with pytest.raises(ValueError, match="(?s)all_qa_pairs.txt is not the published file.*Kaggle"):
        examples("train")
    monkeypatch.setattr(daquar, "SHA256", {})
    path.write_text(whole)
    (folder / "images" / "image3.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="image3.png .missing"):
        examples("train")
    (folder / "test_images_list.txt").write_text("image61\n")
    with pytest.raises(ValueError, match="test_images_list.txt has 1 different names.*expected 2"):
        examples("train")
    path.unlink()
    (folder / "train_images_list.txt").unlink()
    with pytest.raises(FileNotFoundError, match="(?s)train_images_list.txt is missing.*Kaggle"):
        examples("train")


@pytest.mark.skipif("VLM_JAX_DATA" not in os.environ, reason="VLM_JAX_DATA is not set")
def test_the_real_daquar_has_the_published_counts(tmp_path):
    folder = daquar.manual_folder("daquar", tmp_path, "")
    train, test = (daquar.read_names(folder / name) for name in daquar.SIZES)
    asked = daquar.read_questions(folder / "all_qa_pairs.txt", {*train, *test})
    assert [sum(len(asked[name]) for name in names) for names in (train, test)] == [6795, 5673]
    texts = [question for pairs in asked.values() for question, _ in pairs]
    assert not any("image" in text and any(c.isdigit() for c in text) for text in texts)
    single = [answer for pairs in asked.values() for _, answer in pairs if "," not in answer]
    assert len(single) == 11_225
