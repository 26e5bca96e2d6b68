"""Tagging and parsing."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from tests.invariants import (
    syntax_checks,
)
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.data import (
    word_transforms,
)
from vlm_jax.decoding import spanning_tree
from vlm_jax.language.word_characters import CharacterCnn
from vlm_jax.layers.biaffine import DeepBiaffine
from vlm_jax.metrics import attachment
from vlm_jax.models import tagger
from vlm_jax.tasks import parsing, tagging
from vlm_jax.text import lexicon
from vlm_jax.types import PAD

TREE = (spanning_tree, "spanning_tree")


@bug("each word takes its best head: cycles", "trees", (spanning_tree, "_is_tree"))
def _(real):
    return lambda heads: True


@bug("as many roots as pay", "trees", (spanning_tree, "_finite"))
def _(real):
    def finite(scores):
        made = real(scores)
        made[1:, 0] = np.where(np.isfinite(scores[:, 0]), scores[:, 0], -1e6)
        made[1:, 1:] = np.where(np.isfinite(scores[:, 1:]), scores[:, 1:], -1e6)
        return made

    return finite


@bug("two roots pass for a tree", "trees", (spanning_tree, "_is_tree"))
def _(real):
    return lambda heads: spanning_tree._cycle(np.concatenate([[0], heads])) is None


@bug("entering a cycle costs nothing", "trees", (spanning_tree, "_ways_in"))
def _(real):
    return lambda scores, cycle, rest, heads: scores[np.ix_(cycle, rest)]


@bug("the root is the best first word's", "trees", TREE)
def _(real):
    def tree(scores):
        scores = np.array(scores, float)
        if len(scores) > 1:
            scores[np.arange(len(scores)) != scores[:, 0].argmax(), 0] = -np.inf
        return real(scores)

    return tree


@bug("heads are shifted by one", "words", (tagger.Parser, "_arcs"))
def _(real):
    return lambda self, features, train: jnp.roll(real(self, features, train), 1, axis=-1)


@bug("padding is a head", "words", (tagger, "NEVER"))
def _(real):
    return 0.0


@bug("the root stands last among the heads", "words", (DeepBiaffine, "_sides"))
def _(real):
    def sides(self, x, train):
        dependents, heads = real(self, x, train)
        return dependents, jnp.roll(heads, -1, axis=1)

    return sides


@bug("dependent and head change places", "words", (DeepBiaffine, "_sides"))
def _(real):
    def sides(self, x, train):
        dependents, heads = real(self, x, train)
        return heads[:, 1:], jnp.concatenate([heads[:, :1], dependents], axis=1)

    return sides


@bug("the relation is that to the root", "words", (DeepBiaffine, "at"))
def _(real):
    return lambda self, x, heads, *, train: real(self, x, 0 * heads, train=train)


@bug("the relation is read at the wrong head", "words", (parsing.Parsing, "examples"))
def _(real):
    return lambda self, predictions, batch: real(
        self, predictions.replace(relations=np.roll(predictions.relations, 1, axis=-1)), batch
    )


@bug("padding is taught", "words", (tagging, "labelled"), (parsing, "labelled"))
def _(*reals):
    def all_of(batch, key="label"):
        return jnp.ones_like(batch["text"], bool) & batch["valid"][:, None]

    return all_of, all_of


@bug("rows that are not valid are taught", "words", (tagging, "labelled"), (parsing, "labelled"))
def _(*reals):
    def all_rows(batch, key="label"):
        return (batch[key] >= 0) & (batch["text"] != PAD)

    return all_rows, all_rows


@bug("padding is scored", "words", (tagging.Tagging, "score"))
def _(real):
    def score(self, predictions, batch, references):
        longest = batch["text"].shape[1]
        more = {
            i: {**gold, "upos": gold["upos"] + (self.names[0],) * (longest - len(gold["upos"]))}
            for i, gold in references.items()
        }
        return real(self, predictions, {**batch, "text": np.ones_like(batch["text"])}, more)

    return score


@bug("words left out are not counted", "words", (attachment.Attachment, "stats"))
def _(real):
    return lambda self, prediction, references: real(
        self, prediction, references[: len(prediction)]
    )


@bug("subtypes count", "words", (attachment, "universal"))
def _(real):
    return lambda relation: relation


@bug("LAS leaves the heads out", "words", (attachment.Attachment, "stats"))
def _(real):
    def stats(self, prediction, references):
        found = real(self, prediction, references)
        named = [
            real(self, [(0, p)], [(0, g)]).labelled
            for (_, p), (_, g) in zip(prediction, references)
        ]
        return dataclasses.replace(found, labelled=sum(named))

    return stats


@bug("any relation may be the root's", "words", (jnp, "where"))
def _(real):
    def where(condition, x=None, y=None, **options):
        infinite = isinstance(y, float) and y == -np.inf and jnp.ndim(x) == 4
        if infinite and condition.ndim == 2:
            return x
        return real(condition, x, y, **options)

    return where


@bug("rare words have rows", "words", (lexicon, "_count"))
def _(real):
    return lambda given: real(dataclasses.replace(given, min_count=1))


@bug("a word of the test takes a row", "words", (lexicon.Lexicon, "row"))
def _(real):
    def row(self, word):
        found = real(self, word)
        return found if found != 3 else 4 + len(word) % (self.num_tokens - 4)

    return row


@bug("the letters are those of the word before", "words", (word_transforms, "letters"))
def _(real):
    before = ["x"]

    def letters(word, max_letters):
        before.append(word)
        return real(before[-2], max_letters)

    return letters


@bug("the letters are not read", "words", (CharacterCnn, "__call__"))
def _(real):
    return lambda self, characters: real(self, jnp.ones_like(characters))


ROOMS = {
    "trees": Room(syntax_checks.TREE_CHECKS),
    "words": Room(syntax_checks.CHECKS, syntax_checks.Words),
}
