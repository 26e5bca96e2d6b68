"""CoNLL-U, the format of Universal Dependencies (https://universaldependencies.org/format.html): a word a line, ten columns.

    1   The   _  DET   DT   _  2  det    _  _
    2   dog   _  NOUN  NN   _  3  nsubj  _  _
    3   runs  _  VERB  VBZ  _  0  root   _  _

Only lines with a whole number are words. Multiword tokens ("1-2 don't") are how the words were written together, empty
nodes ("8.1") belong to the enhanced graph; both are read over, as the evaluation of the CoNLL 2018 shared task does.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

COLUMNS = 10

UPOS = (  # the universal parts of speech
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
RELATIONS = (  # the universal relations of UD v2; a treebank adds subtypes, "nsubj:pass"
    *("acl", "advcl", "advmod", "amod", "appos", "aux", "case", "cc", "ccomp", "clf", "compound"),
    *("conj", "cop", "csubj", "dep", "det", "discourse", "dislocated", "expl", "fixed", "flat"),
    *("goeswith", "iobj", "list", "mark", "nmod", "nsubj", "nummod", "obj", "obl", "orphan"),
    *("parataxis", "punct", "reparandum", "root", "vocative", "xcomp"),
)


class Sentence(NamedTuple):
    """A value for each word. `heads` number the words from 1; 0 is the root, which has exactly one word."""

    words: tuple[str, ...]
    upos: tuple[str, ...]
    xpos: tuple[str, ...]
    heads: tuple[int, ...]
    relations: tuple[str, ...]


def read_conllu(lines: Iterable[str], name: str) -> Iterator[Sentence]:
    """The sentences of a file's lines. Raises ValueError with `name` and the line for what is no CoNLL-U or no tree."""
    rows, start, number = [], 1, 0
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r\n")
        where = f"{name}, line {number}"
        if not line:
            if rows:
                yield _sentence(rows, f"{name}, line {start}")
            rows, start = [], number + 1
        elif not line.startswith("#"):
            word = _word(line, len(rows) + 1, where)
            if word is not None:
                rows.append(word)
    if rows:
        raise ValueError(
            f"{name}, line {number}: the file ends within a sentence, expected an empty line after its last word; "
            "it may have been cut short"
        )


def write_conllu(
    words: Sequence[str],
    heads: Sequence[int],
    relations: Sequence[str],
    upos: Sequence[str] | None = None,
) -> str:
    """The lines of one sentence, without the empty one that ends it. What is not known is "_"."""
    lines = []
    tags = upos or ["_"] * len(words)
    rows = zip(words, tags, heads, relations, strict=True)
    for number, (word, tag, head, relation) in enumerate(rows, start=1):
        form = " ".join(word.split()) or "_"  # no tab and no end of a line within a column
        row = (number, form, "_", tag, "_", "_", head, relation, "_", "_")
        lines.append("\t".join(map(str, row)))
    return "\n".join(lines)


def universal(relation: str) -> str:
    """The relation without its subtype: "nsubj:pass" -> "nsubj"."""
    return relation.partition(":")[0]


def tree_fault(heads: Sequence[int]) -> str | None:
    """What keeps `heads` from being one tree with one word at the root; None where nothing does."""
    outside = [head for head in heads if not 0 <= head <= len(heads)]
    if outside:
        return f"head {outside[0]} is outside of the sentence of {len(heads)} words"
    roots = sum(head == 0 for head in heads)
    if heads and roots != 1:
        return f"{roots} words have the root as head, expected 1"
    above = {0}  # words whose way up is known to end at the root
    for word in range(1, len(heads) + 1):
        way = []
        while word not in above:
            if word in way:
                return f"word {word} is above itself: a cycle"
            way.append(word)
            word = heads[word - 1]
        above.update(way)
    return None


def _word(line: str, expected: int, where: str) -> tuple[str, str, str, int, str] | None:
    """(word, upos, xpos, head, relation); None for a multiword token or an empty node."""
    columns = line.split("\t")
    if len(columns) != COLUMNS:
        raise ValueError(
            f"{where}: given {len(columns)} columns in {line[:80]!r}, expected {COLUMNS} with tabs between"
        )
    number, word, _, upos, xpos, _, head, relation, _, _ = columns
    for mark in "-.":
        first, found, last = number.partition(mark)
        if found and _whole(first) and _whole(last):
            return None
    if number != str(expected):
        raise ValueError(f"{where}: given the number {number!r}, expected {expected}")
    if not word:
        raise ValueError(f"{where}: word {number} has no form")
    if not _whole(head):
        raise ValueError(f"{where}: given the head {head!r}, expected a whole number")
    return word, upos, xpos, int(head), relation


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _sentence(rows: list[tuple], where: str) -> Sentence:
    sentence = Sentence(*map(tuple, zip(*rows, strict=True)))
    fault = tree_fault(sentence.heads)
    if fault is not None:
        raise ValueError(
            f"{where}: the sentence {' '.join(sentence.words)[:60]!r} is no tree: {fault}"
        )
    return sentence
