"""search.html: for each text the pictures that a model finds nearest, with what people wrote of them."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from vlm_jax.report.gallery import Item, write_gallery


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
    told = f"the nearest {{}} of {num_pictures} pictures, and what people wrote of them"
    sections = [
        (query, told.format(len(found)), [_item(place, hit) for place, hit in enumerate(found, 1)])
        for query, found in zip(queries, hits, strict=True)
    ]
    write_gallery(path, [], title, {"pictures": num_pictures}, sections=sections)


def _item(place: int, hit: Hit) -> Item:
    first, *others = hit.references or ("",)
    return Item(
        image=hit.image,
        caption=f"{place}. {first}",
        references=others,
        scores={"cosine": hit.score},
        name=hit.name or f"id {hit.id}",
    )
