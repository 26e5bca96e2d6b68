"""Accuracy and macro F1 of one label a text or picture."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

from vlm_jax.metrics.base import Stats


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confusion(Stats):
    counts: Counter  # (gold, predicted) -> examples


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracy:
    """`accuracy`, the share of right labels, and `macro_f1`, both times 100.

    F1 of a class is 2 tp / (2 tp + fp + fn); the macro F1 is its mean over the classes that occur, as gold or as a
    prediction. There is one gold label, the first reference.

    `spaces` are characters that are as good as a space: with "_" a "garbage _ bin", as a tokenizer that cuts there writes it,
    is the label "garbage_bin".
    """

    reference: str = "label"
    spaces: str = ""

    def stats(self, prediction: str, references: Sequence[str]) -> Confusion:
        return Confusion(counts=Counter({(self._plain(references[0]), self._plain(prediction)): 1}))

    def _plain(self, label: str) -> str:
        if not self.spaces:
            return label
        return " ".join(label.translate(dict.fromkeys(map(ord, self.spaces), " ")).split())

    def result(self, stats: Confusion) -> dict[str, float]:
        gold, predicted, right = Counter(), Counter(), Counter()
        for (label, guess), count in stats.counts.items():
            gold[label] += count
            predicted[guess] += count
            right[label] += count * (label == guess)
        classes = sorted(gold.keys() | predicted.keys())
        f1 = [2 * right[name] / (gold[name] + predicted[name]) for name in classes]
        return {
            "accuracy": 100 * right.total() / gold.total(),
            "macro_f1": 100 * sum(f1) / len(f1),
        }
