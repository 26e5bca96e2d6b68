"""What a model has to beat that looks at nothing but the kind of question."""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from vlm_jax.metrics.base import Stats


@dataclasses.dataclass(frozen=True, kw_only=True)
class Right(Stats):
    right: int
    count: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Majority:
    """`accuracy_majority`, times 100: of answering each question with the most frequent answer of its kind in training.

    It does not read the prediction: it stands beside a model's accuracy on the same questions. `corpus` are the
    training questions, any object with `references` where each id has one text at `reference` and one at `by`; of
    answers equally frequent the first by alphabet.
    """

    corpus: Any
    by: str = "question_type"
    reference: str = "answer"

    def stats(self, prediction: str, references: Sequence[str], kind: str) -> Right:
        return Right(right=int(_majority(self).get(kind) == references[0]), count=1)

    def result(self, stats: Right) -> dict[str, float]:
        return {"accuracy_majority": 100 * stats.right / stats.count}


@functools.lru_cache(maxsize=8)
def _majority(metric: Majority) -> dict[str, str]:
    """The answer to each kind of question."""
    counts = collections.defaultdict(collections.Counter)
    for texts in metric.corpus.references.values():
        counts[texts[metric.by][0]][texts[metric.reference][0]] += 1
    return {kind: min(each, key=lambda a: (-each[a], a)) for kind, each in counts.items()}
