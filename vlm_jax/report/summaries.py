"""summaries_<evaluation>.html: what was written for a text, its copied words marked, beside what people wrote."""

import dataclasses
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.report.attention import printable
from vlm_jax.report.gallery_style import STYLE, number, write_page

MAX_TEXT = 700  # characters of the text that is shown
MAX_REFERENCE = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summaries:
    """A report for `Evaluation(reports=(Summaries(source=...),))`: `count` examples, chosen at random, always the same.

    `text` and `references` are the names of what is shown of `source.references`. Examples with `words` and `copied`
    have each word on a ground as dark as the share of its probability that came from copying.
    """

    source: Any
    text: str = "body"
    references: tuple[str, ...] = ("subject", "annotations")
    count: int = 40

    def __call__(
        self,
        workdir: Path,
        step: int,
        name: str,
        examples: Sequence[Mapping[str, Any]],
        numbers: Mapping[str, float],
    ) -> Path:
        texts = self.source.references
        draw = np.random.default_rng(0).permutation(len(examples))[: self.count]
        cards = []
        for place in sorted(draw):
            example = examples[place]
            known = texts[example["id"]]
            gold = [text for key in self.references for text in known.get(key, ())]
            cards.append(_card(example, known.get(self.text, ("",))[0], gold))
        page = _PAGE.format(
            title=html.escape(f"{Path(workdir).name}: {name} after {step} steps"),
            style=STYLE + _STYLE,
            numbers="".join(number(key, value) for key, value in numbers.items()),
            count=len(cards),
            total=len(examples),
            cards="".join(cards) or "<p>Nothing was written.</p>",
        )
        path = Path(workdir) / f"summaries_{name}.html"
        write_page(path, page)
        return path


def _card(example: Mapping[str, Any], text: str, references: Sequence[str]) -> str:
    words = example.get("words", example["prediction"].split())
    shares = example.get("copied", [0.0] * len(words))
    written = " ".join(_word(word, share) for word, share in zip(words, shares, strict=True))
    gold = "".join(f"<li>{_escaped(reference, MAX_REFERENCE)}</li>" for reference in references)
    return (
        f'<article><div class="text"><p class="caption" dir="auto">{written or "<i>nothing</i>"}</p>'
        f'<ul>{gold}</ul><p class="body" dir="auto">{_escaped(text, MAX_TEXT)}</p>'
        f'<div class="scores"><span>id {int(example["id"])}</span></div></div></article>'
    )


def _word(word: str, share: float) -> str:
    percent = round(100 * float(np.clip(np.nan_to_num(share), 0, 1)))
    return (
        f'<span class="word" style="--share: {percent}%" title="{percent} % copied">'
        f"{_escaped(word, 60)}</span>"
    )


def _escaped(text: str, limit: int) -> str:
    return html.escape(printable(text, limit))


_STYLE = """
.word { background: color-mix(in srgb, var(--accent) calc(0.45 * var(--share)), transparent);
  border-radius: 4px; padding: 0 3px; }
.body { margin: 0; font-size: 14px; border-top: 1px solid var(--line); padding-top: 9px; overflow-wrap: anywhere; }
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><div><h1>{title}</h1><dl class="numbers">{numbers}</dl></div></header>
<main><section><h2>What was written</h2>
<p>{count} of {total}. The darker the ground of a word, the more of its probability came from copying it. Below it what
people wrote, and the text.</p>
<div class="cards wide">{cards}</div></section></main>
</body>
</html>
"""
