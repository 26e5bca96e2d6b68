"""The gallery page: what is on it, in which order, and that no caption can break out of it."""

import base64
import dataclasses
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from vlm_jax import config
from vlm_jax.report.gallery import Gallery, Item, write_gallery

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


class Reader(html.parser.HTMLParser):
    """The tags of a page, its text, and the captions in their order."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.text, self.captions, self.sources, self.styles = [], "", [], [], []
        self._in_caption = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.sources += [attributes[key] for key in ("src", "href") if key in attributes]
        self.styles.append(attributes.get("style", ""))
        if attributes.get("class") == "caption":
            self.captions.append("")
            self._in_caption = True

    def handle_endtag(self, tag):
        self._in_caption = False

    def handle_data(self, data):
        self.text += data
        if self._in_caption:
            self.captions[-1] += data


def page(tmp_path, items, **options) -> Reader:
    path = tmp_path / "gallery.html"
    write_gallery(path, items, options.pop("title", "a run"), options.pop("summary", {}), **options)
    return Reader(path.read_text(encoding="utf-8"))


def ranked(count: int) -> list[Item]:
    return [
        Item(image=IMAGE, caption=f"caption {i}", scores={"cider": float(i)}) for i in range(count)
    ]


def test_the_best_the_worst_and_some_others_are_shown_once_each(tmp_path):
    shown = page(tmp_path, ranked(30), per_section=3).captions
    assert shown[:3] == ["caption 29", "caption 28", "caption 27"]
    assert shown[3:6] == ["caption 0", "caption 1", "caption 2"]
    assert len(shown) == 9 and len(set(shown)) == 9


def test_few_pictures_stand_in_one_section(tmp_path):
    reader = page(tmp_path, ranked(5), per_section=12)
    assert reader.captions == [f"caption {i}" for i in range(5)]
    assert "Best" not in reader.text
    assert page(tmp_path, ranked(3), per_section=2).captions == [
        "caption 2",
        "caption 0",
        "caption 1",
    ]
    assert "No pictures." in page(tmp_path, []).text


def test_pictures_are_ranked_by_the_named_score_and_nan_is_last(tmp_path):
    items = [
        Item(image=IMAGE, caption="high", scores={"a": 1.0, "b": 3.0}),
        Item(image=IMAGE, caption="low", scores={"a": 9.0, "b": 1.0}),
        Item(image=IMAGE, caption="nan", scores={"a": 5.0, "b": float("nan")}),
    ]
    assert page(tmp_path, items, per_section=1, rank_by="b").captions == ["high", "nan", "low"]
    with pytest.raises(ValueError, match=r"rank_by is 'c', but the items have \['a', 'b'\]"):
        page(tmp_path, items, rank_by="c")


def test_no_text_can_break_out_of_the_page(tmp_path):
    attack = "<script>alert(1)</script>\"'><img src=http://x/ onerror=alert(1)> &amp; ${x} {y}"
    item = Item(
        image=IMAGE, caption=attack, references=[attack], scores={attack: 1.0}, name=attack,
        words=[attack, "</style>"], attention=np.ones((2, 4)),
    )  # fmt: skip
    reader = page(tmp_path, [item], title=attack, summary={attack: attack})
    assert "script" not in reader.tags and reader.tags.count("img") == 1
    assert reader.captions == [attack]
    assert reader.text.count("<script>alert(1)</script>") >= 5


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    item = Item(image=IMAGE, caption="a", words=["a"], attention=np.ones((1, 4)))
    reader = page(tmp_path, [item] * 3)
    assert all(source.startswith(("data:image/", "#")) for source in reader.sources)
    text = (tmp_path / "gallery.html").read_text()
    assert "default-src 'none'" in text
    assert set(re.findall(r"url\(([^)]{5})", text)) == {"data:"}
    assert "http://" not in text and "https://" not in text


@pytest.mark.parametrize(
    "caption", ["", "  ", "\0", "\ud83d lone", "\u202e abc", "كلب", "x" * 10_000, "word " * 10_000]
)
def test_hostile_captions_are_shown_short_and_printable(tmp_path, caption):
    item = Item(image=IMAGE, caption=caption, references=[caption], scores={"s": 1.0})
    reader = page(tmp_path, [item])
    assert len(reader.text) < 20_000
    assert not set("\0\u202e\ud83d") & set(reader.text)
    assert ("empty caption" in reader.text) == (not caption.strip())


def test_pictures_are_small_jpegs_and_tiny_ones_exact(tmp_path):
    large = np.full((900, 1200, 3), 99, np.uint8)
    reader = page(tmp_path, [Item(image=large, caption="l"), Item(image=IMAGE, caption="t")])
    first, second = (
        Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        for source in reader.sources
        if source.startswith("data:")
    )
    assert first.format == "JPEG" and first.size == (416, 312)
    np.testing.assert_array_equal(np.asarray(second), IMAGE)


def test_each_word_has_a_map_that_is_clear_where_the_weight_is(tmp_path):
    weights = np.zeros((2, 4))
    weights[0, 1] = weights[1, 2] = 1  # upper right, lower left
    item = Item(image=IMAGE, caption="a dog", words=["a", "dog"], attention=weights)
    reader = page(tmp_path, [item])
    maps = [style for style in reader.styles if style.startswith("--map")]
    assert len(maps) == 2
    for style, corner in zip(maps, ((0, -1), (-1, 0))):
        data = base64.b64decode(re.search(r"base64,([^)]+)\)", style)[1])
        alpha = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[:, :, 3].astype(int)
        opposite = tuple(-1 - place for place in corner)
        assert alpha[corner] <= 8 and alpha[opposite] >= 184
    with pytest.raises(ValueError, match="2 words but 1 maps"):
        page(tmp_path, [dataclasses.replace(item, attention=weights[:1])])


def test_weights_that_are_no_map_leave_a_note_and_the_page(tmp_path):
    item = Item(image=IMAGE, caption="a", words=["a"], attention=np.ones((1, 53)))
    assert "No maps: 53 weights are no grid" in page(tmp_path, [item]).text


def test_attention_over_a_single_pooled_position_is_no_map(tmp_path):
    item = Item(image=IMAGE, caption="a", words=["a"], attention=np.ones((1, 1)))
    assert not [style for style in page(tmp_path, [item]).styles if "--map" in style]


def test_a_hundred_pictures_with_maps_stay_small(tmp_path):
    random = np.random.default_rng(0)
    blocks = random.integers(0, 255, (14, 14, 3), dtype=np.uint8).repeat(24, 0).repeat(24, 1)
    items = [
        Item(image=blocks, caption="c", scores={"s": float(i)}, words=["w"] * 12, attention=random.random((12, 49)))
        for i in range(100)
    ]  # fmt: skip
    page(tmp_path, items)
    assert (tmp_path / "gallery.html").stat().st_size < 3e6


def test_only_pictures_that_are_shown_are_read_and_bad_ones_are_left_blank(tmp_path):
    read = []

    def reading(i):
        def read_one():
            read.append(i)
            return b"<html>" if i == 29 else IMAGE

        return read_one

    items = [Item(image=reading(i), caption=str(i), scores={"s": float(i)}) for i in range(30)]
    reader = page(tmp_path, items, per_section=2)
    assert len(read) == 6
    assert reader.captions[0] == "29" and reader.tags.count("img") == 5


# ---- the report of an evaluation


@dataclasses.dataclass(frozen=True)
class Pictures:
    count: int = 4

    @property
    def references(self):
        return {
            10 + i: {"captions": (f"gold {i}",), "image_name": (f"{i}.jpg",)}
            for i in range(self.count)
        }

    def __getitem__(self, index):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (index, 0, 0)).save(buffer, "PNG")
        return {"id": 10 + index, "image": buffer.getvalue()}


@dataclasses.dataclass(frozen=True)
class Wrapped:
    source: Pictures
    references = None


@dataclasses.dataclass(frozen=True)
class Matches:
    """How many times a caption is among the references."""

    reference: str = "captions"

    def stats(self, prediction, references):
        return np.array([float(prediction in references), 1.0])

    def result(self, stats):
        return {"matches": stats[0] / stats[1]}


@dataclasses.dataclass(frozen=True)
class InCorpus(Matches):
    """Scores that only the whole corpus knows."""

    def scores(self, stats):
        return [stats[1] * 100 + i for i in range(int(stats[1]))]


EXAMPLES = [
    {"id": 12, "prediction": "wrong", "log_prob": -1.0},
    {"id": 13, "prediction": "gold 3", "log_prob": -5.0},
]


def test_the_report_finds_pictures_and_references_by_id(tmp_path):
    path = Gallery(source=Wrapped(Pictures()), metrics=(Matches(),))(
        tmp_path, 300, "test", EXAMPLES, {"cider": 46.92}
    )
    assert path == tmp_path / "gallery_test.html"
    reader = Reader(path.read_text())
    assert reader.captions == ["wrong", "gold 3"]
    for text in (
        "gold 2",
        "2.jpg",
        "matches 0",
        "matches 1",
        "log_prob -5",
        "46.92",
        "after 300 steps",
    ):
        assert text in reader.text
    pixels = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(s.partition(",")[2]))))[0, 0, 0]
        for s in reader.sources
        if s.startswith("data:")
    ]
    assert pixels == [2, 3]


def test_the_report_ranks_by_its_metric_else_by_log_prob(tmp_path):
    def first(gallery):
        return Reader(gallery(tmp_path, 1, "v", EXAMPLES, {}).read_text()).captions[0]

    assert first(Gallery(source=Pictures(), per_section=1)) == "wrong"
    assert first(Gallery(source=Pictures(), per_section=1, metrics=(Matches(),))) == "gold 3"
    assert first(Gallery(source=Pictures(), per_section=1, metrics=(InCorpus(),))) == "gold 3"
    text = Reader((tmp_path / "gallery_v.html").read_text()).text
    assert "matches 200" in text and "matches 201" in text


def test_the_report_takes_no_examples_and_goes_through_json(tmp_path):
    gallery = Gallery(source=Pictures(), metrics=(Matches(),), rank_by="matches")
    assert "No pictures." in gallery(tmp_path, 0, "v", [], {}).read_text()
    plain = Gallery(source="data")
    assert config.from_json(config.to_json(plain)) == plain
