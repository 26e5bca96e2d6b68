import gzip
import hashlib
import os

import pytest

from vlm_jax.data.files import manual_folder
from vlm_jax.data.source import Tfds

TEXTS = {
    "train": " mr. <unk> is N years old \n the u.s. did n't \n",
    "validation": " the <unk> \n",
    "test": " old \n",
}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The three files of the published layout, one of them compressed, under a data dir of this test."""
    from vlm_jax.data.datasets import ptb

    sums = {ptb.FILES[s]: hashlib.sha256(t.encode()).hexdigest() for s, t in TEXTS.items()}
    monkeypatch.setattr(ptb, "TOKENS", {"train": 12, "validation": 3, "test": 2})
    monkeypatch.setattr(ptb, "SHA256", sums)
    monkeypatch.delenv("VLM_JAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    folder = tmp_path / "downloads" / "manual" / "ptb"
    folder.mkdir(parents=True)
    for split, text in TEXTS.items():
        file = folder / ptb.FILES[split]
        if split == "test":
            file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            file.write_text(text)
    return folder


def test_each_example_is_a_line(small):
    source = Tfds("ptb", "train")
    assert [source[i] for i in range(len(source))] == [
        {"id": 0, "text": "mr. <unk> is N years old"},
        {"id": 1, "text": "the u.s. did n't"},
    ]
    assert Tfds("ptb", "test").references == {0: {"text": ("old",)}}


@pytest.mark.parametrize(
    "name, damage, message",
    [
        ("ptb.valid.txt", lambda file: file.unlink(), r"ptb\.valid\.txt is missing"),
        ("ptb.train.txt", lambda file: file.write_text(" mr. \n"), r"ptb\.train\.txt has 2 tokens"),
        (
            "ptb.train.txt",
            lambda file: file.write_text(file.read_text().replace("old", "new")),
            r"ptb\.train\.txt is not the published file",
        ),
        (
            "ptb.test.txt.gz",
            lambda file: file.write_bytes(file.read_bytes()[:-9]),
            r"ptb\.test\.txt\.gz is not whole",
        ),
    ],
)
def test_a_wrong_short_or_missing_file_is_refused_by_name(small, name, damage, message):
    damage(small / name)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        len(Tfds("ptb", "train"))


def test_a_folder_that_is_not_there_is_told_with_where_to_get_it(monkeypatch, tmp_path):
    monkeypatch.delenv("VLM_JAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"ptb\.train\.txt, ptb\.valid\.txt and"):
        len(Tfds("ptb", "train"))


@pytest.mark.skipif("VLM_JAX_DATA" not in os.environ, reason="VLM_JAX_DATA is not set")
def test_the_published_splits_have_ten_thousand_words_with_the_end_of_a_line():
    from vlm_jax.data.datasets import ptb

    folder = manual_folder("ptb", "", ptb.INSTRUCTIONS)
    words = {
        split: {word for line in ptb._lines(folder, split) for word in line.split()}
        for split in ptb.FILES
    }
    assert len(words["train"]) + 1 == 10_000
    assert words["validation"] | words["test"] <= words["train"]
