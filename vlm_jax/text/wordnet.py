"""The nouns of WordNet 3 (Fellbaum 1998) from its database files, and how alike two of them are."""

import collections
import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

INSTRUCTIONS = """\
WordNet is placed by hand: index.noun, data.noun and noun.exc of WordNet-3.0 (https://wordnet.princeton.edu, folder dict
of WNdb-3.0.tar.gz), in $VLM_JAX_DATA/wordnet, or as Debian's package wordnet-base puts them, in /usr/share/wordnet."""
DEBIAN = "/usr/share/wordnet"
# Endings of the plural and what stands in their place (morphy's rules for nouns).
_ENDINGS = (
    *(("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z")),
    *(("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y")),
)


def find_wordnet() -> str | None:
    """The folder with the files; None where there is none."""
    folders = [DEBIAN]
    if os.environ.get("VLM_JAX_DATA"):
        folders.insert(0, str(Path(os.environ["VLM_JAX_DATA"]) / "wordnet"))
    return next((folder for folder in folders if (Path(folder) / "data.noun").is_file()), None)


class Synset(NamedTuple):
    """One meaning: its first word, and the meanings above it, those that it is an instance of among them."""

    word: str
    above: tuple[int, ...]


class WordNet:
    """Meanings by number (the offset in data.noun), and the meanings of a word."""

    def __init__(self, folder: str | os.PathLike):
        self._senses = dict(_read_index(Path(folder) / "index.noun"))
        self._synsets = dict(_read_data(Path(folder) / "data.noun"))
        self._irregular = _read_exceptions(Path(folder) / "noun.exc")
        self.meanings = functools.cache(self._meanings)
        self.similarity = functools.cache(self._similarity)
        self._distances = functools.cache(self._find_distances)
        self._depths = functools.cache(self._find_depths)

    def _meanings(self, word: str) -> tuple[int, ...]:
        """Of a noun, in the singular or the plural; words of several are joined by "_"."""
        word, found = word.lower().replace(" ", "_"), {}
        for form in self._forms(word):
            found.update(dict.fromkeys(self._senses[form]))
        return tuple(found)

    def _forms(self, word: str) -> list[str]:
        if word in self._irregular:
            return [form for form in (word, *self._irregular[word]) if form in self._senses]
        forms = [word, *_singulars([word])]
        while forms:
            known = [form for form in dict.fromkeys(forms) if form in self._senses]
            if known:
                return known
            forms = _singulars(forms)
        return []

    def _similarity(self, one: int, other: int) -> float:
        """Of Wu and Palmer 1994: 2 d / (d_1 + d_2), depths of the lowest meaning above both and of the two by way of
        it, the root's being 1. The lowest is the one with the longest of shortest ways to the root; its depth, as in
        the program that the published numbers are from, is that of its longest way. 0 where nothing is above both.
        """
        here, there = self._distances(one), self._distances(other)
        both = here.keys() & there.keys()
        if not both:
            return 0.0
        deepest = max(self._depths(each)[0] for each in both)
        lowest = [each for each in both if self._depths(each)[0] == deepest]
        chosen = one if one in lowest else min(lowest, key=lambda each: self._synsets[each].word)
        depth = self._depths(chosen)[1] + 1
        return 2 * depth / (here[chosen] + there[chosen] + 2 * depth)

    def _find_distances(self, meaning: int) -> dict[int, int]:
        """Itself and all above it, with the fewest steps up to each."""
        found, queue = {meaning: 0}, collections.deque([meaning])
        while queue:
            here = queue.popleft()
            for above in self._synsets[here].above:
                if above not in found:
                    found[above] = found[here] + 1
                    queue.append(above)
        return found

    def _find_depths(self, meaning: int) -> tuple[int, int]:
        """Steps to the root, on the shortest and on the longest way."""
        above = [self._depths(each) for each in self._synsets[meaning].above]
        if not above:
            return 0, 0
        return 1 + min(short for short, _ in above), 1 + max(long for _, long in above)


def _singulars(words: Iterable[str]) -> list[str]:
    return [
        word[: len(word) - len(ending)] + new
        for word in words
        for ending, new in _ENDINGS
        if word.endswith(ending)
    ]


# ---- the files: see wndb(5WN). Lines that begin with a space are the licence.


def _lines(path: Path) -> Iterator[list[str]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.\n{INSTRUCTIONS}")
    with open(path, encoding="utf-8") as file:
        for line in file:
            if not line.startswith(" ") and line.strip():
                yield line.split()


def _read_index(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """`dog n 7 4 @ ~ #m %p 7 1 02084071 ...`: the last numbers are the meanings, as many as the third field says."""
    for fields in _lines(path):
        yield fields[0], tuple(int(offset) for offset in fields[len(fields) - int(fields[2]) :])


def _read_data(path: Path) -> Iterator[tuple[int, Synset]]:
    """`02084071 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 022 @ 02083346 n 0000 ... | gloss`"""
    for fields in _lines(path):
        words = int(fields[3], 16)
        start = 4 + 2 * words
        pointers = range(start + 1, start + 1 + 4 * int(fields[start]), 4)
        above = tuple(int(fields[p + 1]) for p in pointers if fields[p] in ("@", "@i"))
        yield int(fields[0]), Synset(fields[4].lower(), above)


def _read_exceptions(path: Path) -> dict[str, tuple[str, ...]]:
    return {fields[0]: tuple(fields[1:]) for fields in _lines(path)} if path.is_file() else {}
