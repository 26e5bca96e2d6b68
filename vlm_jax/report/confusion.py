"""confusion_<evaluation>.txt: the most frequent mistakes, with words that they were made at."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NUM_WORDS = 6  # shown beside a mistake


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confusion:
    """A report for `Evaluation(reports=(Confusion(source=...),))`: gold against predicted labels of words.

    source: where the gold labels are, `reference`, and the words, by id. predicted: the key of an example of the task.

        gold     predicted   times   of gold   at
        PROPN    NOUN           97      4.6%   state (5), general (3), ...
    """

    source: Any
    reference: str = "upos"
    predicted: str = "tags"
    words: str = "words"
    most: int = 25

    def __call__(
        self,
        workdir: Path,
        step: int,
        name: str,
        examples: Sequence[Mapping[str, Any]],
        numbers: Mapping[str, float],
    ) -> None:
        path = Path(workdir) / f"confusion_{name}.txt"
        path.write_text(f"step {step}\n{self.table(examples)}", encoding="utf-8")

    def table(self, examples: Sequence[Mapping[str, Any]]) -> str:
        references = self.source.references
        gold_counts, mistakes = collections.Counter(), collections.defaultdict(collections.Counter)
        for example in examples:
            texts = references[example["id"]]
            gold_counts.update(texts[self.reference])
            # A word that was left out has no prediction.
            for word, gold, guess in zip(
                texts[self.words], texts[self.reference], example[self.predicted]
            ):
                if gold != guess:
                    mistakes[gold, guess][word] += 1
        wrong = sum(words.total() for words in mistakes.values())
        lines = [
            f"{wrong:,} of {gold_counts.total():,} words are wrong, {len(mistakes)} kinds of mistakes",
            f"{'gold':14s} {'predicted':14s} {'times':>6s} {'of gold':>8s}  at",
        ]
        ranked = sorted(mistakes.items(), key=lambda item: (-item[1].total(), item[0]))
        for (gold, guess), words in ranked[: self.most]:
            shown = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:NUM_WORDS]
            at = ", ".join(f"{word} ({count})" if count > 1 else word for word, count in shown)
            share = words.total() / gold_counts[gold]
            lines.append(f"{gold:14s} {guess:14s} {words.total():6,d} {share:8.1%}  {at}")
        return "\n".join(lines) + "\n"
