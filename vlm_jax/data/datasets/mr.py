"""Movie reviews (Pang and Lee 2005, ACL): 5,331 sentences that praise a film and 5,331 that do not, in ten folds.

Licence: none stated; the sentences are from Rotten Tomatoes.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vlm_jax.data.files import check_sha256, manual_folder

INSTRUCTIONS = """\
MR is placed by hand, in $VLM_JAX_DATA/mr or <data_dir>/downloads/manual/mr: rt-polarity.pos and rt-polarity.neg of
rt-polaritydata.tar.gz (https://www.cs.cornell.edu/people/pabo/movie-review-data/), as they are, in cp1252.
A file that is refused was cut short, re-encoded or replaced on the way: take it out of the archive again."""

CLASSES = ("negative", "positive")  # labels 0 and 1
SIZE = 5331  # sentences of each class
NUM_FOLDS = 10
SHA256 = {
    "rt-polarity.neg": "4ace77d558c3714723843f1d65b60c01e3417b208180f0728808d76ad0eeeaca",
    "rt-polarity.pos": "2da124ec187a9d5a29c9f04e91c540e02baed5af8868f550a26bd6fd4dbf8bf0",
}


class Mr(tfds.core.GeneratorBasedBuilder):
    """Examples: id (the number of the sentence, negative ones first), sentence, label.

    Ten configs, fold0 ... fold9, for ten-fold cross-validation: in `fold3` the sentences of fold 3 are the test set,
    those of fold 4 the validation set, and the other eight folds the training set.
    """

    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=f"fold{fold}") for fold in range(NUM_FOLDS)]
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {"id": np.int64, "sentence": tfds.features.Text(), "label": np.int64}
            ),
            homepage="https://www.cs.cornell.edu/people/pabo/movie-review-data/",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        folder = manual_folder("mr", self.data_dir_root, INSTRUCTIONS)
        examples = []
        for label, name in enumerate(("rt-polarity.neg", "rt-polarity.pos")):
            for sentence in read_sentences(folder / name):
                examples.append({"id": len(examples), "sentence": sentence, "label": label})
        folds, fold = folds_of(len(examples)), int(self.builder_config.name.removeprefix("fold"))
        parts = {"train": [], "validation": [], "test": []}
        for example, its_fold in zip(examples, folds.tolist()):
            away = (its_fold - fold) % NUM_FOLDS
            parts[{0: "test", 1: "validation"}.get(away, "train")].append(example)
        return {split: self._generate_examples(part) for split, part in parts.items()}

    def _generate_examples(self, examples: Iterable[dict]) -> Iterator:
        for example in examples:
            yield example["id"], example


def folds_of(count: int) -> np.ndarray:
    """Int[count]: the fold of each sentence, drawn on its own as in Kim's code, the same on every machine."""
    raw = np.random.Philox(key=0).random_raw(count)  # numpy keeps these bits in every version
    return (raw % np.uint64(NUM_FOLDS)).astype(np.int64)


def read_sentences(path: Path) -> list[str]:
    """The sentences of a file, one a line. Raises for a file that is missing, wrong or short, by its name."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.\n{INSTRUCTIONS}")
    if path.name in SHA256:
        check_sha256(path, SHA256[path.name], INSTRUCTIONS)
    lines = path.read_bytes().decode("cp1252", "replace").split("\n")
    sentences = [line.strip() for line in lines if line.strip()]
    if len(sentences) != SIZE:
        raise ValueError(
            f"{path} has {len(sentences):,} sentences, expected {SIZE:,}.\n{INSTRUCTIONS}"
        )
    return sentences
