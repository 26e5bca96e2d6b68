"""answers_<evaluation>.html: pictures with what was asked, what the model answered and what is right, by type of question."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.report.gallery import Item, pictures_by_id, write_gallery


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answers:
    """A report for `Evaluation(reports=(Answers(source=...),))`.

    source: the questions, each with its picture; cached features are unwrapped. Of every `by` the page shows `wrong` and
    `right` answers, drawn at random, with the probabilities of the likeliest answers and where the model looked.
    """

    source: Any
    by: str = "question_type"
    answer: str = "answer"
    wrong: int = 6
    right: int = 4
    likeliest: int = 3

    def __call__(
        self,
        workdir: Path,
        step: int,
        name: str,
        examples: Sequence[Mapping[str, Any]],
        numbers: Mapping[str, float],
    ) -> Path:
        references = self.source.references
        pictures = pictures_by_id(self.source)
        groups = collections.defaultdict(list)
        for example in examples:
            groups[references[example["id"]].get(self.by, ("all",))[0]].append(example)
        sections = []
        for kind, asked in sorted(groups.items()):
            shown, told = self._shown(asked, references)
            items = [self._item(each, references[each["id"]], pictures) for each in shown]
            sections.append((kind, told, items))
        path = Path(workdir) / f"answers_{name}.html"
        title = f"{Path(workdir).name}: {name} after {step} steps"
        write_gallery(path, (), title, numbers, sections=sections)
        return path

    def _shown(self, asked: Sequence[Any], references: Any) -> tuple[list[Any], str]:
        """A few wrong ones, a few right ones; how many there are of both."""
        rng = np.random.default_rng(0)
        good = [e for e in asked if self._right(e, references[e["id"]])]
        bad = [e for e in asked if not self._right(e, references[e["id"]])]
        shown = []
        for some, count in ((bad, self.wrong), (good, self.right)):
            places = rng.permutation(len(some))[:count]
            shown += [some[place] for place in sorted(places)]
        return shown, f"{len(good):,} of {len(asked):,} right; wrong ones first"

    def _right(self, example: Mapping[str, Any], texts: Mapping[str, Sequence[str]]) -> bool:
        return example["prediction"] in texts[self.answer]

    def _item(self, example: Mapping[str, Any], texts: Mapping[str, Any], pictures: Any) -> Item:
        right = self._right(example, texts)
        ranked = sorted(example["probabilities"].items(), key=lambda pair: -pair[1])
        said = (f"answered {example['prediction']}: {'right' if right else 'wrong'}",)
        if not right:
            said += (f"expected {', '.join(texts[self.answer])}",)
        return Item(
            image=pictures(example["id"]),
            caption=texts["question"][0],
            references=said,
            scores={name: round(p, 2) for name, p in ranked[: self.likeliest]},
            name=(*texts.get("image_name", ()), f"id {example['id']}")[0],
            words=example.get("words", ()),
            attention=example.get("attention"),
        )
