"""AESLC: files of the published layout, read in order; wrong, short and missing ones refused by name."""

import gzip
import json
import os

import pytest

from vlm_jax.data.datasets import aeslc
from vlm_jax.data.source import Tfds

SIZES = {"train": 3, "dev": 2, "test": 1}
HOSTILE = "emoji 🙂, NUL \0, <eos>, tab\tand\nnewline"


def rows(name):
    found = []
    for number in range(SIZES[name]):
        row = {"id": f"{name}_{number}", "body": f"{HOSTILE} {number}", "subject": f"s {number}"}
        if name != "train":
            row |= {f"ann{k}": f"{name} {number} by {k}" for k in range(3)}
        found.append(row)
    return found


def write(folder, name, found=None, zipped=True):
    lines = "".join(json.dumps(row) + "\n" for row in (rows(name) if found is None else found))
    if zipped:
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    else:
        (folder / f"{name}.jsonl").write_text(lines)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """All three files, as they should be, in a data dir of this test."""
    monkeypatch.delenv("VLM_JAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(aeslc, "SIZES", SIZES)
    monkeypatch.setattr(aeslc, "SHA256", {})
    folder = tmp_path / "downloads" / "manual" / "aeslc"
    folder.mkdir(parents=True)
    for name in SIZES:
        write(folder, name, zipped=name != "dev")
    return folder


def test_e_mails_are_read_in_order_from_zipped_and_plain_files(folder):
    train, validation, test = (Tfds("aeslc", split) for split in ("train", "validation", "test"))
    assert [len(train), len(validation), len(test)] == [3, 2, 1]
    example = validation[1]
    assert int(example["id"]) == 4 and example["name"] == "dev_1"
    assert example["body"] == f"{HOSTILE} 1" and example["subject"] == "s 1"
    assert example["annotations"] == ("dev 1 by 0", "dev 1 by 1", "dev 1 by 2")
    assert test.references[5]["subject"] == ("s 0",)
    assert train[0]["annotations"] == ()
    ids = [*train.references, *validation.references, *test.references]
    assert ids == [0, 1, 2, 3, 4, 5]


def refused(match, kind=ValueError):
    return pytest.raises(kind, match=f"(?s){match}.*placed by hand")


def test_a_missing_file_is_named(folder):
    (folder / "dev.jsonl").unlink()
    with refused("dev.jsonl is missing, and so is dev.jsonl.gz", FileNotFoundError):
        len(Tfds("aeslc", "train"))


def test_a_short_file_is_named(folder):
    write(folder, "test", [])
    with refused("test.jsonl.gz has 0 e-mails, expected 1"):
        len(Tfds("aeslc", "train"))


def test_a_file_that_is_cut_off_is_named(folder):
    path = folder / "train.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with refused("train.jsonl.gz is not whole gzip"):
        len(Tfds("aeslc", "train"))
    path.unlink()
    (folder / "train.jsonl").write_text(json.dumps(rows("train")[0])[:-9])
    with refused("train.jsonl line 1 is not JSON"):
        len(Tfds("aeslc", "train"))


def test_other_columns_are_named(folder):
    write(folder, "test", rows("train")[:1])
    with refused("test.jsonl.gz line 1 has .*expected .*ann0"):
        len(Tfds("aeslc", "train"))


def test_another_content_is_refused_by_its_sum(folder, monkeypatch):
    monkeypatch.setattr(aeslc, "SHA256", {"train": "0" * 64})
    with refused("train.jsonl.gz is not the published file: sha256"):
        len(Tfds("aeslc", "train"))


@pytest.mark.parametrize(
    "body, expected",
    [
        ("could really= =20 use it", "could really use it"),
        ("Mr. Lay,  =09My name", "Mr. Lay,   My name"),
        ("on the fl= oor", "on the floor"),
        ("don=92t", "don't"),
        ("a = b, x=3 and 1=20?", "a = b, x=3 and 1 ?"),
        ("1+1=2", "1+1=2"),
    ],
)
def test_the_marks_of_transport_are_undone(body, expected):
    assert aeslc.readable(body).split() == expected.split()


@pytest.mark.skipif("VLM_JAX_DATA" not in os.environ, reason="VLM_JAX_DATA is not set")
def test_the_real_files_are_the_published_ones(tmp_path):
    folder = aeslc.manual_folder("aeslc", tmp_path, "")
    for name, size in aeslc.SIZES.items():
        assert len(aeslc._read(folder, name)) == size  # counts, columns and sha256
