"""The text that words are learned from, and the tests of words: small files of the same layout."""

import gzip
import json
import os

import pytest

from vlm_jax import config
from vlm_jax.data.datasets import word_eval
from vlm_jax.data.source import Tfds
from vlm_jax.data.word_corpus import WordCorpus


@pytest.fixture
def folder(tmp_path):
    pictures = [("a.jpg", "train"), ("b.jpg", "test"), ("c.jpg", "train")]
    for part in ("flickr8k", "aeslc", "ptb"):
        (tmp_path / part).mkdir()
    images = [{"filename": name, "split": split} for name, split in pictures]
    (tmp_path / "flickr8k/dataset_flickr8k.json").write_text(json.dumps({"images": images}))
    captions = 'image,caption\na.jpg,A dog .\nb.jpg,A secret .\nc.jpg,"A cat , too ."\n'
    (tmp_path / "flickr8k/captions.txt").write_text(captions)
    mails = [{"body": "Hello,\n\nBuy \ud83d gas."}, {"body": "Bye."}]
    with gzip.open(tmp_path / "aeslc/train.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(mail) + "\n" for mail in mails))
    (tmp_path / "ptb/ptb.train.txt").write_text(" no it was n't <unk> \n \n N years \n")
    return tmp_path


def test_the_training_parts_of_three_sets_are_read_in_order(folder):
    corpus = WordCorpus(folder=str(folder))
    texts = [corpus[index]["sentence"].strip() for index in range(len(corpus))]
    assert texts == [
        "A dog .", "A cat , too .", "Hello,", "Buy \ud83d gas.", "Bye.", "no it was n't <unk>", "N years",
    ]  # fmt: skip
    assert corpus.references[1] == {"sentence": ("A cat , too .",)}
    assert len(corpus.fingerprint) == 64
    assert config.from_json(config.to_json(corpus)) == corpus
    (folder / "aeslc/train.jsonl").write_text('{"body": "Plain."}\n')  # before the .gz
    assert WordCorpus(folder=str(folder), parts=("aeslc",)).sentences == ("Plain.",)


def test_what_is_missing_or_broken_is_named(folder, monkeypatch):
    (folder / "ptb/ptb.train.txt").unlink()
    with pytest.raises(FileNotFoundError, match="(?s)ptb.train.txt is missing.*WordCorpus reads"):
        len(WordCorpus(folder=str(folder)))
    (folder / "aeslc/train.jsonl").write_text('{"body": "Plain."}\n{"subject": "x"}\n')
    with pytest.raises(ValueError, match="train.jsonl line 2: KeyError"):
        len(WordCorpus(folder=str(folder), parts=("aeslc",)))
    with pytest.raises(ValueError, match=r"given parts \('news',\), expected some of"):
        WordCorpus(parts=("news",))
    monkeypatch.delenv("VLM_JAX_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="VLM_JAX_DATA is not set"):
        len(WordCorpus())


@pytest.fixture
def placed(tmp_path, monkeypatch):
    monkeypatch.delenv("VLM_JAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(
        word_eval, "ANALOGIES", {"semantic": {"family": None}, "syntactic": {"p": None}}
    )
    monkeypatch.setattr(word_eval, "SIMILARITY", {"ws353": ("EN-WS.txt", None)})
    folder = tmp_path / "downloads/manual/word_eval"
    (folder / "question-data").mkdir(parents=True)
    (folder / "word-sim").mkdir()
    (folder / "question-data/family.txt").write_text("boy girl king queen\n\nhe she his her\n")
    (folder / "question-data/p.txt").write_text("cat cats dog dogs\n")
    (folder / "word-sim/EN-WS.txt").write_bytes(b"Tiger\tcat\t7.35\t\r\nlove sex 6.77\r\n")
    return folder


def test_questions_and_pairs_are_read(placed):
    semantic = Tfds("word_eval", "semantic", config="analogies")
    assert len(semantic) == 2 and semantic[1]["query"] == "she - he + his"
    assert semantic[0]["answer"] == "queen" and semantic[0]["section"] == "family"
    pairs = Tfds("word_eval", "ws353", config="similarity")
    assert [pairs[i]["first"] for i in range(2)] == ["Tiger", "love"]
    assert pairs[0]["score"] == pytest.approx(7.35)


@pytest.mark.parametrize(
    "name, content, words",
    [
        (
            "question-data/p.txt",
            "cat cats dog\n",
            "p.txt line 1: given 'cat cats dog', expected four",
        ),
        ("question-data/p.txt", None, "(?s)p.txt is missing.*placed by hand"),
    ],
)
def test_tests_of_words_that_are_not_whole_are_refused_by_name(placed, name, content, words):
    path = placed / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        len(Tfds("word_eval", "syntactic", config="analogies"))
    bad = placed / "word-sim" / "EN-WS.txt"
    bad.write_text("a\tb\tc\n")
    with pytest.raises(ValueError, match="EN-WS.txt line 1: given .* expected two words and a num"):
        list(word_eval.pairs(bad))
    with pytest.raises(ValueError, match="(?s)EN-WS.txt is not the published file.*sha256"):
        list(word_eval.pairs(bad, "0" * 64))


@pytest.mark.skipif("VLM_JAX_DATA" not in os.environ, reason="VLM_JAX_DATA is not set")
def test_the_real_tests_of_words_have_their_published_sizes(tmp_path):
    def size(split, name):
        return len(Tfds("word_eval", split, config=name, data_dir=str(tmp_path)))

    assert [size(split, "analogies") for split in ("semantic", "syntactic")] == [8869, 10675]
    sizes = [size(split, "similarity") for split in ("ws353", "simlex999", "men", "mturk771")]
    assert sizes == [353, 999, 3000, 771]
