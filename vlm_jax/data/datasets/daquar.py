"""DAQUAR (Malinowski and Fritz 2014, NIPS): 12,468 questions about 1,449 photographs of rooms; images 795 / 654.

The photographs are those of NYU Depth v2 (Silberman et al. 2012), whose split into 795 and 654 is the official one.
Licence: none stated; for research.

Answers are kept as the file writes them: one word ("garbage_bin", "3"), or a set of words ("table, chair", a tenth of
them). The literature does two things with the sets, and there is a configuration for each:

    all       every question, as in Malinowski et al. 2015 (arXiv 1505.01121): a set has to be given whole
    single    only questions with one word as their answer, as in Ren et al. 2015 and Yang et al. 2016: nine of ten
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vlm_jax.data.datasets.features import texts
from vlm_jax.data.files import check_pictures, check_sha256, manual_folder

INSTRUCTIONS = """\
DAQUAR is placed by hand, in $VLM_JAX_DATA/daquar or <data_dir>/downloads/manual/daquar, as on Kaggle
(tezansahu/processed-daquar-dataset): all_qa_pairs.txt, train_images_list.txt, test_images_list.txt and
images/image1.png ... image1449.png (or .jpg, where the photographs were made smaller).
A file that is refused was cut short or replaced on the way: download it again."""

SIZES = {"train_images_list.txt": 795, "test_images_list.txt": 654}
SHA256 = {
    "all_qa_pairs.txt": "155702e229ac24e49bdde9791abd5f28469eea4615282ae0f570f4f9c0395dd5",
    "train_images_list.txt": "91d0269224e4131c7ddbfa1c1f429434f9e29ba507922bf72055bf3d7cab8cf3",
    "test_images_list.txt": "e7092892cc8049635e6b9465a7f5f6790119c32cfd3d7dd276b77ff6b6a952b3",
}
TYPES = ("number", "color", "object")
BLOCK, EVERY = 5, 10  # pictures in a row, and every so many such blocks one is for validation


class Daquar(tfds.core.GeneratorBasedBuilder):
    """Examples, one a picture: id (its number), image, image_name, questions, answers, question_types.

    The official train images are cut into train and validation: of every ten blocks of five pictures in the order of
    the list, where neighbours show the same room, the last block. "train+validation" is the official split.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="all", description="every question"),
        tfds.core.BuilderConfig(name="single", description="answers of one word"),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Scalar(np.int64),
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "image_name": tfds.features.Text(),
                    "questions": texts(),
                    "answers": texts(),
                    "question_types": texts(),
                }
            ),
            homepage="https://www.mpi-inf.mpg.de/departments/computer-vision-and-machine-learning/"
            "research/vision-and-language/visual-turing-challenge",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        folder = manual_folder("daquar", self.data_dir_root, INSTRUCTIONS)
        official, test = (read_names(folder / name) for name in SIZES)
        asked = read_questions(folder / "all_qa_pairs.txt", {*official, *test})
        files = {path.stem: path.name for path in sorted((folder / "images").glob("image*.*"))}
        pictures = [f"images/{files.get(name, f'{name}.png')}" for name in (*official, *test)]
        check_pictures(folder, pictures, INSTRUCTIONS)
        splits = {
            "train": [name for place, name in enumerate(official) if not is_validation(place)],
            "validation": [name for place, name in enumerate(official) if is_validation(place)],
            "test": test,
        }
        if self.builder_config.name == "single":
            asked = {
                name: [qa for qa in pairs if "," not in qa[1]] for name, pairs in asked.items()
            }
        return {
            split: self._generate_examples(folder / "images", files, names, asked)
            for split, names in splits.items()
        }

    def _generate_examples(
        self, folder: Path, files: dict[str, str], names: Iterable[str], asked: dict[str, list]
    ) -> Iterator:
        for name in names:
            pairs, number = asked[name], int(name.removeprefix("image"))
            yield (
                number,
                {
                    "id": number,
                    "image": (folder / files[name]).read_bytes(),
                    "image_name": files[name],
                    "questions": [question for question, _ in pairs],
                    "answers": [answer for _, answer in pairs],
                    "question_types": [question_type(question) for question, _ in pairs],
                },
            )


def is_validation(place: int) -> bool:
    """Whether the picture at this place of the official list of train images is for validation."""
    return place // BLOCK % EVERY == EVERY - 1


def question_type(question: str) -> str:
    """number, color or object, by the first words: what Ren et al. 2015 (section 4.2.1) tell apart."""
    words = question.split()
    if words[:2] == ["how", "many"]:
        return "number"
    return "color" if any(re.fullmatch("colou?rs?", word) for word in words[1:5]) else "object"


def without_image(question: str) -> str:
    """The question without the name of its picture, which no model may read.

    "what is under the pan in the image2 ?" -> "what is under the pan"
    """
    question = re.sub(r"(?:\s+in (?:the |this )?image\d+)?\s*\?*\s*$", "", question)
    return re.sub(r"image\d+", "image", question)


def read_names(path: Path) -> list[str]:
    """The pictures of a list, such as `image12`."""
    names = _lines(path)
    expected = SIZES[path.name]
    if len(set(names)) != expected or not all(re.fullmatch(r"image\d+", name) for name in names):
        raise ValueError(
            f"{path} has {len(set(names)):,} different names such as {names[:1]}, expected {expected:,} such as "
            f"'image12'.\n{INSTRUCTIONS}"
        )
    return names


def read_questions(path: Path, names: set[str]) -> dict[str, list[tuple[str, str]]]:
    """(question, answer) by picture, in the order of the file: a line with the question, one with its answer."""
    lines = _lines(path)
    if len(lines) % 2:
        raise ValueError(
            f"{path} has {len(lines):,} lines, expected a question and its answer in turn.\n{INSTRUCTIONS}"
        )
    asked: dict[str, list[tuple[str, str]]] = {name: [] for name in names}
    for number, (question, answer) in enumerate(zip(lines[::2], lines[1::2])):
        named = re.findall(r"image\d+", question)
        if not named or named[-1] not in asked:
            raise ValueError(
                f"{path} line {2 * number + 1}: given {question[:80]!r}, expected a question that names one of the "
                f"{len(names):,} pictures of the lists.\n{INSTRUCTIONS}"
            )
        asked[named[-1]].append((without_image(question), answer))
    return asked


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.\n{INSTRUCTIONS}")
    if path.name in SHA256:
        check_sha256(path, SHA256[path.name], INSTRUCTIONS)
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [line.strip() for line in lines if line.strip()]
