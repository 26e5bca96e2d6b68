"""What a tagger and a parser get right, word by word, with the words given."""

import dataclasses
from collections.abc import Sequence

from vlm_jax.metrics.base import Stats
from vlm_jax.text.conllu import universal


@dataclasses.dataclass(frozen=True, kw_only=True)
class TagStats(Stats):
    words: int
    right: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class TagAccuracy:
    """`accuracy`: the share of the gold words whose tag is right, times 100. A word without a prediction is wrong."""

    reference: str = "upos"

    def stats(self, prediction: Sequence[str], references: Sequence[str]) -> TagStats:
        right = sum(guess == gold for guess, gold in zip(prediction, references))
        return TagStats(words=len(references), right=right)

    def result(self, stats: TagStats) -> dict[str, float]:
        return {"accuracy": 100 * stats.right / stats.words}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttachmentStats(Stats):
    words: int
    attached: int  # the right head
    labelled: int  # the right head and the right relation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attachment:
    """`uas` and `las`, times 100, as the evaluation of the CoNLL 2018 shared task counts them.

    Of all gold words, punctuation among them, the share with the right head (UAS), and with the right head and
    relation (LAS). Subtypes of relations do not count: "nsubj:pass" is "nsubj". A word without a prediction is wrong.
    """

    reference: str = "relations"

    def stats(
        self,
        prediction: Sequence[tuple[int, str]],
        references: Sequence[tuple[int, str]],
    ) -> AttachmentStats:
        """Of the words of one sentence, (head, relation) each."""
        attached = labelled = 0
        for (head, relation), (gold_head, gold_relation) in zip(prediction, references):
            if head == gold_head:
                attached += 1
                labelled += universal(relation) == universal(gold_relation)
        return AttachmentStats(words=len(references), attached=attached, labelled=labelled)

    def result(self, stats: AttachmentStats) -> dict[str, float]:
        return {
            "uas": 100 * stats.attached / stats.words,
            "las": 100 * stats.labelled / stats.words,
        }
