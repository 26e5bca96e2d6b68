import dataclasses
import pickle

import pytest

from vlm_jax.data.source import InMemory
from vlm_jax.text.lexicon import NUM_LETTERS, Lexicon, letters

CORPUS = InMemory([{"id": 0, "words": ("b", "a", "B", ",", "e\u0301")}])


def test_a_saved_lexicon_is_read_again_without_the_corpus(tmp_path):
    lexicon = Lexicon(corpus=CORPUS, vocab_size=8)
    lexicon.save(tmp_path / "words.json")
    again = dataclasses.replace(lexicon, corpus=None, file=str(tmp_path / "words.json"))
    assert again.encode("a b , \u00c9 z") == lexicon.encode("a b , \u00c9 z") == [6, 4, 5, 7, 3]
    assert pickle.loads(pickle.dumps(again)).encode("a") == [6]


def test_bad_lexicons_are_refused(tmp_path):
    with pytest.raises(ValueError, match="vocab_size is 6 but 8 rows are needed"):
        Lexicon(corpus=CORPUS, vocab_size=6).encode("a")
    with pytest.raises(ValueError, match="the corpus has no 'tokens'"):
        Lexicon(corpus=CORPUS, vocab_size=8, texts="tokens").encode("a")
    with pytest.raises(FileNotFoundError, match="no file"):
        Lexicon(vocab_size=8, file=str(tmp_path / "x.json")).encode("a")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ValueError, match="x.json: expected a JSON object"):
        Lexicon(vocab_size=8, file=str(tmp_path / "x.json")).encode("a")
    with pytest.raises(ValueError, match="give a corpus"):
        Lexicon(vocab_size=8)


def test_letters_are_bytes_between_two_ends_whatever_the_word():
    assert letters("ab", 4) == [1, 4 + 97, 4 + 98, 2]
    assert letters("abc", 2) == letters("ab", 2)
    assert letters("\u00e9", 4) == letters("e\u0301", 4)  # one spelling, composed or not
    for word in ("", "\x00", "\ud800", "\U0001f468\u200d\U0001f469", "<pad>", "x" * 10_000):
        rows = letters(word, 18)
        assert len(rows) <= 20 and all(0 < row < NUM_LETTERS for row in rows)
