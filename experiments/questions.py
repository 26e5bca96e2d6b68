"""The questions about pictures that several experiments share: sources, preprocessing, words, answers, as ready pipelines.

Each function is called by an experiment file, so that one line there says which data it trains on.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from experiments.datasets import (
    SCALE,
    SCENES,
    encoded_scenes,
    held_scenes,
    mobilenet_features,
)
from vlm_jax.data.datasets.scenes_questions import ANSWERS, AskAnew
from vlm_jax.data.held import Held
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.questions import Answered, EachQuestion
from vlm_jax.data.source import Source, Tfds
from vlm_jax.data.text_transforms import Keep, Label, Tokenize
from vlm_jax.metrics.accuracy import Accuracy
from vlm_jax.metrics.by_kind import ByKind
from vlm_jax.metrics.majority import Majority
from vlm_jax.metrics.vqa_accuracy import VqaAccuracy
from vlm_jax.metrics.wups import Wups
from vlm_jax.report.answers import Answers
from vlm_jax.text.answers import AnswerList
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.train.evaluation import Evaluation
from vlm_jax.train.from_run import VariablesFromRun


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionData:
    """Pipelines of one data set, one row a question: `image`, `text`, `label`, all with the same words and answers.

    `train` has only questions whose answer is in the list; of `held_out`, by the name of the evaluation, the label is -1
    where it is not.
    """

    tokenizer: Any
    classes: Sequence[str]  # a tuple, or an AnswerList: as many as the model's num_classes
    max_length: int  # of a question, with BOS and EOS
    train: Pipeline
    held_out: dict[str, Pipeline]
    metrics: tuple[Any, ...]  # of the answers, and of the majority's beside them

    def evaluations(self, *, every: int | None) -> tuple[Evaluation, ...]:
        """Validation every so many steps, all at the end."""
        return tuple(
            Evaluation(
                name=name,
                data=pipeline,
                every=every if name == "validation" else None,
                perplexity=False,
                reports=(Answers(source=pipeline.source),),
            )
            for name, pipeline in self.held_out.items()
        )


def scenes(
    *,
    batch_size: int,
    config: str | None = None,
    anew: AskAnew | None = None,
    seed: int = 0,
) -> QuestionData:
    """The pictures made here, [64 64 3] in [-1, 1], each with up to ten questions of seven types, one of 20 answers.

    With `anew` every epoch asks other questions about the training pictures, as many as are stored.

    8,000 / 500 / 1,000 pictures, and 500 with pairs of colour and shape that training never shows (`test_unseen`).
    """
    pictures = held_scenes(config)
    data = _scenes(pictures, pictures["train"].source, (SCALE,), batch_size, seed)
    if anew is None:
        return data
    drawn = dataclasses.replace(data.train, transforms=(anew, *data.train.transforms))
    return dataclasses.replace(data, train=drawn)


def scenes_features(*, batch_size: int, encoder: Any, workdir: str | None) -> QuestionData:
    """The same questions with the features of the image encoder of the run in `workdir`, computed once and cached: what
    `encoder` gives, [n d]; with None those of its first values."""
    weights = workdir and VariablesFromRun(workdir=workdir, scope="image_encoder")
    seen = {split: encoded_scenes(split, encoder=encoder, init_params=weights) for split in SCENES}
    return _scenes(seen, Tfds("scenes", "train"), (), batch_size)


def _scenes(
    pictures: dict[str, Held], words: Source, before: tuple, batch_size: int, seed: int = 0
) -> QuestionData:
    sources = {split: EachQuestion(source) for split, source in pictures.items()}
    tokenizer = WordTokenizer(corpus=words, vocab_size=64, texts="questions")
    return _questions(sources, tokenizer, ANSWERS, before, batch_size, 18, seed=seed)


def daquar(*, batch_size: int, pool: bool = False, seed: int = 0) -> QuestionData:
    """DAQUAR with the features of MobileNetV2 (ImageNet), computed once and cached: [49 1280], the 7x7 grid, or where
    `pool` [1 1280], its mean. As log(1 + x), standardised over the training pictures.

    Trained on the questions whose answer is one word, of 716 of the 795 train pictures; the others are `validation`.
    `test` has the official test questions with answers of one word, `test_all` all of them, where a set of words is
    always wrong: see datasets/daquar.py. A word seen once is unknown.
    """
    records = {split: Tfds("daquar", split, config="single") for split in _DAQUAR}
    records["test_all"] = Tfds("daquar", "test", config="all")
    sources = {
        name: EachQuestion(mobilenet_features(source, records["train"], pool=pool))
        for name, source in records.items()
    }
    tokenizer = WordTokenizer(
        corpus=records["train"], vocab_size=1024, min_count=2, texts="questions"
    )
    answers = AnswerList(corpus=records["train"], size=448)
    return _questions(sources, tokenizer, answers, (), batch_size, 20, seed=seed, metrics=(Wups(),))


def vqa_v2(*, batch_size: int, pool: bool = False, seed: int = 0) -> QuestionData:
    """VQA v2 with the features of MobileNetV2, as `daquar`, its 3,000 most frequent answers, and the official accuracy."""
    records = {split: Tfds("vqa_v2", split) for split in ("train", "validation")}
    sources = {
        split: EachQuestion(mobilenet_features(source, records["train"], pool=pool))
        for split, source in records.items()
    }
    tokenizer = WordTokenizer(
        corpus=records["train"], vocab_size=12_288, min_count=3, texts="questions"
    )
    answers = AnswerList(corpus=records["train"], size=3072, min_count=8)
    return _questions(
        sources, tokenizer, answers, (), batch_size, 20, seed=seed, metrics=VQA, by="answer_type"
    )


_DAQUAR = ("train", "validation", "test")
VQA = (VqaAccuracy(), ByKind(metric=VqaAccuracy(), by="answer_type", number="vqa_accuracy"))


def _questions(
    sources: dict[str, Source],
    tokenizer: Any,
    classes: Sequence[str],
    before: tuple,
    batch_size: int,
    max_length: int,
    *,
    seed: int,
    metrics: tuple[Any, ...] = (),
    by: str = "question_type",
) -> QuestionData:
    tokenize = Tokenize(tokenizer=tokenizer, max_length=max_length, key="question", output="text")

    right, train = Accuracy(reference="answer"), sources.pop("train")
    keep = Keep(keys=("image", "text", "label"))

    def pipeline(source, *, train=False):
        return Pipeline(
            source=Answered(source, classes) if train else source,
            transforms=(*before, tokenize, Label(classes=classes), keep),
            batch_size=batch_size if train else 128,
            train=train,
            seed=seed,
            num_workers=1,  # the next batch is made while the device works on this one
        )

    return QuestionData(
        tokenizer=tokenizer,
        classes=classes,
        max_length=max_length,
        train=pipeline(train, train=True),
        held_out={name: pipeline(source) for name, source in sources.items()},
        metrics=(right, *metrics, ByKind(metric=right, by=by), Majority(corpus=train, by=by)),
    )
