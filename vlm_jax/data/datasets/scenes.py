"""Scenes: 64 x 64 pictures of one to four coloured shapes, generated here from a seed.

The built-in default of every experiment. Each picture has five captions, up to ten questions with
answers, labels, and its whole truth as JSON, against which `text.scene_judge.judge` holds any
caption, fact by fact.

    split         pictures
    train            8,000
    validation         500
    test             1,000
    test_unseen        500   in each a pair of colour and shape that training never shows

`Tfds("scenes", "train")[0]` has the keys of `FEATURES` below; the configuration `tiny` has 64, 16,
32 and 16 pictures, which are the first of the default's; `large` has 64,000 to train on, for models that would learn
8,000 by heart, and the other splits of the default. Nothing is downloaded. Licence: as the code.

The parts work without a dataset on disk: `generate(0, "train", 7)` is a Scene, `render(scene)` its
picture, `captions(scene, rng)` and `questions(scene, rng)` its texts.
"""

import dataclasses
import io

import numpy as np
import tensorflow_datasets as tfds

from vlm_jax.data.datasets.features import texts
from vlm_jax.data.datasets.scenes_captions import captions
from vlm_jax.data.datasets.scenes_layout import SPLITS, generate
from vlm_jax.data.datasets.scenes_pictures import render
from vlm_jax.data.datasets.scenes_questions import questions
from vlm_jax.text.scene_judge import PICTURE_SIZE
from vlm_jax.text.scene_language import COLORS, NUMBERS, SHAPES, SIZES

ID_STEP = (
    1_000_000  # ids of the n-th split start at n times this, so that no two pictures share one
)


@dataclasses.dataclass(kw_only=True)
class ScenesConfig(tfds.core.BuilderConfig):
    """How many pictures each split has, and the seed that they all follow from."""

    num_train: int = 8000
    num_validation: int = 500
    num_test: int = 1000
    num_test_unseen: int = 500
    seed: int = 0


class Scenes(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder; `tfds.builder` and `Tfds("scenes", split)` find it by its name."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        ScenesConfig(name="default", description="8,000 pictures to train on."),
        ScenesConfig(
            name="large", description="64,000, the first of them the default's.", num_train=64_000
        ),
        ScenesConfig(
            name="tiny",
            description="The first 64 of them, for tests.",
            num_train=64,
            num_validation=16,
            num_test=32,
            num_test_unseen=16,
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "id": tfds.features.Scalar(np.int64),
            "image": tfds.features.Image(
                shape=(PICTURE_SIZE, PICTURE_SIZE, 3), encoding_format="png"
            ),
            "captions": texts(),
            "scene": tfds.features.Text(doc="the truth, JSON of text.scene_judge.Scene"),
            "questions": texts(),
            "answers": texts(),
            "question_types": texts(),
            "label": tfds.features.ClassLabel(names=NUMBERS[1:]),  # the number of objects, less 1
            "leftmost_shape": tfds.features.ClassLabel(names=SHAPES),
            "leftmost_color": tfds.features.ClassLabel(names=COLORS),
            "leftmost_size": tfds.features.ClassLabel(names=SIZES),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str):
        config = self.builder_config
        for index in range(getattr(config, f"num_{split}")):
            yield index, example(config.seed, split, index)


def example(seed: int, split: str, index: int) -> dict:
    """Picture number `index` of a split with all its texts, as it is stored."""
    number = SPLITS.index(split)
    scene = generate(seed, split, index)
    rng = np.random.default_rng([seed, number, index, 1])  # apart from the scene's own
    asked = questions(scene, rng)
    leftmost = scene.objects[0]
    return {
        "id": number * ID_STEP + index,
        "image": io.BytesIO(encode_png(render(scene))),
        "captions": captions(scene, rng),
        "scene": scene.to_json(),
        "questions": [question.text for question in asked],
        "answers": [question.answer for question in asked],
        "question_types": [question.type for question in asked],
        "label": len(scene.objects) - 1,
        "leftmost_shape": leftmost.shape,
        "leftmost_color": leftmost.color,
        "leftmost_size": leftmost.size,
    }


def encode_png(picture: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=2)
    return file.getvalue()
