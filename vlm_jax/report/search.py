"""search.html: for each text the pictures that a model finds nearest, with what people wrote of them."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlm_jax.report.gallery import _PAGE, Item, _escaped, _number, _section
from vlm_jax.report.gallery_style import STYLE, write_page


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hit:
    """A picture that was found; `image` as in gallery.Item."""

    id: int
    image: Any
    score: float
    name: str = ""
    references: Sequence[str] = ()


def write_search(
    path: str | os.PathLike,
    queries: Sequence[str],
    hits: Sequence[Sequence[Hit]],
    title: str,
    num_pictures: int,
) -> None:
    """Writes the page: a section for each of `queries`, with its `hits` among `num_pictures`, nearest first."""
    body, links = [], []
    for number, (query, found) in enumerate(zip(queries, hits, strict=True), 1):
        key, heading = f"query{number}", _escaped(query)
        told = f"the nearest {len(found)} of {num_pictures} pictures, and what people wrote of them"
        items = [_item(place, hit) for place, hit in enumerate(found, 1)]
        body.append(_section(key, heading, told, items, "cosine", False))
        links.append(f'<a href="#{key}">{heading}</a>')
    page = _PAGE.format(
        title=_escaped(title),
        style=STYLE,
        numbers=_number("pictures", num_pictures),
        links="".join(links),
        body="".join(body),
        footer="",
    )
    write_page(Path(path), page)


def _item(place: int, hit: Hit) -> Item:
    first, *others = hit.references or ("",)
    return Item(
        image=hit.image,
        caption=f"{place}. {first}",
        references=others,
        scores={"cosine": hit.score},
        name=hit.name or f"id {hit.id}",
    )
