"""VQA v2: the official layout on files made here, and what is refused by name."""

import json

import pytest

from tests.data.made import jpeg
from vlm_jax.data.datasets import vqa_v2
from vlm_jax.data.questions import EachQuestion
from vlm_jax.data.source import Tfds

PICTURES = {"train": (9, 581_929), "validation": (42,)}
PEOPLE = ("red",) * 6 + ("dark red", "Red", "maroon", "red.")


@pytest.fixture(name="folder")
def as_published(tmp_path, monkeypatch):
    """Two questions about each of three pictures, those of the first apart from each other in the file."""
    monkeypatch.delenv("VLM_JAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(vqa_v2, "SIZES", {"train": 4, "validation": 2})
    folder = tmp_path / "downloads" / "manual" / "vqa_v2"
    for split, images in PICTURES.items():
        year = vqa_v2.SPLITS[split]
        (folder / year).mkdir(parents=True)
        questions, annotations = [], []
        for place in (0, 1):
            for image in images:
                (folder / year / f"COCO_{year}_{image:012d}.jpg").write_bytes(jpeg(image))
                id = {"question_id": 1000 * image + place, "image_id": image}
                questions.append({**id, "question": f"What color is it? {place}"})
                people = [
                    {"answer_id": i, "answer": a, "answer_confidence": "yes"}
                    for i, a in enumerate(PEOPLE, 1)
                ]
                annotations.append(
                    {
                        **id,
                        "question_type": "what color is",
                        "answer_type": "other",
                        "multiple_choice_answer": "red",
                        "answers": people,
                    }
                )
        write(folder / f"v2_OpenEnded_mscoco_{year}_questions.json", questions=questions)
        write(folder / f"v2_mscoco_{year}_annotations.json", annotations=annotations[::-1])
    return folder


def write(path, **content):
    path.write_text(json.dumps({"info": {}, **content}))


def test_each_question_has_the_official_id_and_its_ten_answers(folder):
    train = Tfds("vqa_v2", "train")
    assert [int(train[i]["id"]) for i in range(len(train))] == [9, 581_929]
    assert train[1]["image"] == jpeg(581_929)
    each = EachQuestion(train)
    assert list(each.references) == [9000, 9001, 581_929_000, 581_929_001]
    assert each.references[9001] == {
        "image_name": ("train2014/COCO_train2014_000000000009.jpg",),
        "question": ("What color is it? 1",),
        "answer": ("red",),
        "answer_type": ("other",),
        "question_type": ("what color is",),
        "human_answers": PEOPLE,
    }
    assert each[2]["id"] == 581_929_000 and each[2]["image"] == jpeg(581_929)
    assert each.picture_of(581_929_001) == 581_929
    assert len(EachQuestion(Tfds("vqa_v2", "validation"))) == 2


def test_files_that_do_not_fit_together_are_refused_by_name(folder):
    path = folder / "v2_mscoco_val2014_annotations.json"
    whole = json.loads(path.read_text())["annotations"]
    write(path, annotations=whole[:1])
    with pytest.raises(ValueError, match="val2014_annotations.json has 1 questions, expected 2"):
        len(Tfds("vqa_v2", "train"))
    write(path, annotations=[{**whole[0], "answers": whole[0]["answers"][:9]}, whole[1]])
    with pytest.raises(ValueError, match="of question 42001 .* 9 answers, expected .* 10 answers"):
        len(Tfds("vqa_v2", "train"))
    write(path, annotations=[{**whole[0], "image_id": 7}, whole[1]])
    with pytest.raises(ValueError, match="about picture 42 it has picture 7"):
        len(Tfds("vqa_v2", "train"))
    write(path, something=[])
    with pytest.raises(ValueError, match="has no list 'annotations'"):
        len(Tfds("vqa_v2", "train"))
    path.write_text('{"annotations": [')
    with pytest.raises(ValueError, match="val2014_annotations.json is not whole JSON"):
        len(Tfds("vqa_v2", "train"))
    path.unlink()
    with pytest.raises(FileNotFoundError, match="(?s)annotations.json is missing.*visualqa.org"):
        len(Tfds("vqa_v2", "train"))


def test_a_missing_picture_is_named(folder):
    (folder / "train2014" / "COCO_train2014_000000000009.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="COCO_train2014_000000000009.jpg .missing"):
        len(Tfds("vqa_v2", "train"))
