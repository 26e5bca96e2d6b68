"""Files of word vectors: there and back, and what is refused by line or byte."""

import numpy as np
import pytest

from tests.data.made import HOSTILE
from vlm_jax.text import word_vectors as files

WORDS = ("the", "café", "\U0001f600", "日本", "<eos>")
VECTORS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
WRITERS = {
    "v.bin": files.write_word2vec_binary,
    "v.txt": files.write_word2vec_text,
    "glove.txt": files.write_glove,
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_is_read_back_bit_by_bit(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, WORDS, VECTORS)
    found = files.read_vectors(path)
    assert found.words == WORDS
    np.testing.assert_array_equal(found.vectors, VECTORS)
    some = files.read_vectors(path, wanted={"日本", "the", "absent"})
    assert some.words == ("the", "日本")
    np.testing.assert_array_equal(some.vectors, VECTORS[[0, 3]])
    assert files.read_vectors(path, wanted=set()).vectors.shape == (0, 3)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_other_programs_files_are_read(tmp_path):
    path = (
        tmp_path / "old.bin"
    )  # gensim and old word2vec write no line break after a word's numbers
    body = b"".join(w.encode() + b" " + v.tobytes() for w, v in zip(WORDS, VECTORS))
    path.write_bytes(b"5 3\n" + body)
    np.testing.assert_array_equal(files.read_vectors(path).vectors, VECTORS)
    path = tmp_path / "spaces.txt"  # glove.840B has words with a space, and lines may end in one
    path.write_bytes(b"\xff 4 5 6\n. . . 0.1 -2 3e-1 \nat name@x.org 1 2 3")
    found = files.read_vectors(path)
    assert found.words == ("\\xff", ". . .", "at name@x.org")
    np.testing.assert_array_equal(found.vectors[1:], np.float32([[0.1, -2, 0.3], [1, 2, 3]]))


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "line 1: given b'', expected a word and its numbers"),
        (b"dog\n", "line 1: given b'dog.*expected a word and its numbers"),
        (
            b"dog 1 2\ncat 1\n",
            "line 2: given b'cat 1.*with 1 numbers, expected a word and 2 numbers",
        ),
        (b"dog 1 2\ncat 1 2 3\n", "line 2: given .*with 3 numbers, expected a word and 2"),
        (b"dog 1 2\ncat 1 x\n", "line 2"),
        (b"dog 1 2\ncat nan 2\n", "line 2: number 1 of 'cat' is nan, expected a finite one"),
        (b"dog 1 2\ncat 1 1e99\n", "line 2: number 2 of 'cat' is inf"),
        (b"dog 1 2\ncat 3 4\ndog 5 6\n", "line 3: the word 'dog' was there already, line 1"),
        (b"dog 1 2\n\ncat 3 4\n", "line 2: an empty line"),
        (b"3 2\ndog 1 2\ncat 3 4\n", "line 3: the file ends after 2 words, its first line says 3"),
        (b"1 2\ndog 1 2\ncat 3 4\n", "line 3: the file ends after 2 words, its first line says 1"),
        (b"2 0\ndog\ncat\n", "says 0 numbers a word"),
        (b"0 2\n", "has no word vector in it"),
        (b"\0\0\0\n\0", "line 1"),
    ],
)
def test_a_text_that_is_not_whole_is_refused_with_its_line(tmp_path, content, words):
    path = tmp_path / "v.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        files.read_vectors(path)


def binary(*entries, first=None):
    body = b"".join(w + b" " + np.array(v, "<f4").tobytes() + b"\n" for w, v in entries)
    return (first or f"{len(entries)} 2\n".encode()) + body


DOG, CAT = (b"dog", [1, 2]), (b"cat", [3, 4])


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "byte 0: begins b''"),
        (b"dog 1 2\n", "byte 0: begins"),
        (binary(DOG, CAT)[:-4], "the file ends within the numbers of 'cat'|cut short"),
        (binary(DOG, CAT, first=b"9 2\n"), "30 bytes, expected at least 94 for 9 words of 2"),
        (binary(DOG, CAT, first=b"2 999999999\n"), "says 999999999 numbers a word"),
        (binary(DOG, CAT, first=b"1 2\n"), "byte 16: more than the 1 words"),
        (binary(DOG, (b"dog", [5, 6])), "byte 16: the word 'dog' was there already, byte 4"),
        (binary(DOG, (b"cat", [5, np.nan])), "byte 16: number 2 of 'cat' is nan"),
        (b"2 2\n" + b"x" * 100, "byte 4: the file ends within a word"),
        (b"2 2\n" + b"x" * 5000, "byte 4: no space within a word"),
    ],
)
def test_a_binary_that_is_not_whole_is_refused_with_its_byte(tmp_path, content, words):
    path = tmp_path / "v.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        files.read_vectors(path)


def test_every_cut_of_a_file_is_refused(tmp_path):
    for name, write in WRITERS.items():
        path = tmp_path / name
        write(path, ("dog", "cat"), np.float32([[1.25, 2.5], [3.5, 4.75]]))
        whole, end = path.read_bytes(), 1 if name != "glove.txt" else 20
        for length in range(len(whole) - end):
            path.write_bytes(whole[:length])
            try:
                found = files.read_vectors(path)
            except ValueError:
                continue
            # A text cut within its last number, or GloVe's after a whole line, looks whole.
            assert name != "v.bin" and len(found.words) == (2 if name == "v.txt" else 1)


def test_what_no_file_can_hold_is_not_written(tmp_path):
    path = tmp_path / "v.bin"
    for word in HOSTILE:
        if word and len(word.split()) == 1 and word.strip() == word:
            continue
        with pytest.raises(ValueError, match="is empty or has a space"):
            files.write_word2vec_binary(path, (word,), np.ones((1, 2)))
    with pytest.raises(ValueError, match="given a word twice"):
        files.write_glove(path, ("a", "a"), np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"shape \(2, 2\), expected \[1 d\]"):
        files.write_glove(path, ("a",), np.ones((2, 2)))
    with pytest.raises(ValueError, match="the vector of 'b' is not finite"):
        files.write_glove(path, ("a", "b"), np.array([[1.0], [np.inf]]))
    with pytest.raises(ValueError, match="ends in .bin"):
        files.write_word2vec_binary(tmp_path / "v.txt", ("a",), np.ones((1, 2)))
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="expected a file of word vectors"):
        files.read_vectors(path)
