"""Tokenizers: rows worked out by hand, hostile captions, and text that pretends to be a special token."""

import copy
import dataclasses
import json
import os
import pickle
import subprocess
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Metaspace

from vlm_jax import config
from vlm_jax.data.prompted import Prompt
from vlm_jax.data.source import Rows
from vlm_jax.text import tokenizers
from vlm_jax.text.tokenizers import BpeTokenizer, TokenizerFile, WordTokenizer, round_up
from vlm_jax.types import BOS, EOS, PAD, UNK


@dataclasses.dataclass(frozen=True)
class Captions:
    """A corpus: one picture, these captions."""

    lines: tuple[str, ...]
    key: str = "captions"

    @property
    def references(self) -> Mapping[int, Mapping[str, tuple[str, ...]]]:
        half = len(self.lines) // 2
        return {1: {self.key: self.lines[half:]}, 0: {self.key: self.lines[:half]}}


LINES = (
    "A dog runs .",
    "a dog's T-shirt, (red) !",
    "Two dogs run; a cat sleeps .",
    "a girl — “quiet” — reads",
    "the Café is closed",
)
WORDS = WordTokenizer(corpus=Captions(LINES), vocab_size=64)
BPE = BpeTokenizer(corpus=Captions(LINES), vocab_size=300)
HOSTILE = {
    "empty": "",
    "whitespace": " \t\n\u00a0\u3000",
    "ten thousand words": "dog " * 10_000,
    "emoji with joiners": "a \U0001f469\u200d\U0001f469\u200d\U0001f467 family",
    "nul": "a\0dog\0",
    "lone surrogates": "a \ud83d dog \udc36",
    "surrogate pair": "a \ud83d\udc36",
    "right to left": "كلب يركض \u202eabc\u202c שלום",
    "combining": "cafe\u0301 " + "e" + "\u0301" * 500,
    "one megabyte": "x" * 1_000_000,
    "hyphens": "a-" * 100_000,
    "special tokens": "<eos> <pad> <bos> <unk> [CLS] </s> <|endoftext|> ⟨eos⟩ ⟨pad⟩⟨bos⟩ <image>",
}


def test_words_are_lower_cased_and_keep_inner_apostrophes_and_hyphens():
    assert WORDS.words("A dog\u2019s T-shirt, (red)! -- 'quoted' 3rd_time") == [
        "a", "dog's", "t-shirt", "red", "quoted", "3rd", "time",
    ]  # fmt: skip


def test_rows_follow_falling_count_and_ties_the_alphabet():
    tokenizer = WordTokenizer(corpus=Captions(("b b c a c d", "e")), vocab_size=8)
    # b and c twice; a, d, e once, of which only two rows are left
    assert tokenizer.encode("b c a d e") == [4, 5, 6, 7, UNK]
    assert tokenizer.num_tokens == 8


def test_rare_words_are_unknown_and_leave_rows_unused():
    tokenizer = WordTokenizer(corpus=Captions(("b b c a c d", "e")), vocab_size=8, min_count=2)
    assert tokenizer.num_tokens == 6
    assert tokenizer.encode("b a c") == [4, UNK, 5]
    assert tokenizer.decode([4, 7, 5, UNK]) == "b c"  # row 7 is unused


def test_case_is_kept_when_asked():
    tokenizer = WordTokenizer(corpus=Captions(("A a",)), vocab_size=8, lowercase=False)
    assert tokenizer.words("A a") == ["A", "a"]
    assert len(set(tokenizer.encode("A a"))) == 2


def test_decoding_stops_at_the_first_end_and_drops_the_other_specials():
    dog, cat = WORDS.encode("dog cat")
    for tokenizer in (WORDS, BPE):
        assert tokenizer.decode([BOS, EOS, *tokenizer.encode("dog")]) == ""
        assert tokenizer.decode([]) == ""
    assert WORDS.decode([BOS, dog, UNK, PAD, cat, EOS, dog, PAD]) == "dog cat"


def test_an_id_beyond_the_declared_size_is_refused():
    with pytest.raises(ValueError, match="64.*64"):
        WORDS.decode([64])


@pytest.mark.parametrize("name", HOSTILE)
def test_no_caption_crashes_or_becomes_a_special_token(name):
    for tokenizer in (WORDS, BPE):
        ids = tokenizer.encode(HOSTILE[name])
        assert not {PAD, BOS, EOS} & set(ids)
        assert all(0 <= i < tokenizer.num_tokens for i in ids)
        text = tokenizer.decode(ids)
    assert UNK not in ids
    assert text == BPE.normalise(HOSTILE[name])


def test_the_documented_policy_of_hostile_captions():
    assert WORDS.encode(HOSTILE["empty"]) == WORDS.encode(HOSTILE["whitespace"]) == []
    assert len(WORDS.encode(HOSTILE["ten thousand words"])) == 10_000
    assert WORDS.words("a \U0001f415 dog") == WORDS.words("a\0dog") == ["a", "dog"]
    assert WORDS.words("a \ud83d dog") == ["a", "dog"]
    assert BPE.normalise("\ud83d!") == "\ufffd!"
    assert BPE.normalise("\ud83d\udc36") == "\U0001f436"
    assert WORDS.words("<eos> [CLS]") == ["eos", "cls"]
    for tokenizer in (WORDS, BPE):
        nfc = unicodedata.normalize("NFC", "the café")
        nfd = unicodedata.normalize("NFD", "the café")
        assert nfc != nfd
        assert tokenizer.encode(nfc) == tokenizer.encode(nfd)


@hypothesis.settings(max_examples=400, derandomize=True, deadline=None)
@hypothesis.given(st.text(st.characters(), max_size=60))
def test_any_text_survives_byte_level_encoding(text):
    ids = BPE.encode(text)
    assert BPE.decode(ids) == BPE.normalise(text)
    assert all(row >= 4 for row in ids)
    assert BPE.normalise(BPE.normalise(text)) == BPE.normalise(text)


@hypothesis.settings(max_examples=400, derandomize=True, deadline=None)
@hypothesis.given(st.lists(st.sampled_from(" ".join(LINES).split()), max_size=12).map(" ".join))
def test_known_words_survive_word_encoding(text):
    assert WORDS.decode(WORDS.encode(text)) == WORDS.normalise(text)


@hypothesis.settings(max_examples=200, derandomize=True, deadline=None)
@hypothesis.given(st.text(st.characters(), max_size=60))
def test_normalised_words_are_read_as_themselves(text):
    once = WORDS.normalise(text)
    assert WORDS.normalise(once) == once
    assert WORDS.encode(once) == WORDS.encode(text)


def test_captions_full_of_special_spellings_do_not_take_the_special_rows():
    lines = ("<eos><eos> ⟨eos⟩ <pad>",) * 50
    words = WordTokenizer(corpus=Captions(lines), vocab_size=16)
    assert [words.decode([row]) for row in words.encode("eos pad")] == ["eos", "pad"]
    bpe = BpeTokenizer(corpus=Captions(lines), vocab_size=320)
    ids = bpe.encode("<eos><eos> ⟨eos⟩ <pad>")
    assert len(ids) < 12  # of 27 bytes: the spellings were frequent enough to be merged
    assert min(ids) >= 4
    assert bpe.decode(ids) == "<eos><eos> ⟨eos⟩ <pad>"


def test_bpe_merges_the_most_frequent_pair_first():
    tokenizer = BpeTokenizer(corpus=Captions(("ababab ab", "abc")), vocab_size=262)
    assert tokenizer.num_tokens == 262
    a, b = tokenizer.encode("a")[0], tokenizer.encode("b")[0]
    assert sorted((a, b)) == [
        4 + 64,
        4 + 65,
    ]  # bytes in the order of their printed form: '!' is row 4
    assert tokenizer.encode("ab") == [260]  # the first merge
    assert tokenizer.encode("abab") == [261]  # the second


def test_training_is_the_same_in_every_process_and_for_every_order(tmp_path):
    """Ties are everywhere in this corpus: every pair occurs twice."""
    lines = tuple(f"{c}{d} {c}{d}" for c in "abcdefgh" for d in "stuvwxyz")
    code = (
        "import sys; from vlm_jax.text.tokenizers import *\n"
        "class C:\n"
        "    def __init__(self, lines): self.references = dict(enumerate({'captions': (l,)} for l in lines))\n"
        f"c = C(sorted({lines!r}, reverse='r' in sys.argv[1]))\n"
        "BpeTokenizer(corpus=c, vocab_size=300).save(sys.argv[1] + '.bpe')\n"
        "WordTokenizer(corpus=c, vocab_size=40).save(sys.argv[1] + '.words')\n"
    )
    for name, seed in (("1", "0"), ("2r", "7")):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "RAYON_NUM_THREADS": str(1 + int(seed)),
        }
        command = [sys.executable, "-c", code, str(tmp_path / name)]
        subprocess.run(command, check=True, env=environment, timeout=120)
    for kind in ("bpe", "words"):
        first, second = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("1", "2r"))
        assert first == second


@pytest.mark.parametrize("tokenizer", [WORDS, BPE], ids=["words", "bpe"])
def test_a_saved_tokenizer_is_read_back_without_its_corpus(tokenizer, tmp_path):
    path = tmp_path / "sub" / "tokenizer.json"
    tokenizer.save(path)
    again = dataclasses.replace(tokenizer, corpus=None, file=str(path))
    text = "a dog's café is unseen"
    assert again.encode(text) == tokenizer.encode(text)
    assert again.normalise(text) == tokenizer.normalise(text)
    assert again.num_tokens == tokenizer.num_tokens
    again.save(tmp_path / "twice.json")
    assert (tmp_path / "twice.json").read_bytes() == path.read_bytes()


def test_a_file_of_another_kind_is_refused_by_name(tmp_path):
    path = tmp_path / "bpe.json"
    BPE.save(path)
    with pytest.raises(ValueError, match="bpe.json.*expected a WordLevel.*TokenizerFile"):
        WordTokenizer(file=str(path), vocab_size=400).encode("a")
    with pytest.raises(
        ValueError, match="vocab_size is 270 but 300.*vocab_size=320|vocab_size is 270"
    ):
        BpeTokenizer(file=str(path), vocab_size=270).encode("a")
    path.write_text("<html>404</html>")
    with pytest.raises(ValueError, match="bpe.json.*not a tokenizer.json.*<html>"):
        BpeTokenizer(file=str(path), vocab_size=301).encode("a")
    with pytest.raises(FileNotFoundError, match="nowhere.json"):
        BpeTokenizer(file=str(tmp_path / "nowhere.json"), vocab_size=301).encode("a")


def test_a_file_that_changed_is_read_again(tmp_path):
    path = tmp_path / "t.json"
    for line in ("first words", "other words here"):
        WordTokenizer(corpus=Captions((line,)), vocab_size=16).save(path)
        assert WordTokenizer(file=str(path), vocab_size=16).encode(line).count(UNK) == 0


def test_equal_descriptions_are_built_once(monkeypatch):
    first = WordTokenizer(corpus=Captions(("built once",)), vocab_size=8)
    first.encode("once")
    monkeypatch.setattr(WordTokenizer, "_build", lambda self: pytest.fail("built again"))
    assert WordTokenizer(corpus=Captions(("built once",)), vocab_size=8).encode("once") == [5]


def test_a_pickled_or_copied_tokenizer_needs_no_corpus_again(monkeypatch):
    tokenizer = WordTokenizer(corpus=Captions(("for workers",)), vocab_size=8)
    tokenizer.encode("for")
    monkeypatch.setattr(WordTokenizer, "_build", lambda self: pytest.fail("built again"))
    monkeypatch.setattr(tokenizers, "_CACHE", {})  # another process
    for again in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
        assert again == tokenizer and hash(again) == hash(tokenizer)
        assert again.encode("workers") == [5]


def test_the_description_goes_through_json_before_and_after_use():
    tokenizer = BpeTokenizer(file="runs/tokenizer.json", vocab_size=512)
    assert config.from_json(config.to_json(tokenizer)) == tokenizer
    assert set(config.to_json(tokenizer)) == {"$type", "corpus", "vocab_size", "texts", "file"}


def test_wrong_descriptions_are_refused():
    with pytest.raises(ValueError, match="corpus"):
        WordTokenizer(vocab_size=100)
    with pytest.raises(ValueError, match="259.*260"):
        BpeTokenizer(corpus=Captions(LINES), vocab_size=259)
    with pytest.raises(ValueError, match="'questions'.*captions"):
        WordTokenizer(corpus=Captions(LINES), vocab_size=100, texts="questions").encode("a")
    with pytest.raises(TypeError, match="str, given bytes"):
        WORDS.encode(b"a dog")


def test_round_up():
    assert [round_up(n, 64) for n in (0, 1, 64, 65, 2543)] == [0, 64, 64, 128, 2560]
    with pytest.raises(ValueError):
        round_up(3, 0)


# ---- files of others


def published(tmp_path, added, vocabulary, *, unk="[UNK]", kind="WordLevel"):
    """A tokenizer.json as others write it: whitespace words, a template that adds [CLS] and [SEP], truncation."""
    content = {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [
            {"id": vocabulary[token], "content": token, "special": special, "single_word": False,
             "lstrip": False, "rstrip": False, "normalized": False}
            for token, special in added
        ],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": kind, "vocab": vocabulary, "unk_token": unk},
    }  # fmt: skip
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    return str(path)


VOCABULARY = {
    "dog": 0,
    "[PAD]": 1,
    "runs": 2,
    "[CLS]": 3,
    "[SEP]": 4,
    "[UNK]": 5,
    "[MASK]": 9,
    "cat": 7,
}
ADDED = [("[PAD]", True), ("[CLS]", True), ("[SEP]", True), ("[UNK]", True), ("[MASK]", True)]


def test_a_published_file_has_its_specials_moved_to_our_rows(tmp_path):
    tokenizer = TokenizerFile(file=published(tmp_path, ADDED, VOCABULARY), vocab_size=64)
    assert tokenizer.rows_in_file() == (1, 3, 4, 5, 0, 2, 7, 9)
    assert tokenizer.num_tokens == 8
    assert tokenizer.encode("Dog runs cat zebra dog") == [
        4,
        5,
        6,
        UNK,
        4,
    ]  # no template, not truncated
    assert tokenizer.decode([BOS, 4, 5, UNK, 7, EOS, 6]) == "dog runs"


def test_special_spellings_in_a_text_stay_text_with_a_published_file(tmp_path):
    # "[SEP]" as a non-special added token, and "[CLS]" as a plain entry of the vocabulary
    added = [("[PAD]", True), ("[SEP]", False)]
    vocabulary = {**VOCABULARY, "[cls]": 3}
    vocabulary.pop("[CLS]")
    file = published(tmp_path, added, vocabulary)
    tokenizer = TokenizerFile(file=file, vocab_size=64, bos_token="[cls]")
    ids = tokenizer.encode("[PAD] [CLS] [SEP] dog[SEP]runs [UNK]")
    assert not {PAD, BOS, EOS} & set(ids)
    assert ids.count(4) == ids.count(5) == 1


def test_a_token_that_is_marked_as_special_comes_before_one_of_the_usual_spelling(tmp_path):
    # Gemma's: <s> and </s> are tags of web pages there
    vocabulary = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<s>": 4, "</s>": 5, "dog": 6}
    tags = ("<s>", "</s>")
    added = [(name, name not in tags) for name in vocabulary if name != "dog"]
    file = published(tmp_path, added, vocabulary, unk="<unk>")
    tokenizer = TokenizerFile(file=file, vocab_size=64)
    assert tokenizer.rows_in_file()[:4] == (0, 2, 1, 3)
    assert tokenizer.special_in_file() == {0, 1, 2, 3}
    assert tokenizer.encode_special("<bos> dog") == [BOS, 6] and BOS not in tokenizer.encode(
        "<bos>"
    )


def test_an_unknown_token_that_is_another_s_as_well_gets_a_row_of_its_own(tmp_path):
    # CLIP's: what is unknown is the end of a text
    vocabulary = {"dog": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}
    file = published(tmp_path, [("<|endoftext|>", True)], vocabulary, unk="<|endoftext|>")
    assert TokenizerFile(file=file, vocab_size=64).rows_in_file() == (None, 1, 2, None, 0)


def test_a_file_without_specials_gets_rows_of_its_own(tmp_path):
    file = published(tmp_path, [], {"dog": 0, "<|endoftext|>": 1, "cat": 2}, unk="cat")
    tokenizer = TokenizerFile(file=file, vocab_size=64, unk_token="cat")
    assert tokenizer.rows_in_file() == (None, None, 1, 2, 0)
    assert tokenizer.encode("dog zebra") == [4, UNK]


def test_a_file_that_needs_more_rows_than_declared_is_refused_with_both_numbers(tmp_path):
    file = published(tmp_path, ADDED, VOCABULARY)
    with pytest.raises(ValueError, match="vocab_size is 7 but 8 rows"):
        TokenizerFile(file=file, vocab_size=7).encode("dog")
    with pytest.raises(ValueError, match=r"no token '\[PED\]'.*\[PAD\]"):
        TokenizerFile(file=file, vocab_size=64, pad_token="[PED]").encode("dog")
    with pytest.raises(ValueError, match="two roles"):
        TokenizerFile(file=file, vocab_size=64, pad_token="[SEP]").encode("dog")


def test_a_published_file_is_saved_as_it_was(tmp_path):
    tokenizer = TokenizerFile(file=published(tmp_path, ADDED, VOCABULARY), vocab_size=64)
    tokenizer.save(tmp_path / "copy.json")
    again = TokenizerFile(file=str(tmp_path / "copy.json"), vocab_size=64)
    assert again.encode("dog zebra") == tokenizer.encode("dog zebra")
    assert again.rows_in_file() == tokenizer.rows_in_file()


def test_the_gpt2_vocabulary_gives_its_published_ids(tmp_path):
    if "VLM_JAX_DATA" not in os.environ:
        pytest.skip("VLM_JAX_DATA is unset: the GPT-2 vocabulary is not at hand")
    folder = Path(os.environ["VLM_JAX_DATA"]) / "tokenizers"
    encoder = next(folder.rglob("encoder.json"))
    lines = encoder.with_name("vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    rust = Tokenizer(
        models.BPE(
            vocab=json.loads(encoder.read_text(encoding="utf-8")),
            merges=[tuple(line.split(" ")) for line in lines if line],
        )
    )
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    rust.add_special_tokens(["<|endoftext|>"])
    rust.save(str(tmp_path / "gpt2.json"))
    tokenizer = TokenizerFile(file=str(tmp_path / "gpt2.json"), vocab_size=round_up(50_260, 128))
    # only <|endoftext|> (50256) moved: PAD, BOS and UNK are new rows, and the others follow after them
    assert tokenizer.num_tokens == 50_260
    assert [row - 4 for row in tokenizer.encode("Hello world")] == [15496, 995]
    for text in ("a \U0001f469\u200d\U0001f467 <|endoftext|> x", "naïve\n\ttabs"):
        ids = tokenizer.encode(text)
        assert min(ids) >= 4
        assert tokenizer.decode(ids) == text


def test_words_between_spaces_stay_as_they_are_written(tmp_path):
    text = "mr. <unk> 's $ N n't \u2019 t-shirt ,"
    corpus = Rows(names=("text",), rows=((text,),))
    tokenizer = WordTokenizer(
        corpus=corpus, vocab_size=16, texts="text", spaces=True, lowercase=False
    )
    assert tokenizer.decode(tokenizer.encode(text)) == text == " ".join(tokenizer.words(text))
    assert tokenizer.encode("mr. n") == [tokenizer.encode("mr.")[0], UNK]
    assert tokenizer.encode("⟨pad⟩ \t⟨eos⟩") == [UNK, UNK], "no text becomes a special token"
    tokenizer.save(tmp_path / "t.json")
    again = dataclasses.replace(tokenizer, corpus=None, file=str(tmp_path / "t.json"))
    assert again.encode(text) == tokenizer.encode(text)


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
def test_pieces_of_a_prompt_are_cut_as_the_whole_text_is(tmp_path, scheme):
    """Llama's tokenizers set a mark before the first word of a text, of which the words behind a picture are none."""
    words = ["<unk>", "<s>", "</s>", "<pad>", "<image>", "▁why", "why", "▁is", "is", "▁"]
    rust = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    rust.pre_tokenizer = Metaspace(prepend_scheme=scheme)
    rust.add_special_tokens(words[:5])
    rust.save(str(tmp_path / "tokenizer.json"))
    tokenizer = TokenizerFile(file=str(tmp_path / "tokenizer.json"), vocab_size=16)
    rows = tokenizer.rows_in_file()
    text = "is <image>why is"
    image = {"image_token": rows.index(4), "num_images": 1}
    prompt = Prompt(tokenizer=tokenizer, template=text, length=12, **image)
    whole = rust.encode(text, add_special_tokens=False).ids
    assert [rows[row] for row in prompt.ids({"id": 0})] == [1, *whole]
    assert (words.index("▁why") in whole) == (scheme == "always")
