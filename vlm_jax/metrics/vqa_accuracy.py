"""The official accuracy of VQA: an answer that three of ten people gave is right."""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction

from vlm_jax.metrics.base import Stats
from vlm_jax.text.normalize import vqa_answer, vqa_strip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Share(Stats):
    right: Fraction
    count: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class VqaAccuracy:
    """`vqa_accuracy`, times 100 (Antol et al. 2015, section 4, as vqaEval.py of VQA v2 computes it).

    The references are what people answered, ten of them: each is left out in turn, the prediction is right as far as
    three of the others say it, min(n / 3, 1), and the mean over the ten is its share. So three of ten are 0.9, and
    not 1.

    All answers are normalised once, by `vqa_answer`; but where all ten agree letter by letter, neither they nor the
    prediction are: to "T-shirt" ten times, "t shirt" is wrong. (The script of VQA v1 normalised the prediction in
    any case.)
    """

    reference: str = "human_answers"

    def stats(self, prediction: str, references: Sequence[str]) -> Share:
        if not references:
            raise ValueError("VqaAccuracy: given no answers, expected those of ten people")
        prediction, answers = vqa_strip(prediction), [vqa_strip(answer) for answer in references]
        if len(set(answers)) > 1:
            prediction, answers = vqa_answer(prediction), [vqa_answer(a) for a in answers]
        same, count = answers.count(prediction), len(answers)
        without_one = same * _share(same - 1) + (count - same) * _share(same)
        return Share(right=without_one / count, count=1)

    def result(self, stats: Share) -> dict[str, float]:
        return {"vqa_accuracy": float(100 * stats.right / stats.count)}

    def signature(self) -> str:
        return "vqa_accuracy|rules:v2|normalised:once,unless-all-agree|leave-one-out"


def _share(others: int) -> Fraction:
    return Fraction(min(max(others, 0), 3), 3)
