"""gallery.html: pictures with what was generated and what people wrote, best, worst and at random.

One file that needs nothing else: pictures are small JPEGs within it, attention maps a few hundred bytes each.
"""

import base64
import dataclasses
import functools
import html
import io
import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vlm_jax.report.attention import DIM, NotAMap, as_grid, enlarged, printable, read_image
from vlm_jax.report.gallery_style import STYLE, figure, number, write_page

MAX_SIDE = 416  # of a picture in the page, in pixels
TINY_SIDE = 128  # pictures up to here are kept exactly, and enlarged without smoothing
MAP_SIDE = 40
MAX_TEXT = 400  # characters of a caption
MAX_REFERENCES = 5
MAX_WORDS = 40  # maps of one caption


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """One picture. `image`: uint8 [h w 3], encoded bytes, a path, or a function without arguments that gives one
    of these (called only for pictures that are shown). `attention` [l n] or [l gh gw] has a map for each of `words`.
    """

    image: Any
    caption: str
    references: Sequence[str] = ()
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    name: str = ""
    words: Sequence[str] = ()
    attention: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gallery:
    """A report for `Evaluation(reports=(Gallery(source=...),))`: writes workdir/gallery_<evaluation>.html.

    source: where the pictures are, by id; one that wraps another (cached features) is unwrapped.
    metrics: give each picture its own scores. The corpus decides where a metric says so (CIDEr's word weights);
    otherwise it is the metric's first number of this caption alone.
    rank_by: the score that best and worst go by; by default the first there is, of `scores` in an example, of
    `metrics`, or else its `log_prob`. Examples with `words` and `attention` show their maps.
    """

    source: Any
    metrics: tuple[Any, ...] = ()
    reference: str = "captions"
    rank_by: str | None = None
    per_section: int = 12

    def __call__(
        self,
        workdir: Path,
        step: int,
        name: str,
        examples: Sequence[Mapping[str, Any]],
        numbers: Mapping[str, float],
    ) -> Path:
        pictures = pictures_by_id(self.source)
        references = pictures.source.references
        columns = [_each(metric, examples, references) for metric in self.metrics]
        items = []
        for row, example in enumerate(examples):
            scores = dict(example.get("scores", {}))
            scores.update({score: values[row] for score, values in columns})
            if "log_prob" in example:
                scores["log_prob"] = example["log_prob"]
            texts = references[example["id"]]
            items.append(
                Item(
                    image=pictures(example["id"]),
                    caption=example["prediction"],
                    references=texts.get(self.reference, ()),
                    scores=scores,
                    name=(*texts.get("image_name", ()), f"id {example['id']}")[0],
                    words=example.get("words", ()),
                    attention=example.get("attention"),
                )
            )
        path = Path(workdir) / f"gallery_{name}.html"
        title = f"{Path(workdir).name}: {name} after {step} steps"
        rank_by = self.rank_by if items else None
        write_gallery(path, items, title, numbers, rank_by=rank_by, per_section=self.per_section)
        return path


def _each(
    metric: Any, examples: Sequence[Mapping[str, Any]], references: Mapping[Any, Any]
) -> tuple[str, list[float]]:
    """The name of a metric's first number, and that number for each example."""
    stats = [
        metric.stats(example["prediction"], references[example["id"]][metric.reference])
        for example in examples
    ]
    if not stats:
        return "", []
    whole = functools.reduce(operator.add, stats)
    name = next(iter(metric.result(whole)))
    if hasattr(metric, "scores"):
        return name, metric.scores(whole)
    return name, [metric.result(one)[name] for one in stats]


def write_gallery(
    path: str | os.PathLike,
    items: Iterable[Item],
    title: str,
    summary: Mapping[str, float | str],
    *,
    rank_by: str | None = None,
    per_section: int = 12,
    seed: int = 0,
    before: str = "",
    sections: Sequence[tuple[str, str, Sequence[Item]]] | None = None,
) -> None:
    """Writes the page. `summary` are the numbers at its top, `before` is HTML that stands before the pictures; the score
    `rank_by` (default: the first one of the items) says which are best and worst. Each of the three sections shows
    `per_section` pictures, none of them twice; where there are no more than that in all, they stand in one. A picture
    that cannot be read is left blank.

    `sections`, each (heading, what is said of it, its items), take the place of these three."""
    items = [*items, *(item for _, _, shown in sections or () for item in shown)]
    named = [name for item in items for name in item.scores]
    if rank_by is None:
        rank_by = named[0] if named else None
    elif items and rank_by not in named:
        raise ValueError(f"rank_by is {rank_by!r}, but the items have {sorted(set(named))}")
    with_maps = any(_has_maps(item) for item in items)
    if sections is None:
        sections = _sections(items, rank_by, per_section, seed)
    else:
        rank_by = None
        sections = [
            (f"section-{k}", _escaped(name), _escaped(told), list(shown))
            for k, (name, told, shown) in enumerate(sections)
        ]
    body = [_section(*section, rank_by, with_maps) for section in sections]
    page = _PAGE.format(
        title=_escaped(title),
        style=STYLE,
        numbers="".join(number(name, value) for name, value in summary.items()),
        links="".join(f'<a href="#{key}">{heading}</a>' for key, heading, _, _ in sections),
        body=before + ("".join(body) if items else "<section><p>No pictures.</p></section>"),
        footer=_MAPS_EXPLAINED if with_maps else "",
    )
    write_page(Path(path), page)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><div>
<h1>{title}</h1>
<dl class="numbers">{numbers}</dl>
<nav>{links}</nav>
</div></header>
<main>
{body}
</main>
<footer>{footer}</footer>
</body>
</html>
"""
_MAPS_EXPLAINED = (
    "Under a picture: where the model looked, a map for each word that it wrote, or for each look before it answered. "
    "Full brightness is the largest weight of that map. Point at a map to enlarge it."
)


def pictures_by_id(source: Any) -> "_Pictures":
    """The pictures of a source, each a function that reads it when called, by the id of its examples: of a picture, or
    where they are questions, of a question. A source that wraps another (cached features) is unwrapped."""
    picture_of = None
    while hasattr(source, "source"):
        picture_of = getattr(source, "picture_of", picture_of)
        source = source.source
    place = {id: index for index, id in enumerate(source.references)}
    return _Pictures(source, place, picture_of or (lambda id: id))


class _Pictures(NamedTuple):
    source: Any
    place: Mapping[int, int]
    picture_of: Callable[[int], int]

    def __call__(self, id: int) -> "StoredPicture":
        return StoredPicture(self.source, self.place[self.picture_of(id)])


@dataclasses.dataclass(frozen=True)
class StoredPicture:
    """Reads one picture of a source when it is called."""

    source: Any
    index: int

    def __call__(self) -> Any:
        return self.source[self.index]["image"]


# (key, heading, what it says, its items)
_Section = tuple[str, str, str, list[Item]]


def _sections(
    items: list[Item], rank_by: str | None, per_section: int, seed: int
) -> list[_Section]:
    count = len(items)
    if rank_by is None or count <= per_section:
        chosen = _sample(items, per_section, seed)
        told = f"{len(chosen)} of {count}" if len(chosen) < count else f"{count} in all"
        return [("all", "Pictures", told, chosen)] if items else []
    ranked = sorted(items, key=lambda item: _rank(item, rank_by), reverse=True)
    size = min(per_section, count // 2)
    best, middle, worst = ranked[:size], ranked[size : count - size], ranked[count - size :][::-1]
    label = _escaped(rank_by)
    sections = [
        ("best", "Best", f"highest {label} of {count}", best),
        ("worst", "Worst", f"lowest {label} of {count}", worst),
    ]
    if middle:
        random = _sample(middle, per_section, seed)
        sections.append(("random", "Random", f"{len(random)} of the other {len(middle)}", random))
    return sections


def _rank(item: Item, name: str) -> float:
    value = float(item.scores.get(name, -math.inf))
    return -math.inf if math.isnan(value) else value


def _sample(items: list[Item], size: int, seed: int) -> list[Item]:
    if len(items) <= size:
        return items
    places = np.random.default_rng(seed).choice(len(items), size, replace=False)
    return [items[place] for place in sorted(places)]


def _section(
    key: str, heading: str, told: str, items: list[Item], rank_by: str | None, with_maps: bool
) -> str:
    wide = " wide" if with_maps else ""
    cards = "".join(_card(item, rank_by) for item in items)
    return (
        f'<section id="{key}" class="{key}"><h2>{heading}</h2><p>{told}</p>'
        f'<div class="cards{wide}">{cards}</div></section>\n'
    )


def _card(item: Item, rank_by: str | None) -> str:
    image = _readable(item.image)
    caption = (
        f'<p class="caption" dir="auto">{_escaped(item.caption)}</p>'
        if item.caption.strip()
        else '<p class="caption none">empty caption</p>'
    )
    shown = item.references[:MAX_REFERENCES]
    references = "".join(f'<li dir="auto">{_escaped(text)}</li>' for text in shown)
    scores = "".join(
        f"<span{' class=rank' * (name == rank_by)}>{_escaped(name)} {figure(value)}</span>"
        for name, value in item.scores.items()
    )
    name = f'<span class="id">{_escaped(item.name, 48)}</span>' if item.name else ""
    photo, uri, shape = '<div class="photo"></div>', "", "1"
    if image is not None:
        uri, tiny = embedded(image)
        shape = f"{image.shape[1]} / {image.shape[0]}"
        css = "photo tiny" if tiny else "photo"
        photo = f'<img class="{css}" src="{uri}" alt="{_escaped(item.name)}">'
    maps = ""
    if image is not None and _has_maps(item):
        # The photograph stands once more in a variable, and every map of the card is drawn over that.
        try:
            strip = "".join(_maps(item, image.shape[0], image.shape[1]))
            maps = f'<div class="maps" style="--shape: {shape}; --photo: url({uri})">{strip}</div>'
        except NotAMap as error:  # a page must not end a run; it says what is missing
            maps = f'<p class="note">No maps: {_escaped(str(error))}</p>'
    return (
        f'<article><div class="top">{photo}<div class="text">{caption}<ul>{references}</ul>'
        f'<div class="scores">{scores}{name}</div></div></div>{maps}</article>'
    )


def _has_maps(item: Item) -> bool:
    """Whether there are words and more than one position to look at."""
    return len(item.words) > 0 and item.attention is not None and np.size(item.attention[0]) > 1


def _maps(item: Item, height: int, width: int) -> Iterable[str]:
    if len(item.words) != len(item.attention):
        raise ValueError(
            f"{item.name}: {len(item.words)} words but {len(item.attention)} maps; expected one map a word"
        )
    for word, weights in list(zip(item.words, item.attention))[:MAX_WORDS]:
        relative = enlarged(as_grid(weights, height, width), MAP_SIDE, MAP_SIDE)
        label = _escaped(word, 24) if word.strip() else "·"
        yield (
            f'<figure class="map" title="{label}"><i style="--map: url({_shade(relative)})"></i>'
            f"<figcaption>{label}</figcaption></figure>"
        )


def _shade(relative: np.ndarray) -> str:
    """A black PNG that is opaque where the attention is low: laid over the photograph, it gives `overlay`."""
    from PIL import Image

    alpha = np.round(255 * (1 - DIM) * (1 - relative) / 8) * 8  # coarse steps: smaller files
    shade = Image.fromarray(alpha.astype(np.uint8))
    picture = Image.frombytes("P", shade.size, shade.tobytes())
    picture.putpalette(bytes(3 * 256))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=bytes(range(256)), optimize=True)
    return _data_uri("png", buffer)


def _readable(image: Any) -> np.ndarray | None:
    try:
        return read_image(image() if isinstance(image, Callable) else image)
    except (OSError, SyntaxError):  # not a picture: its place stays blank
        return None


def embedded(image: np.ndarray) -> tuple[str, bool]:
    """A data URI of the picture at its size in the page, and whether it is tiny and to be enlarged sharply."""
    from PIL import Image

    picture = Image.fromarray(image)
    tiny = max(picture.size) <= TINY_SIDE
    buffer = io.BytesIO()
    if tiny:
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.thumbnail((MAX_SIDE, MAX_SIDE))
        picture.save(buffer, "JPEG", quality=82, optimize=True)
    return _data_uri("png" if tiny else "jpeg", buffer), tiny


def _data_uri(kind: str, buffer: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _escaped(text: str, limit: int = MAX_TEXT) -> str:
    return html.escape(printable(text, limit))
