"""MR: ten folds, and files that are refused by name."""

import os

import numpy as np
import pytest

from vlm_jax.data.datasets import mr
from vlm_jax.data.source import Tfds

COUNT = 40


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Forty sentences of each class, placed by hand."""
    monkeypatch.delenv("VLM_JAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(mr, "SIZE", COUNT)
    monkeypatch.setattr(mr, "SHA256", {})
    folder = tmp_path / "downloads" / "manual" / "mr"
    folder.mkdir(parents=True)
    for name in ("neg", "pos"):
        lines = [f"{name} caf\xe9 {i} . " for i in range(COUNT)]
        (folder / f"rt-polarity.{name}").write_bytes("\n".join(lines).encode("cp1252") + b"\n")
    return folder


def test_a_fold_has_every_sentence_once_and_its_test_set_is_the_next_ones_nothing(folder):
    parts = {s: Tfds("mr", s, config="fold3") for s in ("train", "validation", "test")}
    examples = {s: [p[i] for i in range(len(p))] for s, p in parts.items()}
    ids = {split: {int(e["id"]) for e in found} for split, found in examples.items()}
    assert sorted(id for found in ids.values() for id in found) == list(range(2 * COUNT))
    folds = mr.folds_of(2 * COUNT)
    assert ids["test"] == set(np.flatnonzero(folds == 3))
    assert ids["validation"] == set(np.flatnonzero(folds == 4))
    for found in examples.values():
        for e in found:
            name = mr.CLASSES[e["label"]][:3]
            assert e["sentence"] == f"{name} caf\xe9 {int(e['id']) % COUNT} ."


def test_the_folds_are_the_same_everywhere_and_of_like_size():
    assert mr.folds_of(12).tolist() == mr.folds_of(1000)[:12].tolist()
    counts = np.bincount(mr.folds_of(2 * 5331))
    assert counts.sum() == 10_662 and counts.min() > 970 and counts.max() < 1160


def test_files_that_are_missing_short_or_other_are_refused_by_name(folder, monkeypatch):
    path = folder / "rt-polarity.pos"
    path.write_bytes(b"one sentence\n")
    with pytest.raises(ValueError, match="rt-polarity.pos has 1 sentences, expected 40"):
        len(Tfds("mr", "train", config="fold0"))
    monkeypatch.setattr(mr, "SHA256", {"rt-polarity.pos": "0" * 64})
    with pytest.raises(ValueError, match="(?s)rt-polarity.pos is not the published file.*cp1252"):
        len(Tfds("mr", "train", config="fold0"))
    path.unlink()
    with pytest.raises(FileNotFoundError, match="(?s)rt-polarity.pos is missing.*rt-polaritydata"):
        len(Tfds("mr", "train", config="fold0"))


@pytest.mark.skipif("VLM_JAX_DATA" not in os.environ, reason="VLM_JAX_DATA is not set")
def test_the_real_mr_has_ten_folds(tmp_path):
    sources = [Tfds("mr", s, config="fold9", data_dir=str(tmp_path)) for s in ("train", "test")]
    counts = np.bincount(mr.folds_of(10_662))
    assert len(sources[1]) == counts[9] and len(sources[0]) == 10_662 - counts[9] - counts[0]
    texts = [e["sentence"][0] for source in sources for e in source.references.values()]
    assert any("é" in text for text in texts) and not any("\ufffd" in text for text in texts)


def test_a_fold_that_there_is_not_is_named_with_those_that_there_are(folder):
    with pytest.raises(ValueError, match="mr has no config 'fold12'; it has fold0, fold1, "):
        Tfds("mr", "train", config="fold12")[0]
