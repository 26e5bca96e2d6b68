import json
import os

import numpy as np
import pytest

from tests.data.made import HOSTILE, jpeg, write_image_folder, write_karpathy
from vlm_jax import config
from vlm_jax.data.datasets.image_folder import ImageFolder
from vlm_jax.data.files import well_formed
from vlm_jax.data.sampling import EachCaption
from vlm_jax.data.source import Tfds

SIZES = {"train": 4, "validation": 2, "test": 1}


@pytest.fixture
def manual(tmp_path, monkeypatch):
    """The folder for files placed by hand under a data dir of this test."""
    monkeypatch.delenv("VLM_JAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path / "downloads" / "manual"


@pytest.fixture
def small_flickr8k(monkeypatch):
    from vlm_jax.data.datasets import flickr8k

    monkeypatch.setattr(flickr8k, "SIZES", SIZES)
    monkeypatch.setattr(flickr8k, "SHA256", {})
    return flickr8k


# ---- Flickr8k


def test_flickr8k_in_the_kaggle_layout(manual, small_flickr8k):
    images = write_karpathy(manual / "flickr8k", {"train": 4, "val": 2, "test": 1})
    for split, expected in (
        ("train", images[:4]),
        ("validation", images[4:6]),
        ("test", images[6:]),
    ):
        source = Tfds("flickr8k", split)
        assert len(source) == len(expected)
        for example, image in zip(_all(source), expected):
            assert example["id"] == image["imgid"]
            assert example["image_name"] == image["filename"]
            assert example["image"] == jpeg(image["imgid"])
            assert example["captions"] == tuple(s["raw"] for s in image["sentences"])


def test_flickr8k_in_the_original_layout(manual, small_flickr8k):
    text = manual / "flickr8k" / "Flickr8k_text"
    pictures = manual / "flickr8k" / "Flicker8k_Dataset"
    text.mkdir(parents=True)
    pictures.mkdir()
    names = [f"{i}.jpg" for i in range(7)]
    for i, name in enumerate(names):
        (pictures / name).write_bytes(jpeg(i))
    # the published file also holds captions of a picture that is not there
    rows = [f"{name}#{k}\t{name} caption {k} ." for name in (*names, "x.jpg.1") for k in range(5)]
    (text / "Flickr8k.token.txt").write_text("\n".join(rows) + "\n")
    for short, part in (("train", names[:4]), ("dev", names[4:6]), ("test", names[6:])):
        (text / f"Flickr_8k.{short}Images.txt").write_text("\n".join(part) + "\n")
    validation = Tfds("flickr8k", "validation")
    assert [example["image_name"] for example in _all(validation)] == names[4:6]
    assert [int(example["id"]) for example in _all(validation)] == [4, 5]
    assert validation[1]["captions"] == tuple(f"5.jpg caption {k} ." for k in range(5))


def test_hostile_captions_survive_writing_and_reading(manual, small_flickr8k):
    write_karpathy(manual / "flickr8k", {"train": 4, "val": 2, "test": 1}, captions=HOSTILE)
    stored = Tfds("flickr8k", "test")[0]["captions"]
    assert stored == tuple(well_formed(text) for text in HOSTILE)
    assert len(stored) == len(HOSTILE) and stored[0] == ""


def test_flickr8k_that_is_not_there_says_how_to_place_it(manual):
    with pytest.raises(FileNotFoundError, match="(?s)downloads/manual/flickr8k.*captions.txt"):
        len(Tfds("flickr8k", "train"))
    (manual / "flickr8k").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="neither dataset_flickr8k.json nor"):
        len(Tfds("flickr8k", "train"))


def test_a_short_download_is_refused_by_name_and_works_once_mended(manual, small_flickr8k):
    write_karpathy(manual / "flickr8k", {"train": 4, "val": 2, "test": 1})
    folder = manual / "flickr8k" / "Images"
    (folder / "0001.jpg").unlink()
    (folder / "0002.jpg").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="2 of 7.*0001.jpg .missing.*0002.jpg .0 bytes"):
        len(Tfds("flickr8k", "train"))
    (folder / "0001.jpg").write_bytes(jpeg(1)[:200])
    (folder / "0002.jpg").write_bytes(b"<html>404 Not Found</html>")
    with pytest.raises(ValueError, match="2 of 7.*0001.jpg .cut short at 200.*0002.jpg .*<html>"):
        len(Tfds("flickr8k", "train"))
    for i in (1, 2):
        (folder / f"000{i}.jpg").write_bytes(jpeg(i))
    assert len(Tfds("flickr8k", "train")) == 4


def test_caption_files_are_checked_by_their_sums(manual):
    write_karpathy(manual / "flickr8k", {"train": 4})
    with pytest.raises(
        ValueError, match="(?s)dataset_flickr8k.json is not .*sha256 .*ce467057.*begin.*images"
    ):
        len(Tfds("flickr8k", "train"))


def test_wrong_counts_and_broken_json_are_refused(manual, small_flickr8k):
    write_karpathy(manual / "flickr8k", {"train": 3, "val": 2, "test": 1})
    with pytest.raises(ValueError, match="train has 3 pictures, expected 4"):
        len(Tfds("flickr8k", "train"))
    path = manual / "flickr8k" / "dataset_flickr8k.json"
    path.write_text(path.read_text()[:-10])
    with pytest.raises(ValueError, match="dataset_flickr8k.json is not whole JSON"):
        len(Tfds("flickr8k", "train"))


@pytest.mark.skipif("VLM_JAX_DATA" not in os.environ, reason="VLM_JAX_DATA is not set")
def test_the_real_flickr8k_has_the_karpathy_split(tmp_path):
    splits = {
        s: Tfds("flickr8k", s, data_dir=str(tmp_path)) for s in ("train", "validation", "test")
    }
    assert [len(source) for source in splits.values()] == [6000, 1000, 1000]
    ids = [id for source in splits.values() for id in source.references]
    assert len(set(ids)) == 8000
    for source in splits.values():
        assert all(len(texts["captions"]) == 5 for texts in source.references.values())
    assert len(EachCaption(splits["train"])) == 30_000
    first = splits["train"][0]
    assert first["image_name"] == "2513260012_03d33305cf.jpg"
    assert first["captions"][0] == "A black dog is running after a white dog in the snow ."
    folder = os.path.join(os.environ["VLM_JAX_DATA"], "flickr8k", "Images")
    with open(os.path.join(folder, first["image_name"]), "rb") as file:
        assert first["image"] == file.read()


# ---- COCO


def write_coco(folder):
    """Three pictures of 2014 in both annotation forms; the second has six captions, out of order."""
    (folder / "annotations").mkdir(parents=True)
    pictures = [("train2014", 9, 5), ("train2014", 25, 6), ("val2014", 42, 5)]
    karpathy = []
    for year, id, count in pictures:
        name = f"COCO_{year}_{id:012d}.jpg"
        (folder / year).mkdir(exist_ok=True)
        (folder / year / name).write_bytes(jpeg(id))
        karpathy.append(
            {
                "filepath": year,
                "filename": name,
                "cocoid": id,
                "split": "restval" if id == 42 else "train",
                "sentences": [{"raw": f"{id} karpathy {k}"} for k in range(count)],
            }
        )
    (folder / "dataset_coco.json").write_text(json.dumps({"images": karpathy}))
    for year in ("train2014", "val2014"):
        chosen = [(id, count) for y, id, count in pictures if y == year]
        images = [{"id": id, "file_name": f"COCO_{year}_{id:012d}.jpg"} for id, _ in chosen]
        annotations = [
            {"id": 100 * id + k, "image_id": id, "caption": f"{id} official {k}"}
            for id, count in chosen
            for k in reversed(range(count))
        ]
        path = folder / "annotations" / f"captions_{year}.json"
        path.write_text(json.dumps({"images": images, "annotations": annotations}))


def test_coco_by_either_split(manual):
    write_coco(manual / "coco_captions")
    train = Tfds("coco_captions", "train+restval")
    assert [int(example["id"]) for example in _all(train)] == [9, 25, 42]
    assert train[1]["captions"] == tuple(f"25 karpathy {k}" for k in range(6))
    assert train[2]["image"] == jpeg(42)
    assert train[2]["image_name"] == "val2014/COCO_val2014_000000000042.jpg"
    validation = Tfds("coco_captions", "validation", config="official")
    assert validation.references == {
        42: {
            "captions": tuple(f"42 official {k}" for k in range(5)),
            "image_name": ("val2014/COCO_val2014_000000000042.jpg",),
        }
    }
    assert len(EachCaption(Tfds("coco_captions", "train", config="official"))) == 11


def test_coco_that_is_incomplete_is_refused_by_name(manual):
    with pytest.raises(FileNotFoundError, match="(?s)coco_captions.*zips.{train2014"):
        len(Tfds("coco_captions", "train"))
    folder = manual / "coco_captions"
    write_coco(folder)
    (folder / "val2014" / "COCO_val2014_000000000042.jpg").unlink()
    for name in ("karpathy", "official"):
        with pytest.raises(FileNotFoundError, match="1 of 3 .*COCO_val2014_000000000042.jpg"):
            len(Tfds("coco_captions", "train", config=name))
    (folder / "dataset_coco.json").unlink()
    with pytest.raises(FileNotFoundError, match="dataset_coco.json is missing"):
        len(Tfds("coco_captions", "train"))
    path = folder / "annotations" / "captions_val2014.json"
    path.write_text(path.read_text().replace('"image_id": 42', '"image_id": 43'))
    with pytest.raises(ValueError, match="picture 43, which the file does not list"):
        len(Tfds("coco_captions", "train", config="official"))


# ---- a folder of one's own


def test_image_folder_from_csv(tmp_path):
    write_image_folder(tmp_path, 3, captions_each=2)
    source = ImageFolder(str(tmp_path))
    assert len(source) == 3
    assert source[1]["id"] == 1 and source[1]["image"] == jpeg(1)
    assert source[1]["captions"] == ("caption 0 of 1", "caption 1 of 1")
    assert source.references[2]["image_name"] == ("002.jpg",)
    assert config.from_json(config.to_json(source)) == source


def test_hostile_captions_in_csv_and_jsonl(tmp_path):
    import csv

    for form in ("csv", "jsonl"):
        folder = tmp_path / form
        folder.mkdir()
        (folder / "a.jpg").write_bytes(jpeg())
        if form == "csv":
            with open(folder / "captions.csv", "w", newline="", errors="surrogatepass") as file:
                rows = csv.writer(file)
                rows.writerow(["image", "caption"])
                rows.writerows(["a.jpg", text] for text in HOSTILE)
        else:
            lines = [json.dumps({"image": "a.jpg", "caption": text}) for text in HOSTILE]
            (folder / "captions.jsonl").write_text("\n".join(lines))
        captions = ImageFolder(str(folder), "all")[0]["captions"]
        assert len(captions) == len(HOSTILE)
        for given, stored in zip(HOSTILE, captions):
            # Bytes that are no UTF-8, as a lone surrogate's in a CSV, are replaced one by one.
            assert stored.replace("\ufffd", "") == given.replace("\ud83d", "")
        assert "\ufffd" in captions[4]


def test_splits_without_a_column_follow_from_the_name_alone(tmp_path):
    def write(count):
        lines = [json.dumps({"image": f"{i}.jpg", "caption": "c"}) for i in range(count)]
        for i in range(count):
            (tmp_path / f"{i}.jpg").write_bytes(b"")
        (tmp_path / "captions.jsonl").write_text("\n".join(lines))
        return {
            split: set(name for t in source.references.values() for name in t["image_name"])
            for split in ("train", "validation", "test")
            for source in [ImageFolder(str(tmp_path), split)]
        }

    before, after = write(60), write(300)
    assert all(before[split] <= after[split] for split in before)
    assert sum(map(len, after.values())) == 300
    assert 210 <= len(after["train"]) <= 270 and min(map(len, after.values())) >= 15
    assert len(ImageFolder(str(tmp_path), "all")) == 300


@pytest.mark.parametrize(
    "table, words",
    [
        ("image,caption\nb.jpg,x\na.jpg,y\n", "1 of 2 .*b.jpg .missing"),
        ("file,text\na.jpg,x\n", r"first line is \['file', 'text'\], expected image,caption"),
        ("image,caption\na.jpg,one, two\n", "line 2: 3 columns, expected 2; put double quotes"),
        ("image,caption\n,x\n", "line 2: given .*expected a text for image"),
        ("image,caption\n../a.jpg,x\n", "line 2: '../a.jpg' lies outside"),
        ("image,caption\n/etc/a.jpg,x\n", "line 2: '/etc/a.jpg' lies outside"),
        ("image,caption,split\na.jpg,x,train\na.jpg,y,test\n", "line 3: a.jpg is in split 'test'"),
        ("image,caption,split\na.jpg,x,dev\n", r"no picture in split 'train'; it has dev \(1\)"),
        ("", "first line is"),
        ('image,caption\na.jpg,"open\n', "line 2"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_in_words(tmp_path, table, words):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / "captions.csv").write_text(table)
    with pytest.raises((ValueError, FileNotFoundError), match=f"(?s){words}"):
        len(ImageFolder(str(tmp_path)))


def test_a_folder_without_captions_and_a_broken_line_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither captions.csv"):
        len(ImageFolder(str(tmp_path)))
    (tmp_path / "captions.jsonl").write_text('{"image": "a.jpg", "caption": "x"}\n{"image": ')
    with pytest.raises(ValueError, match="captions.jsonl line 2"):
        len(ImageFolder(str(tmp_path)))


def test_the_fingerprint_of_a_folder_follows_its_pictures(tmp_path):
    write_image_folder(tmp_path, 3)
    before = ImageFolder(str(tmp_path)).fingerprint
    assert ImageFolder(str(tmp_path)).fingerprint == before
    (tmp_path / "001.jpg").write_bytes(jpeg(50, size=9))
    assert ImageFolder(str(tmp_path)).fingerprint != before


def test_ids_fit_the_batch(tmp_path):
    write_image_folder(tmp_path, 2)
    assert all(isinstance(e["id"], np.int64) for e in _all(ImageFolder(str(tmp_path))))


def _all(source):
    return [source[index] for index in range(len(source))]
