"""Accuracy where classes are unequally frequent: balanced, and of classes with many, some and few examples."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from vlm_jax.metrics.accuracy import Confusion
from vlm_jax.metrics.base import mean_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShotAccuracy:
    """`balanced_accuracy`, the mean over the classes of the share of their examples that is right, times 100.

    `many_shot`, `medium_shot` and `few_shot` are that mean over the classes with more than `many` training examples, with
    fewer than `few`, and over those between (Liu et al. 2019, arXiv 1904.05160, section 4.1, for sets of a thousand
    classes). `counts` are the training examples of `classes`. Classes that do not occur are left out, and so is the
    mean of none.
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    many: int = 100
    few: int = 20
    reference: ClassVar[str] = "label"

    def __post_init__(self):
        if len(self.classes) != len(self.counts):
            raise ValueError(
                f"ShotAccuracy: given {len(self.classes)} classes and {len(self.counts)} counts, expected one count "
                "for each class"
            )
        if self.few > self.many:
            raise ValueError(
                f"ShotAccuracy: given few {self.few} and many {self.many}, expected few <= many"
            )

    def stats(self, prediction: str, references: Sequence[str]) -> Confusion:
        return Confusion(counts=Counter({(references[0], prediction): 1}))

    def result(self, stats: Confusion) -> dict[str, float]:
        gold, right = Counter(), Counter()
        for (label, guess), count in stats.counts.items():
            gold[label] += count
            right[label] += count * (label == guess)
        recalls = {"balanced_accuracy": [right[name] / gold[name] for name in sorted(gold)]}
        for name, count in zip(self.classes, self.counts):
            if gold[name]:
                recalls.setdefault(self._group(count), []).append(right[name] / gold[name])
        return {group: 100 * mean_of(values) for group, values in recalls.items()}

    def _group(self, count: int) -> str:
        if count > self.many:
            return "many_shot"
        return "few_shot" if count < self.few else "medium_shot"
