"""The page of answers: by type of question, wrong ones first, each with its picture and where the model looked."""

import io
import re

import numpy as np
from PIL import Image

from vlm_jax.data.questions import EachQuestion
from vlm_jax.data.source import InMemory
from vlm_jax.report.answers import Answers


def png(color):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(file, "PNG")
    return file.getvalue()


def pictures():
    texts = {
        "questions": ("is it <b>red</b>", "how many", "how many stars"),
        "answers": ("yes", "2", "3"),
        "question_types": ("existence", "count", "count"),
    }
    return InMemory([{"id": np.int64(i), "image": png((i, 0, 0)), **texts} for i in (4, 9)])


def example(id, prediction, **more):
    return {
        "id": id,
        "prediction": prediction,
        "probabilities": {"2": 0.3, prediction: 0.6},
        **more,
    }


def test_the_page_has_a_section_a_type_with_wrong_answers_first(tmp_path):
    looked = {"words": ["look 1", "look 2"], "attention": np.eye(2, 4)}
    examples = [
        example(400, "yes", **looked),
        example(401, "2"),
        example(402, "5"),
        example(901, "3"),
    ]
    report = Answers(source=EachQuestion(pictures()))
    path = report(tmp_path, 7, "validation", examples, {"accuracy": 50.0})
    assert path == tmp_path / "answers_validation.html"
    page = path.read_text()
    headings = re.findall(r'<section id="(.*?)".*?<h2>(.*?)</h2><p>(.*?)</p>', page)
    assert headings == [
        ("section-0", "count", "1 of 3 right; wrong ones first"),
        ("section-1", "existence", "1 of 1 right; wrong ones first"),
    ]
    order = ["answered 5: wrong", "expected 3", "answered 3: wrong", "expected 2"]
    order += ["answered 2: right", "answered yes: right"]
    places = [page.index(text) for text in order]
    assert places == sorted(places)
    assert "is it &lt;b&gt;red" in page and "<b>red" not in page
    assert page.count('class="map"') == 2 and page.count("<img") == 4
    assert "accuracy" in page and "50" in page


def test_each_question_stands_beside_its_own_picture(tmp_path):
    from vlm_jax.report.gallery import pictures_by_id

    found = pictures_by_id(EachQuestion(pictures()))
    assert [found(id)() for id in (400, 402, 901)] == [png((i, 0, 0)) for i in (4, 4, 9)]
    assert pictures_by_id(pictures())(9)() == png((9, 0, 0))


def test_no_example_is_a_page_all_the_same(tmp_path):
    path = Answers(source=EachQuestion(pictures()))(tmp_path, 0, "test", [], {})
    assert "No pictures." in path.read_text()
