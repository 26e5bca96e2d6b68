"""The look of the pages for a browser. Light and dark follow the reader's system; nothing is loaded from elsewhere."""

import html
import os
from pathlib import Path
from typing import Any

import numpy as np

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f5f2; --card: #ffffff; --ink: #1d1f23; --soft: #686d76; --line: #e2dfd8;
  --accent: #2f6f5e; --good: #2f7d4f; --bad: #b3492f; --chip: #f0eee8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15171a; --card: #1e2125; --ink: #e9e7e2; --soft: #989ea8; --line: #30343a;
    --accent: #7cc4ae; --good: #79c796; --bad: #e58e74; --chip: #292d33;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.45 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
}
main, header > div, footer { max-width: 1360px; margin: 0 auto; padding: 0 28px; }
header { background: var(--card); border-bottom: 1px solid var(--line); padding: 30px 0 22px; }
h1 { margin: 0; font-size: 27px; line-height: 1.2; letter-spacing: -0.015em; overflow-wrap: anywhere; }
.numbers { display: flex; flex-wrap: wrap; gap: 14px 34px; margin: 18px 0 0; }
.numbers div { min-width: 66px; }
.numbers dt { color: var(--soft); font-size: 13px; }
.numbers dd { margin: 0; font-size: 23px; font-weight: 600; font-variant-numeric: tabular-nums; }
nav { margin-top: 18px; display: flex; flex-wrap: wrap; gap: 20px; font-size: 15px; }
nav a { color: var(--accent); text-decoration: none; border-bottom: 1px solid transparent; }
nav a:hover, nav a:focus-visible { border-color: currentColor; }
section { padding-top: 26px; }
h2 { margin: 0; font-size: 19px; letter-spacing: -0.01em; }
h2 + p { margin: 2px 0 14px; color: var(--soft); font-size: 14px; }
.cards { display: grid; gap: 18px; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); }
.cards.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 560px), 1fr)); align-items: start; }
article {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: clip;
  display: flex; flex-direction: column; min-width: 0;
}
.wide .top { display: grid; grid-template-columns: 208px 1fr; }
@media (max-width: 520px) { .wide .top { grid-template-columns: 1fr; } }
.photo {
  display: block; width: 100%; max-height: 340px; object-fit: contain;
  background: color-mix(in srgb, var(--ink) 6%, var(--card));
}
div.photo { aspect-ratio: 4 / 3; }
.wide .photo { aspect-ratio: 1; height: 208px; }
.tiny { image-rendering: pixelated; }
.text { padding: 14px 16px 15px; display: flex; flex-direction: column; gap: 9px; min-width: 0; flex: 1; }
.caption { margin: 0; font-size: 18px; line-height: 1.32; font-weight: 600; overflow-wrap: anywhere; text-wrap: balance; }
.caption.none { color: var(--soft); font-weight: 400; font-style: italic; }
ul { margin: 0; padding: 0; list-style: none; color: var(--soft); font-size: 14px; line-height: 1.4; }
li { padding-left: 13px; text-indent: -13px; overflow-wrap: anywhere; text-wrap: pretty; }
li + li { margin-top: 3px; }
li::before { content: "–"; display: inline-block; width: 13px; text-indent: 0; opacity: 0.6; }
.scores { display: flex; flex-wrap: wrap; gap: 6px; font-size: 12.5px; margin-top: auto; padding-top: 3px; }
.scores span {
  background: var(--chip); border-radius: 5px; padding: 2px 8px; font-variant-numeric: tabular-nums;
}
.scores .rank { font-weight: 650; color: var(--accent); }
.best .scores .rank { color: var(--good); }
.worst .scores .rank { color: var(--bad); }
.scores .id { background: none; color: var(--soft); margin-left: auto; padding-right: 0; overflow-wrap: anywhere; }
.maps {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(82px, 1fr)); gap: 10px 7px;
  padding: 13px 16px 15px; border-top: 1px solid var(--line);
}
.map { margin: 0; min-width: 0; text-align: center; }
.map i {
  display: block; aspect-ratio: var(--shape); border-radius: 5px; background-image: var(--map), var(--photo);
  background-size: 100% 100%; transition: transform 0.12s;
}
.map figcaption { font-size: 13px; margin-top: 3px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
@media (hover: hover) {
  .map { position: relative; }
  article:has(.map:hover) { overflow: visible; }
  .map:hover { z-index: 2; }
  .map:hover i { transform: scale(2.3); box-shadow: 0 6px 26px rgb(0 0 0 / 0.35); border-radius: 3px; }
}
p.note { margin: 0; padding: 10px 16px; border-top: 1px solid var(--line); color: var(--soft); font-size: 13px; }
footer { color: var(--soft); font-size: 13px; padding-top: 30px; padding-bottom: 40px; }
@media print { article { break-inside: avoid; } }
@media (prefers-reduced-motion: reduce) { .map i { transition: none; } }
"""


def write_page(path: Path, page: str) -> None:
    """Writes the whole page or nothing; a lone surrogate in it becomes a question mark."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(page, encoding="utf-8", errors="replace")
    os.replace(part, path)


def number(name: str, value: Any) -> str:
    """A number with its name, for the list at the head of a page."""
    return f"<div><dt>{html.escape(name)}</dt><dd>{figure(value)}</dd></div>"


def figure(value: Any) -> str:
    """Four figures of a number: 46.92, 0.0312, 1204; anything else as a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return html.escape(str(value))
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
