import gzip
import os

import pytest

from tests.data.made import HOSTILE
from vlm_jax.data.files import well_formed
from vlm_jax.data.source import Tfds

SIZES = {"train": len(HOSTILE), "validation": 2, "test": 1}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Nine files of the published layout under a data dir of this test, every other one compressed."""
    from vlm_jax.data.datasets import multi30k

    monkeypatch.setattr(multi30k, "SIZES", SIZES)
    monkeypatch.setattr(multi30k, "SHA256", {})
    monkeypatch.delenv("VLM_JAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    folder = tmp_path / "downloads" / "manual" / "multi30k"
    folder.mkdir(parents=True)
    for split, name in multi30k.FILES.items():
        for number, language in enumerate(multi30k.LANGUAGES):
            data = "".join(f"{language} {t}\n" for t in texts(split)).encode("utf-8")
            file = folder / f"{name}.{language}"
            if number % 2:
                file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(data))
            else:
                file.write_bytes(data)
    return folder


def texts(split):
    return [well_formed(text).replace("\n", " ") for text in HOSTILE[: SIZES[split]]]


def test_lines_of_one_number_are_translations_of_each_other_plain_or_compressed(small):
    for split, size in SIZES.items():
        source = Tfds("multi30k", split)
        assert len(source) == size
        for index, text in enumerate(texts(split)):
            example = source[index]
            assert example == {
                "id": index,
                "en": f"en {text}",
                "de": f"de {text}",
                "fr": f"fr {text}",
            }
        assert source.references[0] == {
            key: (f"{key} {texts(split)[0]}",) for key in ("en", "de", "fr")
        }


@pytest.mark.parametrize(
    "name, damage, message",
    [
        ("val.fr", lambda file: file.unlink(), r"val\.fr is missing, and so is val\.fr\.gz"),
        ("train.en", lambda file: file.write_text("one\n"), r"train\.en has 1 lines, expected 8"),
        ("val.en", lambda file: file.write_bytes(b"\xff\n\xfe\n"), r"val\.en is not whole.*utf-8"),
        (
            "test_2016_flickr.de.gz",
            lambda file: file.write_bytes(file.read_bytes()[:-4]),
            r"test_2016_flickr\.de\.gz is not whole",
        ),
        (
            "train.de.gz",
            lambda file: file.write_text("<html>404"),
            r"train\.de\.gz is not whole.*beginning b'<html>404",
        ),
    ],
)
def test_a_missing_short_or_wrong_file_is_refused_by_name(small, name, damage, message):
    damage(small / name)
    with pytest.raises(
        (ValueError, FileNotFoundError), match=f"(?s){message}.*github.com/multi30k"
    ):
        len(Tfds("multi30k", "test"))


def test_another_text_of_the_same_length_is_refused(small, monkeypatch):
    from vlm_jax.data.datasets import multi30k

    monkeypatch.setattr(multi30k, "SHA256", {"val.de": "0" * 64})
    with pytest.raises(
        ValueError, match=r"(?s)val\.de\.gz is not the published file.*expected 0000"
    ):
        len(Tfds("multi30k", "test"))


@pytest.mark.skipif("VLM_JAX_DATA" not in os.environ, reason="VLM_JAX_DATA is not set")
def test_the_published_files(tmp_path):
    source = Tfds("multi30k", "validation", data_dir=str(tmp_path))
    assert len(source) == 1014
    assert source[0]["en"] == "A group of men are loading cotton onto a truck"
    assert source[0]["de"] == "Eine Gruppe von Männern lädt Baumwolle auf einen Lastwagen"
