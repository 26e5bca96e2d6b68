"""A folder for each class."""

import pytest

from tests.data.made import jpeg
from vlm_jax.data.datasets.class_folder import ClassFolder, classes_of


def write(folder, *names):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(number))
    return str(folder)


def test_labels_are_the_places_of_the_folders_in_the_alphabet(tmp_path):
    folder = write(tmp_path, "dog/1.jpg", "cat/2.JPG", "cat/deep/3.png")
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    classes = classes_of(folder)
    source = ClassFolder(folder, "all", classes)
    found = {
        e["image_name"]: (int(e["id"]), int(e["label"])) for e in map(source.__getitem__, range(3))
    }
    assert classes == ("cat", "dog")
    assert found == {"cat/2.JPG": (0, 0), "cat/deep/3.png": (1, 0), "dog/1.jpg": (2, 1)}
    assert source.references[2] == {"image_name": ("dog/1.jpg",)}


def test_splits_are_folders_where_there_are_such_and_follow_from_the_name_where_not(tmp_path):
    named = write(tmp_path / "a", "train/cat/1.jpg", "train/dog/2.jpg", "test/cat/3.jpg")
    assert classes_of(named) == ("cat", "dog")
    assert [len(ClassFolder(named, s, ("cat", "dog"))) for s in ("train", "test", "all")] == [
        2,
        1,
        3,
    ]
    with pytest.raises(
        ValueError, match=r"no picture in split 'validation'; it has test \(1\), train \(2\)"
    ):
        len(ClassFolder(named, "validation", ("cat", "dog")))
    names = [f"{kind}/{i}.jpg" for kind in ("cat", "dog") for i in range(40)]
    drawn = write(tmp_path / "b", *names)
    sizes = [len(ClassFolder(drawn, s, ("cat", "dog"))) for s in ("train", "validation", "test")]
    assert sum(sizes) == 80 and sizes[0] > 52 and min(sizes) > 2
    before = ClassFolder(drawn, "test", ("cat", "dog")).references
    write(tmp_path / "b", "cat/x.jpg", "dog/x.jpg")
    after = ClassFolder(drawn, "test", ("cat", "dog")).references
    assert {t["image_name"] for t in before.values()} <= {t["image_name"] for t in after.values()}


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        classes_of(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no pictures"):
        classes_of(tmp_path)
    with pytest.raises(ValueError, match=r"has the classes \['cat'\], expected at least two"):
        classes_of(write(tmp_path / "one", "cat/1.jpg"))
    with pytest.raises(ValueError, match="1.jpg lies in no folder of a class"):
        classes_of(write(tmp_path / "flat", "1.jpg", "cat/2.jpg"))
    folder = write(tmp_path / "new", "cat/1.jpg", "dog/2.jpg", "owl/3.jpg")
    with pytest.raises(ValueError, match=r"folders of the classes \['owl'\].*train again"):
        len(ClassFolder(folder, "all", ("cat", "dog")))
