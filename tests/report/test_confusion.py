from vlm_jax.data.source import InMemory
from vlm_jax.report.confusion import Confusion


def test_the_most_frequent_mistake_comes_first_with_its_words(tmp_path):
    gold = [
        {"id": 7, "words": ("a", "run", "State"), "upos": ("DET", "NOUN", "PROPN")},
        {"id": 9, "words": ("run", "the", "run"), "upos": ("NOUN", "DET", "VERB")},
    ]
    report = Confusion(source=InMemory(gold))
    examples = [
        {"id": 7, "tags": ["DET", "VERB", "NOUN"]},
        {"id": 9, "tags": ["VERB", "DET"]},  # a word was left out
    ]
    report(tmp_path, 5, "test", examples, {})
    lines = (tmp_path / "confusion_test.txt").read_text().splitlines()
    assert lines[:2] == ["step 5", "3 of 6 words are wrong, 2 kinds of mistakes"]
    assert lines[3].split() == ["NOUN", "VERB", "2", "100.0%", "run", "(2)"]
    assert lines[4].split() == ["PROPN", "NOUN", "1", "100.0%", "State"]
