"""Corpora to score, and the official scorer's own Python code to compare with."""

import csv
import functools
import importlib.util
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from vlm_jax.metrics.base import score
from vlm_jax.metrics.captioning import CaptionMetrics
from vlm_jax.text.normalize import ptb_tokenize

Corpus = tuple[dict[str, str], dict[str, list[str]]]  # predictions, references

DATA = os.environ.get("VLM_JAX_DATA")
OFFICIAL = importlib.util.find_spec("pycocoevalcap")
OFFICIAL_NAMES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")


def ours(corpus: Corpus) -> dict[str, float]:
    return score(CaptionMetrics(), *corpus)


def official(corpus: Corpus, tokenized: Mapping[str, str] | None = None) -> dict[str, float]:
    """What pycocoevalcap computes, times 100, from words that need no Java (or are given)."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    words = tokenized.__getitem__ if tokenized else lambda text: " ".join(ptb_tokenize(text))
    predictions = {i: [words(text)] for i, text in corpus[0].items()}
    references = {i: [words(text) for text in corpus[1][i]] for i in predictions}
    bleu, _ = Bleu(4).compute_score(references, predictions, verbose=0)
    rouge, _ = Rouge().compute_score(references, predictions)
    cider, _ = Cider().compute_score(references, predictions)
    return dict(zip(OFFICIAL_NAMES, (100 * float(x) for x in (*bleu, rouge, cider))))


def largest_difference(corpus: Corpus) -> dict[str, float]:
    mine, theirs = ours(corpus), official(corpus)
    return {name: abs(mine[name] - theirs[name]) for name in OFFICIAL_NAMES}


@functools.cache
def flickr8k() -> tuple[tuple[str, ...], ...]:
    """The captions of each picture."""
    images: dict[str, list[str]] = {}
    with open(Path(DATA, "flickr8k", "captions.txt"), encoding="utf-8", newline="") as file:
        for name, caption in list(csv.reader(file))[1:]:
            images.setdefault(name, []).append(caption)
    return tuple(map(tuple, images.values()))


def from_flickr8k(seed: int) -> Corpus:
    """2 to 20 images, mostly few, with captions more or less like the references."""
    draw = random.Random(seed)
    images = draw.sample(flickr8k(), 2 + int(19 * draw.random() ** 3))
    predictions, references = {}, {}
    for i, captions in enumerate(images):
        captions = list(captions)
        draw.shuffle(captions)
        kind = draw.random()
        if kind < 0.5:  # one left out
            prediction, captions = captions[0], captions[1:]
        elif kind < 0.7:  # of another picture
            prediction = draw.choice(draw.choice(flickr8k()))
        elif kind < 0.9:  # mixed up
            words = " ".join(captions[:2]).split()
            prediction = " ".join(draw.sample(words, draw.randint(0, min(14, len(words)))))
        else:  # stammered
            prediction = " ".join(draw.choices(captions[0].split(), k=draw.randint(1, 20)))
        predictions[str(i)] = prediction
        references[str(i)] = captions[: draw.randint(1, len(captions))]
    return predictions, references


def _corpus(*images: tuple[str, Sequence[str]]) -> Corpus:
    return (
        {str(i): prediction for i, (prediction, _) in enumerate(images)},
        {str(i): list(references) for i, (_, references) in enumerate(images)},
    )


DOG, CAT = ["a dog runs on grass", "the dog is running"], ["a cat sleeps", "one cat on a red mat"]
BY_HAND: dict[str, Corpus] = {
    "perfect": _corpus((DOG[0], DOG), (CAT[0], CAT)),
    "the only reference": _corpus((DOG[0], DOG[:1]), (CAT[1], CAT[1:])),
    "one image": _corpus((DOG[0], DOG)),
    "one image, wrong": _corpus(("red buses", DOG)),
    "an empty prediction": _corpus(("", DOG), (CAT[0], CAT)),
    "all predictions empty": _corpus(("", DOG), ("", CAT)),
    "a prediction of punctuation": _corpus((" . , !", DOG), (CAT[0], CAT)),
    "an empty reference": _corpus((DOG[0], ["", *DOG]), (CAT[0], CAT)),
    "only an empty reference": _corpus((DOG[0], [""]), (CAT[0], CAT)),
    "both empty": _corpus(("", [""]), (CAT[0], CAT)),
    "nothing in common": _corpus(("one two three", DOG), ("four five six", CAT)),
    "one word": _corpus(("dog", DOG), ("cat", CAT)),
    "one word, one reference": _corpus(("dog", ["dog"]), ("cat", ["cat"])),
    "two words": _corpus(("a dog", DOG), ("a cat", CAT)),
    "three words": _corpus(("a dog runs", DOG), ("a cat sleeps", CAT)),
    "stammering": _corpus(("dog dog dog dog dog", DOG), ("a a a a", CAT)),
    "stammering on both sides": _corpus(("a a a a", ["a a", "a a a b"]), ("b b", ["b b b b"])),
    "repeated references": _corpus((DOG[0], DOG * 3), (CAT[0], CAT * 2)),
    "the same references everywhere": _corpus((DOG[0], DOG), (DOG[1], DOG), ("a dog", DOG)),
    "many references": _corpus((DOG[0], DOG + CAT + DOG), (CAT[0], CAT)),
    "different numbers of references": _corpus((DOG[1], DOG[:1]), (CAT[0], CAT + DOG)),
    "closest lengths tie": _corpus(("a b c d e", ["a b c d", "a b c d e f"]), ("x y", ["x y z"])),
    "too short": _corpus(("a dog", ["a dog runs on the very green grass"]), ("a cat", CAT)),
    "too long": _corpus(("a dog runs " * 12, DOG), ("a cat sleeps " * 3, CAT)),
    "unicode": _corpus(("ein Hündchen läuft", ["ein Hündchen rennt"]), ("日本 語", ["日本 犬"])),
    "emoji and NUL": _corpus(("a 😀 dog\x00 runs", DOG), ("\x00", CAT)),
    "no-break spaces": _corpus(("3 1/2 dogs", ["3 1/2 dogs run", "dogs"]), ("a <br /> b", CAT)),
    "brackets and entities": _corpus(("a (big) dog &amp; cat", ["a (big) dog & cat"]), ("x", CAT)),
    "capitals and contractions": _corpus(
        ("The Dog can't run!", ["the dog ca n't run"]), ("A", CAT)
    ),
    "words in reverse": _corpus(("grass on runs dog a", DOG), ("sleeps cat a", CAT)),
}
