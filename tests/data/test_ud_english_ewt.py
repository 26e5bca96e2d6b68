import gzip
import os

import numpy as np
import pytest

from vlm_jax.data.source import Tfds
from vlm_jax.data.word_transforms import WordHeads, WordLabels, Words
from vlm_jax.text.conllu import write_conllu
from vlm_jax.text.lexicon import Lexicon

SIZES = {"train": 3, "validation": 1, "test": 1}
SENTENCE = (("The", "dog", "ran"), (2, 3, 0), ("det", "nsubj", "root"), ("DET", "NOUN", "VERB"))


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Three files of the published layout, one of them compressed."""
    from vlm_jax.data.datasets import ud_english_ewt

    monkeypatch.setattr(ud_english_ewt, "SIZES", SIZES)
    monkeypatch.setattr(ud_english_ewt, "SHA256", {})
    monkeypatch.delenv("VLM_JAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    folder = tmp_path / "downloads" / "manual" / "ud_english_ewt"
    folder.mkdir(parents=True)
    for split, short in ud_english_ewt.FILES.items():
        text = f"# text = a\n{write_conllu(*SENTENCE)}\n\n" * SIZES[split]
        file = folder / f"en_ewt-ud-{short}.conllu"
        if split == "test":
            file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            file.write_text(text)
    return folder


def test_sentences_are_words_with_their_labels_plain_or_compressed(small):
    for split, size in SIZES.items():
        source = Tfds("ud_english_ewt", split)
        assert len(source) == size
        example = source[size - 1]
        assert example["id"] == size - 1
        assert example["words"] == SENTENCE[0] and example["upos"] == SENTENCE[3]
        assert tuple(example["heads"]) == SENTENCE[1] and example["relations"] == SENTENCE[2]
        assert source.references[0]["words"] == SENTENCE[0]


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: f.unlink(), r"dev\.conllu is missing, and so is"),
        (lambda f: f.write_text(f.read_text() * 2), r"dev\.conllu has 2 sentences, expected 1"),
        (lambda f: f.write_text(f.read_text()[:-1]), r"dev\.conllu, line 4: the file ends within"),
        (lambda f: f.write_text("<html>"), r"dev\.conllu, line 1: given 1 columns in '<html>'"),
        (lambda f: f.write_bytes(b"\xff\xfe"), r"dev\.conllu is not whole"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_the_answer_says_what_to_do(small, damage, message):
    damage(small / "en_ewt-ud-dev.conllu")
    with pytest.raises((ValueError, FileNotFoundError), match=f"(?s){message}.*placed by hand"):
        len(Tfds("ud_english_ewt", "train"))


def test_another_release_is_refused_by_its_sum(small, monkeypatch):
    from vlm_jax.data.datasets import ud_english_ewt

    monkeypatch.setattr(ud_english_ewt, "SHA256", {"train": "0" * 64})
    with pytest.raises(ValueError, match=r"(?s)train\.conllu is not the published file"):
        len(Tfds("ud_english_ewt", "train"))


def test_a_sentence_too_long_loses_its_last_words_and_the_heads_among_them():
    source = {"id": 0, "words": ("a", "b", "c"), "heads": (3, 0, 2), "upos": ("X", "Y", "X")}
    lexicon = Lexicon(corpus=_Corpus(), vocab_size=8)
    read = Words(lexicon=lexicon, max_length=2, max_letters=3)(source)
    assert read["text"].tolist() == [4, 5] and read["characters"].shape == (2, 5)
    assert WordHeads(max_length=2)(source)["head"].tolist() == [-1, 0]
    labels = WordLabels(names=("X",), max_length=2, key="upos")(source)
    assert labels["label"].tolist() == [0, -1]


def test_a_text_is_cut_at_white_space_and_none_is_too_strange():
    words = Words(lexicon=Lexicon(corpus=_Corpus(), vocab_size=8), max_length=4, max_letters=3)
    for text in (
        "",
        " \n ",
        "a " * 10_000,
        "\x00",
        "\ud800 b",
        "<eos>",
        "\U0001f468\u200d\U0001f469",
    ):
        row = words({"id": 0, "words": text})["text"]
        assert (row != 0).sum() == min(len(text.split()), 4)
    with pytest.raises(KeyError, match="Words: example 3 has no 'words', only"):
        words({"id": 3})


class _Corpus:
    references = {0: {"words": ("a", "b", "c")}}

    def __hash__(self):
        return 0

    def __eq__(self, other):
        return isinstance(other, _Corpus)


@pytest.mark.skipif(
    "VLM_JAX_DATA" not in os.environ, reason="VLM_JAX_DATA, the folder with real data, is not set"
)
def test_the_published_files_have_the_published_numbers():
    from experiments import treebanks
    from vlm_jax.text.conllu import UPOS

    words, relations, longest = {}, set(), {}
    for split in ("train", "validation", "test"):
        source = Tfds("ud_english_ewt", split)
        texts = source.references.values()
        words[split] = sum(len(text["words"]) for text in texts)
        longest[split] = max(len(text["words"]) for text in texts)
        assert set().union(*(text["upos"] for text in texts)) == set(UPOS)
        if split == "train":
            relations = set().union(*(text["relations"] for text in texts))
        assert np.max(source[0]["heads"]) <= len(source[0]["words"])
    assert words == {"train": 204_577, "validation": 25_147, "test": 25_094}
    assert relations == set(treebanks.ENGLISH_RELATIONS) - {"clf"}
    assert max(longest["validation"], longest["test"]) == 81 < treebanks.EVALUATED_LENGTH
    data = treebanks.english_ewt(reads="upos", tokens=1024)
    assert data.lexicon.num_tokens == 8865 + 4
