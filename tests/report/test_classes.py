"""The page of a classifier: nothing breaks out of it, and it shows the mistakes with their pictures."""

import numpy as np

from tests.invariants.picture_checks import CLASSES, EXAMPLES
from tests.report.test_gallery import Reader
from vlm_jax.data.source import InMemory
from vlm_jax.report.classes import ClassReport, confusion
from vlm_jax.tasks.classification import Chosen, Classification

SOURCE = InMemory(
    [{"id": np.int64(i), "image": np.full((6, 6, 1), 40 * i, np.uint8)} for i in range(5)]
)


def test_the_page_has_the_matrix_the_classes_and_the_mistakes(tmp_path):
    path = ClassReport(source=SOURCE)(tmp_path, 7, "test", EXAMPLES, {"accuracy": 40.0})
    assert path == tmp_path / "classes_test.html"
    shown = Reader(path.read_text())
    assert shown.captions == ["b", "c", "b"]  # what was said, the surest first
    assert "The most confident mistakes" in shown.text and "it is: a" in shown.text
    assert shown.tags.count("img") == 3 and shown.tags.count("table") == 2
    assert all(source.startswith(("data:", "#")) for source in shown.sources)
    assert "33.3" in shown.text and "--share: 0.667" in shown.styles


def test_of_many_classes_only_the_likeliest_are_listed_and_the_page_has_all(tmp_path):
    task = Classification(classes=tuple(f"class {k:02}" for k in range(25)))
    probabilities = np.full((50, 25), 0.01)
    probabilities[np.arange(50), (3 * np.arange(50)) % 25] = 0.76  # right in two rows
    batch = {"id": np.arange(50) % 5, "label": np.arange(50) % 25, "valid": np.ones(50, bool)}
    examples = task.examples(Chosen(probabilities=probabilities), batch)
    counts = confusion(examples)
    assert list(counts) == list(task.classes)
    assert sum(row.total() for row in counts.values()) == 50
    assert ClassReport(source=SOURCE)(tmp_path, 7, "test", examples, {}).exists()


def test_names_of_classes_are_text_and_a_perfect_evaluation_has_no_mistakes(tmp_path):
    name = "<script>alert(1)</script>"
    right = [
        {"id": 0, "label": name, "prediction": name, "probabilities": {name: 1.0, CLASSES[0]: 0.0}}
    ]
    page = ClassReport(source=SOURCE)(tmp_path, 7, "test", right, {}).read_text()
    assert "<script" not in page and "No pictures." in page
    assert ClassReport(source=SOURCE)(tmp_path, 7, "empty", [], {}).exists()
