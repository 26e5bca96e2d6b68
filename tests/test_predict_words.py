"""The command line over sentences: a tag, or a head and a relation, for every word."""

import json

import pytest

from experiments import biaffine_parser, bilstm_tagger
from vlm_jax.main import main
from vlm_jax.text.conllu import read_conllu

HOSTILE = ("", " ", "dog " * 10_000, "\U0001f468\u200d\U0001f469 ran", "a\x00b", "<eos> <pad>")


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """A trained `smoke` of each; it knows nothing, but all words get an answer."""
    found = {}
    for file in (bilstm_tagger, biaffine_parser):
        found[file] = str(tmp_path_factory.mktemp("run"))
        assert main(file.smoke, argv=["smoke", "train", "--workdir", found[file]]) == 0
    return found


def predict(capsys, workdirs, file, *argv):
    capsys.readouterr()
    assert main(file.smoke, argv=["predict", *argv, "--workdir", workdirs[file]]) == 0
    return capsys.readouterr().out


def test_a_tagger_prints_each_word_with_its_tag(capsys, workdirs):
    out = predict(capsys, workdirs, bilstm_tagger, "The dog  ran .", "Stop")
    first, second = out.splitlines()
    assert [pair.rpartition("/")[0] for pair in first.split()] == ["The", "dog", "ran", "."]
    assert {pair.rpartition("/")[2] for pair in first.split()} <= set(bilstm_tagger.UPOS)
    assert second.startswith("Stop/")
    out = predict(capsys, workdirs, bilstm_tagger, "The dog", "--json")
    known = json.loads(out)
    assert known.keys() == {"text", "words", "tags", "prediction"}
    assert known["words"] == ["The", "dog"] and len(known["tags"]) == 2


def test_a_parser_prints_conllu_with_one_tree_a_text(capsys, workdirs):
    out = predict(capsys, workdirs, biaffine_parser, "The dog ran .", "Stop")
    sentences = list(read_conllu(out.splitlines(), "printed"))
    assert [sentence.words for sentence in sentences] == [("The", "dog", "ran", "."), ("Stop",)]
    known = json.loads(predict(capsys, workdirs, biaffine_parser, "The dog", "--json"))
    assert known.keys() == {"text", "words", "heads", "relations", "prediction"}
    assert sorted(known["heads"])[0] == 0 and "root" in known["relations"]


@pytest.mark.parametrize("file", [bilstm_tagger, biaffine_parser])
def test_no_text_is_too_strange(file, capsys, workdirs):
    lines = predict(capsys, workdirs, file, *HOSTILE, "--json").splitlines()
    for line, text in zip(lines, HOSTILE, strict=True):
        known = json.loads(line)
        labels = known.get("tags", known.get("relations"))
        assert len(labels) == min(len(text.split()), 6)  # of more words the last are left out


def test_an_evaluation_leaves_its_table_of_mistakes(workdirs, capsys):
    for file, workdir in workdirs.items():
        assert main(file.smoke, argv=["evaluate", "--workdir", workdir]) == 0
        with open(f"{workdir}/confusion_validation.txt") as table:
            assert "of 6 words are wrong" in table.read()
