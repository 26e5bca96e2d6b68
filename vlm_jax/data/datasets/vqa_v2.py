"""VQA v2 (Goyal et al. 2017, arXiv 1612.00837): 658,111 questions about COCO's photographs, ten answers to each.

Train has 443,757 questions about 82,783 pictures, validation 214,354 about 40,504; the answers of the test questions
are not published. Licence: annotations CC BY 4.0; the photographs belong to their authors on Flickr.
"""

import collections
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from vlm_jax.data.datasets.features import numbers, texts
from vlm_jax.data.files import check_pictures, manual_folder, read_json, well_formed

INSTRUCTIONS = """\
VQA v2 is placed by hand, in $VLM_JAX_DATA/vqa_v2 or <data_dir>/downloads/manual/vqa_v2, unpacked from
https://visualqa.org/download.html and http://images.cocodataset.org/zips/{train2014,val2014}.zip:
  v2_OpenEnded_mscoco_{train2014,val2014}_questions.json  v2_mscoco_{train2014,val2014}_annotations.json
  train2014/COCO_train2014_000000000009.jpg ...  val2014/COCO_val2014_000000000042.jpg ...
The folders of pictures may be links to those of coco_captions."""

SPLITS = {"train": "train2014", "validation": "val2014"}
SIZES = {"train": 443_757, "validation": 214_354}  # questions
PEOPLE = 10  # who answered each


class VqaV2(tfds.core.GeneratorBasedBuilder):
    """Examples, one a picture in the order in which the file asks about it: id (COCO's), image, image_name, and one for
    each of its questions: question_ids, questions, answers (the most frequent, as the file chose it), answer_types,
    question_types; and human_answers, ten for each, question after question.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    def _info(self) -> tfds.core.DatasetInfo:
        columns = ("questions", "answers", "answer_types", "question_types", "human_answers")
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Scalar(np.int64),
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "image_name": tfds.features.Text(),
                    "question_ids": numbers(),
                    **{name: texts() for name in columns},
                }
            ),
            homepage="https://visualqa.org",
            license="annotations CC BY 4.0",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        folder = manual_folder("vqa_v2", self.data_dir_root, INSTRUCTIONS)
        splits = {split: read_questions(folder, split) for split in SPLITS}
        names = [picture_name(split, id) for split, asked in splits.items() for id in asked]
        check_pictures(folder, names, INSTRUCTIONS)
        return {
            split: self._generate_examples(folder, split, asked) for split, asked in splits.items()
        }

    def _generate_examples(
        self, folder: Path, split: str, asked: dict[int, list["Asked"]]
    ) -> Iterator:
        for id, questions in asked.items():
            name = picture_name(split, id)
            yield (
                id,
                {
                    "id": id,
                    "image": (folder / name).read_bytes(),
                    "image_name": name,
                    "question_ids": [q.id for q in questions],
                    "questions": [q.question for q in questions],
                    "answers": [q.answer for q in questions],
                    "answer_types": [q.answer_type for q in questions],
                    "question_types": [q.question_type for q in questions],
                    "human_answers": [answer for q in questions for answer in q.people],
                },
            )


class Asked(NamedTuple):
    id: int
    question: str
    answer: str
    answer_type: str
    question_type: str
    people: tuple[str, ...]


def picture_name(split: str, id: int) -> str:
    """train2014/COCO_train2014_000000000009.jpg"""
    year = SPLITS[split]
    return f"{year}/COCO_{year}_{id:012d}.jpg"


def read_questions(folder: Path, split: str) -> dict[int, list[Asked]]:
    """The questions about each picture. Raises ValueError, by name, where the two files do not fit together."""
    path = folder / f"v2_OpenEnded_mscoco_{SPLITS[split]}_questions.json"
    beside = folder / f"v2_mscoco_{SPLITS[split]}_annotations.json"
    questions = _listed(path, "questions")
    annotated = {each["question_id"]: each for each in _listed(beside, "annotations")}
    for where, count in ((path, len(questions)), (beside, len(annotated))):
        if count != SIZES[split]:
            raise ValueError(
                f"{where} has {count:,} questions, expected {SIZES[split]:,}.\n{INSTRUCTIONS}"
            )
    asked = collections.defaultdict(list)
    for question in questions:
        id, image = question["question_id"], question["image_id"]
        found = annotated.get(id)
        if found is None or found["image_id"] != image or len(found["answers"]) != PEOPLE:
            given = "nothing" if found is None else f"picture {found['image_id']}"
            answers = "" if found is None else f" and {len(found['answers'])} answers"
            raise ValueError(
                f"{beside}: of question {id} about picture {image} it has {given}{answers}, expected that picture and "
                f"{PEOPLE} answers.\n{INSTRUCTIONS}"
            )
        asked[image].append(
            Asked(
                id=id,
                question=well_formed(question["question"]),
                answer=well_formed(found["multiple_choice_answer"]),
                answer_type=found["answer_type"],
                question_type=found["question_type"],
                people=tuple(well_formed(each["answer"]) for each in found["answers"]),
            )
        )
    return dict(asked)


def _listed(path: Path, name: str) -> Iterable[dict[str, Any]]:
    found = read_json(path, INSTRUCTIONS)
    if not isinstance(found, dict) or not isinstance(found.get(name), list):
        raise ValueError(f"{path} has no list {name!r}.\n{INSTRUCTIONS}")
    return found[name]
