import dataclasses
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from tests.data.made import HOSTILE, jpeg, numbers, write_image_folder
from vlm_jax import config
from vlm_jax.data.datasets.image_folder import ImageFolder
from vlm_jax.data.files import default_data_dir, well_formed
from vlm_jax.data.image_transforms import Decode, Resize
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.sampling import EachCaption, First
from vlm_jax.data.source import (
    InMemory,
    Pictures,
    Rows,
    Source,
    Tfds,
    references_of,
    replace_source,
)
from vlm_jax.data.text_transforms import FirstCaption, Tokenize


def captioned(counts):
    """Pictures with so many captions each."""
    return InMemory(
        [
            {"id": 10 + i, "captions": tuple(f"{i}.{k}" for k in range(count)), "image": b"x"}
            for i, count in enumerate(counts)
        ]
    )


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    data_dir = str(tmp_path_factory.mktemp("prepared"))
    return lambda split: Tfds("scenes", split, config="tiny", data_dir=data_dir)


# ---- Tfds


def test_tfds_gives_encoded_pictures_and_texts_as_str(scenes):
    train = scenes("train")
    example = train[5]
    assert isinstance(train, Source) and len(train) == 64
    assert example["image"].startswith(b"\x89PNG")
    assert isinstance(example["scene"], str) and isinstance(example["id"], np.int64)
    assert all(type(text) is str for text in example["captions"]) and len(example["captions"]) == 5
    assert train.references[int(example["id"])]["captions"] == example["captions"]
    assert train.references[int(example["id"])]["scene"] == (example["scene"],)
    assert list(train.references) == [int(train[i]["id"]) for i in range(64)]


def test_tfds_slices_are_parts_of_their_split(scenes):
    whole = [int(scenes("train")[i]["id"]) for i in range(64)]
    assert [int(example["id"]) for example in _all(scenes("train[:10]"))] == whole[:10]
    assert [int(example["id"]) for example in _all(scenes("train[75%:]"))] == whole[48:]
    with pytest.raises(IndexError, match="64 of 64"):
        scenes("train")[64]
    with pytest.raises(ValueError, match="no split 'val'; it has .*validation"):
        len(scenes("val"))


def test_tfds_is_a_description(scenes):
    train = scenes("train[:3]")
    train[0]
    assert train == scenes("train[:3]") != scenes("train")
    assert hash(train) == hash(scenes("train[:3]"))
    assert config.from_json(config.to_json(train)) == train
    sent = pickle.dumps(train)
    assert len(sent) < 500 and pickle.loads(sent)[0]["id"] == train[0]["id"]


def test_tfds_fingerprints_tell_slices_apart(scenes):
    prints = {scenes(s).fingerprint for s in ("train", "train[:3]", "test", "validation")}
    assert len(prints) == 4
    assert dataclasses.replace(scenes("train")).fingerprint == scenes("train").fingerprint


def test_two_processes_that_prepare_at_once_prepare_once(tmp_path):
    code = (
        "import sys; from vlm_jax.data.source import Tfds;"
        "train = Tfds('scenes', 'train', config='tiny', data_dir=sys.argv[1]);"
        "print(len(train), train[63]['id'])"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [run.communicate(timeout=120) for run in runs]
    assert [out for out, _ in outputs] == ["64 63\n"] * 2, outputs
    assert sum(err.count("preparing scenes") for _, err in outputs) == 1
    assert not list(tmp_path.rglob("incomplete*"))


def test_reading_needs_no_tensorflow(scenes):
    code = (
        "import sys; from vlm_jax.data.source import Tfds;"
        "assert 'tensorflow_datasets' not in sys.modules, 'imported before it is needed';"
        f"Tfds('scenes', 'train', config='tiny', data_dir={scenes('train').data_dir!r})[0];"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_nobody_knows_is_refused(tmp_path):
    with pytest.raises(Exception, match="flickr9k"):
        len(Tfds("flickr9k", "train", data_dir=str(tmp_path)))


def test_the_data_dir_is_the_argument_or_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "a"))
    assert default_data_dir() == str(tmp_path / "a")
    assert default_data_dir(tmp_path / "b") == str(tmp_path / "b")
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert default_data_dir().endswith("/tensorflow_datasets")


# ---- InMemory and Pictures


def test_in_memory_is_equal_to_itself_and_cannot_be_written_down():
    source = numbers(3)
    assert source == source and hash(source) == hash(source) and source != numbers(3)
    assert [int(example["id"]) for example in _all(source)] == [100, 101, 102]
    assert source.references[101] == {"name": ("n1",)}
    with pytest.raises(TypeError, match="source.examples.*3 examples in memory"):
        config.to_json(Pipeline(source=source, batch_size=2, train=True))


def test_references_are_all_texts_by_id():
    examples = [{"id": 4, "captions": ("a", "b"), "scene": "{}", "label": 3, "image": b"no text"}]
    assert references_of(examples) == {4: {"captions": ("a", "b"), "scene": ("{}",)}}


def test_pictures_are_read_as_they_are(tmp_path):
    paths = tuple(str(tmp_path / f"{i}.jpg") for i in range(3))
    for i in range(2):
        (tmp_path / f"{i}.jpg").write_bytes(jpeg(i))
    pictures = Pictures(paths=paths)
    example = {**pictures[1]}
    assert (example.pop("captions"), example.pop("caption")) == (("",), "")
    assert example == {"id": 1, "image": jpeg(1), "image_name": paths[1]}
    assert len(pictures) == 3 and pictures.references[2] == {"image_name": (paths[2],)}
    with pytest.raises(FileNotFoundError, match="2.jpg"):
        pictures[2]


# ---- wrappers


@pytest.mark.parametrize("counts, captions", [((2, 0, 3, 1), None), ((3, 3), None), ((3, 3), 3)])
def test_each_caption_gives_every_pair_once_in_order(counts, captions):
    source = EachCaption(captioned(counts), captions=captions)
    pairs = [(int(example["id"]), example["caption"]) for example in _all(source)]
    assert pairs == [(10 + i, f"{i}.{k}") for i, count in enumerate(counts) for k in range(count)]
    assert "captions" not in source[0] and source[0]["image"] == b"x"
    assert source.references == source.source.references
    with pytest.raises(IndexError):
        source[len(source)]


def test_each_caption_names_a_picture_with_another_number():
    source = EachCaption(captioned((2, 1)), captions=2)
    with pytest.raises(ValueError, match="id 11 has 1 captions, expected 2"):
        source[2]


def test_each_caption_counts_pictures_that_share_an_id():
    twice = InMemory([{"id": 1, "captions": ("a",)}, {"id": 1, "captions": ("b", "c")}])
    assert [example["caption"] for example in _all(EachCaption(twice))] == ["a", "b", "c"]


def test_first_takes_what_there_is():
    source = captioned((1, 1, 1))
    assert [int(e["id"]) for e in _all(First(source, 2))] == [10, 11]
    assert list(First(source, 2).references) == [10, 11]
    assert len(First(source, 9)) == 3
    with pytest.raises(IndexError):
        First(source, 2)[2]


def test_replace_source_reaches_through_the_wrappers(tmp_path):
    folder = ImageFolder(str(write_image_folder(tmp_path / "own", 4)))
    pipeline = Pipeline(source=First(EachCaption(captioned((2, 2))), 3), batch_size=2, train=False)
    replaced = replace_source(pipeline, folder)
    assert replaced.source == First(EachCaption(folder), 3) and replaced.batch_size == 2
    # Pictures without captions have no pairs to make.
    pictures = Pictures(paths=("a.jpg",))
    assert replace_source(pipeline, pictures).source == First(pictures, 3)
    assert replace_source(folder, pictures) == pictures
    with pytest.raises(TypeError, match="given int"):
        replace_source(3, pictures)


@pytest.mark.parametrize("pairs", [False, True])
def test_the_pipelines_of_a_captioner_run_on_pictures_without_captions(tmp_path, pairs):
    write_image_folder(tmp_path / "own", 4)
    source, tokenize = (
        ImageFolder(str(tmp_path / "own")),
        Tokenize(tokenizer=Letters(), max_length=5),
    )
    chosen = () if pairs else (FirstCaption(),)
    pipeline = Pipeline(
        source=EachCaption(source) if pairs else source,
        transforms=(Decode(), Resize(size=8), *chosen, tokenize),
        batch_size=4,
        train=False,
    )
    before = next(pipeline.batches())[1]
    paths = tuple(str(tmp_path / "own" / f"{i:03d}.jpg") for i in range(3))
    _, batch = next(replace_source(pipeline, Pictures(paths=paths)).batches())
    assert batch["id"].tolist() == [0, 1, 2, -1] and batch["target"][0].tolist() == [1, 2, 0, 0, 0]
    rows = [0, 2] if pairs else [0, 1]  # two captions a picture
    np.testing.assert_array_equal(batch["image"][:2], before["image"][rows])


class Letters:
    def encode(self, text):
        return [4 + ord(letter) % 20 for letter in text]


def test_every_hostile_caption_can_be_stored_and_only_lone_surrogates_change():
    for text in HOSTILE:
        stored = well_formed(text)
        assert stored.encode().decode() == stored
        assert stored == text.replace("\ud83d", "\ufffd")
    assert well_formed("\ud83d\ude00") == "😀"  # a pair written as two halves is one character


def _all(source):
    return [source[index] for index in range(len(source))]


def test_rows_are_examples_that_a_configuration_can_write_down():
    rows = Rows(
        names=("text", "label", "tags"),
        rows=(("a fine film", 1, ("D", "J", "N")), ("dull", 0, ("J",))),
    )
    assert rows[1] == {"id": 1, "text": "dull", "label": 0, "tags": ("J",)}
    assert rows.references[0] == {"text": ("a fine film",), "tags": ("D", "J", "N")}
    again = config.from_json(json.loads(json.dumps(config.to_json(rows))))
    assert again == rows and hash(again) == hash(rows) and again.fingerprint == rows.fingerprint
    with pytest.raises(ValueError, match="row 0 has 1 values, expected one for each of"):
        Rows(names=("text", "label"), rows=(("a fine film",),))
