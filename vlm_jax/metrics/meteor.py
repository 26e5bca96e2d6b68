"""METEOR 1.5 (Denkowski and Lavie, 2014): the official Java program, asked through pycocoevalcap."""

import dataclasses
import importlib.util
import shutil
from collections.abc import Sequence

from vlm_jax.metrics.base import Stats
from vlm_jax.metrics.words import WordMetric


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeteorStats(Stats):
    examples: tuple[tuple[str, tuple[str, ...]], ...]  # (prediction, references), words by spaces


@dataclasses.dataclass(frozen=True, kw_only=True)
class Meteor(WordMetric):
    """`meteor`, times 100. It needs a Java runtime and the extra coco-eval, or says so at once."""

    def stats_of_words(self, words: list[str], references: Sequence[list[str]]) -> MeteorStats:
        require_meteor()
        return MeteorStats(examples=((" ".join(words), tuple(" ".join(r) for r in references)),))

    def result(self, stats: MeteorStats) -> dict[str, float]:
        require_meteor()
        from pycocoevalcap.meteor.meteor import Meteor as OfficialMeteor

        predictions = {i: [text] for i, (text, _) in enumerate(stats.examples)}
        references = {i: list(texts) for i, (_, texts) in enumerate(stats.examples)}
        official = OfficialMeteor()
        try:
            value, _ = official.compute_score(references, predictions)
        except (ValueError, OSError) as error:  # the program ended, or answered no number
            official.meteor_p.kill()
            said = official.meteor_p.stderr.read().decode(errors="replace").strip()
            raise RuntimeError(
                f"METEOR's Java program gave no score for {len(predictions)} examples; it said: "
                f"{said[-500:] or 'nothing'}. It needs 2 GB of memory and Java 8 or later."
            ) from error
        return {"meteor": 100 * value}


def require_meteor() -> None:
    """Raise, naming what to install, where METEOR cannot run."""
    missing = []
    if shutil.which("java") is None:
        missing.append("a Java runtime (no `java` on PATH; for instance apt install default-jre)")
    if importlib.util.find_spec("pycocoevalcap") is None:
        missing.append("pycocoevalcap (pip install 'vlm_jax[coco-eval]')")
    if missing:
        raise RuntimeError(f"METEOR needs {' and '.join(missing)}; leave Meteor out to go without")
