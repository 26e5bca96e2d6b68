"""Text <-> integer ids, by words, by bytes, or as any tokenizer.json says.

Every tokenizer is a frozen description. Its rows are found on first use, from the captions of `corpus` or from
`file`, once in a process for equal descriptions. Rows 0..3 are PAD, BOS, EOS, UNK in all of them:

    row   0    1    2    3    4 ...          num_tokens ...   vocab_size
          PAD  BOS  EOS  UNK  words, pieces  unused rows      (declared, rounded up; the model's number too)

Data never becomes a special token: the special rows have no spelling that a text can contain, so a caption
that says "<eos>", "<pad>" or "[CLS]" is read as those characters. What a caption may be, and what becomes of it:

    caption                    WordTokenizer                     BpeTokenizer
    empty, whitespace          no ids                            no ids; the whitespace as it stands
    10,000 words, a 1 MB line  all ids (`Tokenize` truncates)    all ids
    emoji, ZWJ, NUL, symbols   dropped, they separate words      kept, byte by byte
    lone surrogate             U+FFFD, then dropped              U+FFFD (a pair of halves is joined first)
    right to left              logical order, as stored          the same
    NFC and NFD of one text    the same ids (NFC first)          the same ids (NFC first)
    unknown word               UNK                               cannot happen
"""

import collections
import dataclasses
import difflib
import functools
import json
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from vlm_jax.types import BOS, EOS, NUM_SPECIAL, PAD, UNK

# No word of WordTokenizer and no piece of byte-level BPE can contain these brackets.
SPECIAL_TOKENS = ("⟨pad⟩", "⟨bos⟩", "⟨eos⟩", "⟨unk⟩")
# A word: letters, marks and digits, with apostrophes and hyphens between them ("t-shirt", "dog's").
WORD = r"[\p{L}\p{M}\p{N}]+(?:['\-][\p{L}\p{M}\p{N}]+)*"
_NAMES = {  # how published files spell the four
    PAD: ("[PAD]", "<pad>", "<|pad|>", "<|padding|>", SPECIAL_TOKENS[PAD]),
    BOS: (
        "[BOS]",
        "<s>",
        "<bos>",
        "<|startoftext|>",
        "<|begin_of_text|>",
        "[CLS]",
        SPECIAL_TOKENS[BOS],
    ),
    EOS: (
        "[EOS]",
        "</s>",
        "<eos>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "[SEP]",
        SPECIAL_TOKENS[EOS],
    ),
    UNK: ("[UNK]", "<unk>", "<|unk|>", SPECIAL_TOKENS[UNK]),
}


class Tokenizer(Protocol):
    vocab_size: int

    @property
    def num_tokens(self) -> int: ...
    def encode(self, text: str) -> list[int]: ...
    def encode_behind(self, text: str) -> list[int]: ...
    def decode(self, ids: Iterable[int]) -> str: ...
    def save(self, path: str | os.PathLike) -> None: ...


def round_up(n: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `n`: round_up(2543, 64) == 2560."""
    if multiple < 1:
        raise ValueError(f"multiple is {multiple}, expected at least 1")
    return -(-n // multiple) * multiple


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Base:
    """What the tokenizers share: building once, the declared size, encoding and decoding."""

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without BOS and EOS."""
        return self._built().encode(_well_formed(text))

    def encode_behind(self, text: str) -> list[int]:
        """The ids of `text` where it stands behind something else: those of files that mark the beginning of a whole text
        (Metaspace with the prepend_scheme "first") are others."""
        return self._built().encode_behind(_well_formed(text))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` up to the first EOS. PAD, BOS, UNK and unused rows leave nothing behind."""
        kept = []
        for row in ids:
            row = int(row)
            if row == EOS:
                break
            if not 0 <= row < self.vocab_size:
                raise ValueError(f"id {row} is outside the declared vocab_size {self.vocab_size}")
            if NUM_SPECIAL <= row < self.num_tokens:
                kept.append(row)
        return self._built().decode(kept)

    def normalise(self, text: str) -> str:
        """The text that survives `decode(encode(text))` when every word of it has a row."""
        return self._built().normalise(_well_formed(text))

    @property
    def num_tokens(self) -> int:
        """The number of rows in use, specials among them; at most `vocab_size`."""
        return self._built().num_tokens

    def save(self, path: str | os.PathLike) -> None:
        """Writes a tokenizer.json, which `replace(tokenizer, file=str(path))` reads back without the corpus."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(self._built().json, encoding="utf-8")
        os.replace(part, path)

    @property
    def _source(self) -> "_Base":
        """What the rows follow from: those that have the same share them."""
        return self

    def _built(self) -> "_Rows":
        built = self.__dict__.get("_rows")
        if built is None:
            key = (self._source, None if self.file is None else _stamp(self.file))
            with _LOCK:
                try:
                    built = _CACHE.get(key)
                except TypeError as error:
                    raise TypeError(
                        f"{type(self).__name__}: its corpus must be hashable, like every part of an experiment "
                        f"(a frozen dataclass of plain values); given {type(self.corpus).__name__}: {error}"
                    ) from None
                if built is None:
                    built = _CACHE[key] = self._build()
            if built.num_tokens > self.vocab_size:
                raise ValueError(
                    f"{type(self).__name__}: vocab_size is {self.vocab_size} but {built.num_tokens} rows are "
                    f"needed; declare vocab_size={round_up(built.num_tokens, 64)} here and in the model"
                )
            object.__setattr__(self, "_rows", built)
        return built

    def __getstate__(self) -> dict[str, Any]:
        """The fields, and the rows when they are known: a worker process need not read the corpus again."""
        state = dict(self.__dict__)
        rows = state.pop("_rows", None)
        return {**state, "_json": rows.json if rows else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        text = state.pop("_json")
        self.__dict__.update(state)
        if text is not None:
            object.__setattr__(self, "_rows", self._read(text))

    def _read_file(self) -> "_Rows":
        path = Path(self.file)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{type(self).__name__}: no file {path}; `save(path)` of a built tokenizer writes one"
            ) from None
        try:
            return self._read(text)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordTokenizer(_Base):
    """Lower-cased words; everything that is not a word separates words and is dropped, punctuation too.

        "A dog's T-shirt, (red) ." -> a | dog's | t-shirt | red

    The captions that the papers train on are written this way, and the caption metrics drop punctuation as well.
    With `spaces` a word is whatever stands between spaces, for texts that are cut into words already:

        "mr. <unk> 's $ N" -> mr. | <unk> | 's | $ | N, with lowercase=False

    Rows: the words seen at least `min_count` times, the most frequent `vocab_size - 4` of them, by falling count
    and then by alphabet, so that ties fall the same way everywhere. Other words are UNK. With fewer words the
    last rows stay unused.

    corpus: any hashable object with `references`, a mapping id -> {texts: (text, ...)}. Several kinds of `texts`, such as
    ("en", "de"), share the rows.
    file: what `save` wrote; the corpus is then not looked at.
    """

    corpus: Any = None
    vocab_size: int
    min_count: int = 1
    lowercase: bool = True
    spaces: bool = False
    texts: str | tuple[str, ...] = "captions"
    file: str | None = None

    def __post_init__(self):
        _check(self)

    def words(self, text: str) -> list[str]:
        """`text` cut into words, known or not."""
        return self._built().words(_well_formed(text))

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The word of each row in use, the four special ones first."""
        rows = self._built().rust.get_vocab()
        return tuple(sorted(rows, key=rows.__getitem__))

    def _build(self) -> "_Rows":
        if self.file is not None:
            return self._read_file()
        from tokenizers import Tokenizer as Rust
        from tokenizers import models, normalizers, pre_tokenizers

        lower = (normalizers.Lowercase(),) if self.lowercase else ()
        straight = () if self.spaces else (normalizers.Replace("\u2019", "'"),)
        steps = (normalizers.NFC(), *lower, *straight, normalizers.NFC())
        cutter = Rust(models.WordLevel({}, unk_token=SPECIAL_TOKENS[UNK]))
        cutter.normalizer = normalizers.Sequence(list(steps))
        cutter.pre_tokenizer = pre_tokenizers.WhitespaceSplit() if self.spaces else _word_splitter()
        cut = _WordRows(cutter)
        counts = collections.Counter()
        for text in _texts(self):
            counts.update(cut.words(_well_formed(text)))
        frequent = [word for word, count in counts.items() if count >= self.min_count]
        frequent.sort(key=lambda word: (-counts[word], word))
        kept = frequent[: self.vocab_size - NUM_SPECIAL]
        vocabulary = {word: row for row, word in enumerate((*SPECIAL_TOKENS, *kept))}
        cutter.model = models.WordLevel(vocabulary, unk_token=SPECIAL_TOKENS[UNK])
        return _WordRows(cutter)

    def _read(self, text: str) -> "_Rows":
        return _WordRows(_own(text, "WordLevel"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class BpeTokenizer(_Base):
    """Byte-level byte-pair encoding (Radford et al. 2019): every text has ids, and decoding gives it back.

    `decode(encode(x)) == normalise(x)` for any str, where `normalise` is NFC with lone surrogates as U+FFFD. Pairs
    seen at least twice are merged until `vocab_size` rows are full; 260 rows (4 specials, 256 bytes) are the least.
    With `texts` ("en", "de") the pieces are those of both languages together (Sennrich et al. 2016, section 3.2).
    """

    corpus: Any = None
    vocab_size: int
    texts: str | tuple[str, ...] = "captions"
    file: str | None = None

    def __post_init__(self):
        _check(self)
        if self.vocab_size < NUM_SPECIAL + 256:
            raise ValueError(
                f"BpeTokenizer: vocab_size is {self.vocab_size} but {NUM_SPECIAL + 256} rows are needed "
                "for 4 special tokens and 256 bytes"
            )

    def _build(self) -> "_Rows":
        if self.file is not None:
            return self._read_file()
        from tokenizers import Tokenizer as Rust
        from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

        def bpe(model):
            rust = Rust(model)
            rust.normalizer = normalizers.NFC()
            rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
            rust.decoder = decoders.ByteLevel()
            return rust

        scratch = bpe(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=2,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        scratch.train_from_iterator((_well_formed(text) for text in _texts(self)), trainer)
        # Training registers the specials as strings to look for in the text. A fresh tokenizer has none.
        model = json.loads(scratch.to_str())["model"]
        merges = [tuple(pair) for pair in model["merges"]]
        return _Rows(bpe(models.BPE(vocab=model["vocab"], merges=merges)))

    def _read(self, text: str) -> "_Rows":
        return _Rows(_own(text, "BPE"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizerFile(_Base):
    """Any tokenizer.json, its padding, begin, end and unknown tokens moved to rows 0..3, the others following in order.

    The four are recognised by their usual spelling ("[PAD]", "<s>", "<|endoftext|>" ...), one that the file marks as special
    before one that it does not, or named here; one that the file lacks gets a row of its own, and so does an unknown token
    that is another's as well (CLIP). Other special tokens ("[MASK]") keep a row but never come out of a text: what
    looks like one in the data is cut like any other text, or is UNK. Post-processing templates, truncation and
    padding of the file are not applied.
    """

    file: str
    vocab_size: int
    pad_token: str | None = None
    bos_token: str | None = None
    eos_token: str | None = None
    unk_token: str | None = None

    def __post_init__(self):
        if self.vocab_size <= NUM_SPECIAL:
            raise ValueError(
                f"TokenizerFile: vocab_size is {self.vocab_size}, expected more than {NUM_SPECIAL}"
            )

    @property
    def _source(self) -> "TokenizerFile":
        return dataclasses.replace(self, vocab_size=NUM_SPECIAL + 1)  # as many as the file has

    def rows_in_file(self) -> tuple[int | None, ...]:
        """For each of our rows the id in the file (None where the file has none): to gather published embeddings."""
        return tuple(self._built().file_ids)

    def special_in_file(self) -> frozenset[int]:
        """The ids of the tokens that the file marks as special."""
        return self._built().special_ids

    def encode_special(self, text: str) -> list[int]:
        """The ids of `text`, in which what is spelled like a special token is that token: of templates, never of data."""
        return self._built().encode_special(text)

    def _build(self) -> "_Rows":
        return self._read_file()

    def _read(self, text: str) -> "_Rows":
        named = {PAD: self.pad_token, BOS: self.bos_token, EOS: self.eos_token, UNK: self.unk_token}
        return _FileRows(_parsed(text), text, named)


# ---- what is built: the Rust tokenizer and its rows


class _Rows:
    """Rows numbered as ours in the Rust tokenizer itself."""

    def __init__(self, rust):
        self.rust = rust
        self.json = rust.to_str()
        self.num_tokens = rust.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return self.rust.encode(text, add_special_tokens=False).ids

    def encode_behind(self, text: str) -> list[int]:
        return self.encode(text)

    def decode(self, rows: Sequence[int]) -> str:
        return self.rust.decode(list(rows), skip_special_tokens=False)

    def normalise(self, text: str) -> str:
        return self.rust.normalizer.normalize_str(text) if self.rust.normalizer else text


class _WordRows(_Rows):
    def encode(self, text: str) -> list[int]:
        return super().encode(_without_brackets(text))

    def words(self, text: str) -> list[str]:
        cleaned = self.rust.normalizer.normalize_str(_without_brackets(text))
        return [word for word, _ in self.rust.pre_tokenizer.pre_tokenize_str(cleaned)]

    def normalise(self, text: str) -> str:
        return " ".join(self.words(text))


class _FileRows(_Rows):
    """Rows of a published file, renumbered."""

    def __init__(self, rust, text: str, named: Mapping[int, str | None]):
        self.rust, self.json = _untouched(rust), text
        vocabulary = rust.get_vocab(with_added_tokens=True)
        added = rust.get_added_tokens_decoder()
        self.special_ids = frozenset(i for i, token in added.items() if token.special)
        roles: dict[int, int | None] = {}
        for role in sorted(named):
            i = _special(role, named[role], vocabulary, self.special_ids, text)
            gives_way = role == UNK and named[role] is None and i in roles.values()
            roles[role] = None if gives_way else i
        specials = list(roles.values())
        found = [row for row in specials if row is not None]
        if len(set(found)) != len(found):
            raise ValueError(
                f"one token of the file has two roles: {dict(named)}; PAD, BOS, EOS, UNK must differ"
            )
        rest = sorted(set(vocabulary.values()) - set(found))
        self.file_ids = [*specials, *rest]
        self.num_tokens = len(self.file_ids)
        self._row = {
            file_id: row for row, file_id in enumerate(self.file_ids) if file_id is not None
        }
        self._special_row = dict(self._row)
        for file_id in (*found, *self.special_ids):
            self._row[file_id] = UNK

    def encode(self, text: str) -> list[int]:
        return [self._row[file_id] for file_id in super().encode(text)]

    def encode_behind(self, text: str) -> list[int]:
        ids = self._behind.encode(text, add_special_tokens=False).ids
        return [self._row[file_id] for file_id in ids]

    @functools.cached_property
    def _behind(self):
        """The same without the mark that only the beginning of a whole text has."""
        text, number = re.subn(r'("prepend_scheme"\s*:\s*)"first"', r'\1"never"', self.json)
        if not number:
            return self.rust
        return _untouched(_parsed(text))

    def encode_special(self, text: str) -> list[int]:
        ids = self._with_special.encode(text, add_special_tokens=False).ids
        return [self._special_row[file_id] for file_id in ids]

    @functools.cached_property
    def _with_special(self):
        return _untouched(_parsed(self.json), special=True)

    def decode(self, rows: Sequence[int]) -> str:
        return self.rust.decode([self.file_ids[row] for row in rows], skip_special_tokens=True)


def _untouched(rust, *, special: bool = False):
    """The tokenizer, that neither cuts nor fills; "<eos>" in a text is text, but where `special` tokens are to be read."""
    rust.no_truncation()
    rust.no_padding()
    rust.encode_special_tokens = not special
    return rust


_CACHE: dict[Any, _Rows] = {}  # a memo of pure values, keyed by the frozen description
_LOCK = threading.RLock()


def _check(tokenizer) -> None:
    name = type(tokenizer).__name__
    if tokenizer.corpus is None and tokenizer.file is None:
        raise ValueError(
            f"{name}: give a corpus (a Source with references) to build from, or the file to read"
        )
    if tokenizer.vocab_size <= NUM_SPECIAL:
        raise ValueError(
            f"{name}: vocab_size is {tokenizer.vocab_size}, expected more than {NUM_SPECIAL}"
        )


def _texts(tokenizer) -> Iterator[str]:
    """Every text of the corpus, in the order of its ids."""
    references, count = tokenizer.corpus.references, 0
    kinds = (tokenizer.texts,) if isinstance(tokenizer.texts, str) else tokenizer.texts
    for key in sorted(references):
        for text in (text for kind in kinds for text in references[key].get(kind, ())):
            count += 1
            yield text
    if count == 0:
        kinds = sorted({kind for texts in references.values() for kind in texts})
        raise ValueError(
            f"{type(tokenizer).__name__}: the corpus has no {tokenizer.texts!r}; its references have {kinds}"
        )


def _well_formed(text: str) -> str:
    """`text` with surrogate halves joined where they are a pair, and U+FFFD where they are alone."""
    if not isinstance(text, str):
        raise TypeError(f"expected a str, given {type(text).__name__}; decode bytes first")
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _without_brackets(text: str) -> str:
    """No word contains the brackets of the special tokens: they separate words."""
    return text.replace("⟨", " ").replace("⟩", " ")


def _word_splitter():
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Split(Regex(WORD), "removed", invert=True)


def _parsed(text: str):
    from tokenizers import Tokenizer as Rust

    try:
        return Rust.from_str(text)
    except Exception as error:  # the Rust binding raises bare Exception
        raise ValueError(
            f"not a tokenizer.json ({error}); the first characters are {text[:60]!r}"
        ) from None


def _own(text: str, model: str):
    """The Rust tokenizer of a file that `save` wrote."""
    rust = _parsed(text)
    kind = json.loads(text)["model"].get("type")
    names = tuple(rust.id_to_token(row) for row in range(NUM_SPECIAL))
    if kind != model or names != SPECIAL_TOKENS:
        raise ValueError(
            f"expected a {model} file with {SPECIAL_TOKENS} in rows 0..3, found {kind} with {names}; "
            "read other files with TokenizerFile(file=..., vocab_size=...)"
        )
    return rust


def _special(
    role: int, name: str | None, vocabulary: Mapping[str, int], special: frozenset[int], text: str
) -> int | None:
    """The file's id of PAD, BOS, EOS or UNK; None where it has none."""
    if name is not None:
        if name not in vocabulary:
            near = difflib.get_close_matches(name, vocabulary, n=3)
            raise ValueError(
                f"the file has no token {name!r}" + (f"; nearest: {near}" if near else "")
            )
        return vocabulary[name]
    candidates = _NAMES[role]
    if role == UNK:
        model = json.loads(text)["model"]
        unknown = model.get("unk_token")
        if unknown is None and isinstance(model.get("unk_id"), int):  # Unigram
            return model["unk_id"]
        candidates = (unknown, *candidates)
    found = [vocabulary[candidate] for candidate in candidates if candidate in vocabulary]
    return next((i for i in found if i in special), found[0] if found else None)


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        status = os.stat(file)
        return status.st_mtime_ns, status.st_size
    except OSError:
        return None
