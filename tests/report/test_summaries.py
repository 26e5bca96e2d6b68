from vlm_jax.data.source import Rows
from vlm_jax.report.summaries import Summaries

SOURCE = Rows(
    names=("body", "subject", "annotations"),
    rows=(("ask <b>krista</b> \0 " * 500, "Krista & co", ("one", "<two>")), ("", "", ())),
)


def page(tmp_path, examples, **fields):
    path = Summaries(source=SOURCE, **fields)(tmp_path, 7, "test", examples, {"rouge_1": 23.4567})
    assert path == tmp_path / "summaries_test.html"
    return path.read_text()


def test_copied_words_are_marked_by_their_share_beside_what_people_wrote(tmp_path):
    example = {"id": 0, "prediction": "ask krista", "words": ["ask", "krista"]}
    text = page(tmp_path, [{**example, "copied": [0.104, 1.0]}])
    assert 'style="--share: 10%" title="10 % copied">ask</span>' in text
    assert 'style="--share: 100%" title="100 % copied">krista</span>' in text
    for expected in ("Krista &amp; co", "<li>one</li>", "&lt;two&gt;", "23.46", "1 of 1"):
        assert expected in text
    assert "<b>krista" not in text and "\0" not in text and len(text) < 8_000


def test_a_model_that_does_not_copy_and_one_that_writes_nothing_have_a_page(tmp_path):
    assert "0 % copied" in page(tmp_path, [{"id": 0, "prediction": "ask"}])
    empty = {"id": 1, "prediction": "", "words": [], "copied": []}
    assert "<i>nothing</i>" in page(tmp_path, [empty])
    assert "Nothing was written." in page(tmp_path, [])


def test_a_share_that_is_no_number_is_shown_as_none(tmp_path):
    example = {"id": 0, "prediction": "a", "words": ["a"], "copied": [float("nan")]}
    assert "0 % copied" in page(tmp_path, [example])


def test_a_sample_is_the_same_every_time(tmp_path):
    examples = [{"id": n % 2, "prediction": f"word{n}"} for n in range(50)]
    text = page(tmp_path, examples, count=5)
    assert text.count("<article>") == 5 and text == page(tmp_path, examples, count=5)
