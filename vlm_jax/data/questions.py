"""Sources of questions: one example a question, and only those that can be answered from a list."""

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping
from typing import ClassVar

import numpy as np

from vlm_jax.data.source import Description, Source, references_of
from vlm_jax.types import Example, References

ONE_OF = {  # what a picture has a tuple of, with one for each question -> what a question has
    "questions": "question",
    "answers": "answer",
    "question_types": "question_type",
    "answer_types": "answer_type",
}
MAX_QUESTIONS = 100  # of a picture whose questions have no ids of their own
PEOPLE = "human_answers"  # as many answers a question as people were asked, question after question


@dataclasses.dataclass(frozen=True)
class EachQuestion(Description):
    """One example for every (picture, question): `questions`, `answers`, `question_types`, `answer_types`, tuples, become
    `question`, `answer` ..., one `str` each, and of `human_answers` stay those to this question.

    A question has an id and references of its own, for metrics are of questions: its number in the data set
    (`question_ids`) or, where it has none, 100 times the picture's id and its place among the picture's questions.

        {"id": 7, "image": ..., "questions": ("what color is the circle", "is there a star"), "answers": ("red", "no")}
        -> {"id": 700, "image": ..., "question": "what color is the circle", "answer": "red"}, {"id": 701, ...}
    """

    needs_texts: ClassVar[str] = "questions"

    source: Source

    @functools.cached_property
    def references(self) -> References:
        return {id: texts for id, (_, _, texts) in self._asked.items()}

    def picture_of(self, id: int) -> int:
        """The id of the picture that a question, given by its id, is about."""
        return self._asked[id][1]

    @functools.cached_property
    def _asked(self) -> dict[int, tuple[int, int, dict[str, tuple[str, ...]]]]:
        """Id of a question -> (the place of its picture, the id of its picture, its texts)."""
        asked = {}
        for place_of_picture, (example, texts) in enumerate(_pictures(self.source)):
            picture, questions = int(example["id"]), texts.get("questions", ())
            for place, id in enumerate(_question_ids(example, len(questions))):
                ours = _of_question(texts, place, len(questions))
                asked[id] = (place_of_picture, picture, ours)
        return asked

    @functools.cached_property
    def _ids(self) -> tuple[int, ...]:
        return tuple(self._asked)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} questions")
        id = self._ids[index]
        place, _, texts = self._asked[id]
        example = dict(self.source[place])
        for name in (*ONE_OF, PEOPLE, "question_ids"):
            example.pop(name, None)
        ours = {name: texts[name][0] for name in ONE_OF.values() if name in texts}
        people = {PEOPLE: texts[PEOPLE]} if PEOPLE in texts else {}
        return {**example, **ours, **people, "id": np.int64(id)}


@dataclasses.dataclass(frozen=True)
class Answered(Description):
    """The examples of `source` whose text at `key` is among `answers`: what a classifier can be trained on."""

    source: Source
    answers: Collection[str]  # a tuple, or an AnswerList
    _: dataclasses.KW_ONLY
    key: str = "answer"

    @functools.cached_property
    def references(self) -> References:
        kept, references = set(self._kept.tolist()), self.source.references
        return {id: texts for place, (id, texts) in enumerate(references.items()) if place in kept}

    @functools.cached_property
    def _kept(self) -> np.ndarray:
        """Int[n]: the places of those kept."""
        known = frozenset(self.answers) - {""}  # the name of a row without an answer
        texts = self.source.references.values()
        return np.flatnonzero([each[self.key][0] in known for each in texts])

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} examples")
        return self.source[int(self._kept[index])]


def _pictures(source: Source) -> Iterator[tuple[Example, Mapping[str, tuple[str, ...]]]]:
    """(example without its picture, its texts), one a picture. Where it can be had, from what was read already."""
    read = source.example if hasattr(source, "example") else source.__getitem__
    references = source.references
    if len(source) and len(references) == len(source) and "question_ids" not in read(0):
        for id, texts in references.items():
            yield {"id": id}, texts
        return
    for index in range(len(source)):
        example = read(index)
        yield example, references_of([example])[int(example["id"])]


def _question_ids(example: Example, count: int) -> list[int]:
    own, picture = example.get("question_ids"), int(example["id"])
    if own is not None:
        return [int(id) for id in own]
    if count > MAX_QUESTIONS:
        raise ValueError(
            f"example id {picture} has {count} questions, expected at most {MAX_QUESTIONS}; give them ids of their own, "
            "question_ids"
        )
    return [MAX_QUESTIONS * picture + place for place in range(count)]


def _of_question(
    texts: Mapping[str, tuple[str, ...]], place: int, count: int
) -> dict[str, tuple[str, ...]]:
    kept = {name: value for name, value in texts.items() if name not in (*ONE_OF, PEOPLE)}
    for name, one in ONE_OF.items():
        if name in texts:
            if len(texts[name]) != count:
                raise ValueError(
                    f"{texts.get('image_name', ('a picture',))[0]} has {count} questions and {len(texts[name])} "
                    f"{name}, expected as many"
                )
            kept[one] = (texts[name][place],)
    if PEOPLE in texts:
        each = len(texts[PEOPLE]) // count
        kept[PEOPLE] = texts[PEOPLE][place * each : (place + 1) * each]
    return kept
