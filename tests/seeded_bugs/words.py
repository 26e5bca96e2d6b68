"""Word vectors and sentiment."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from tests.invariants import (
    classification_checks,
    word_checks,
)
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.data import (
    word_windows,
)
from vlm_jax.language import glove, word2vec
from vlm_jax.layers import pooling
from vlm_jax.metrics import accuracy, spearman
from vlm_jax.tasks import classification, word_vectors
from vlm_jax.text import word_vectors as word_files


@bug("the classes are in the other order", "classes", (classification.Classification, "examples"))
def _(real):
    def examples(self, predictions, batch):
        flipped = dataclasses.replace(self, classes=self.classes[::-1])
        return real(flipped, predictions, batch)

    return examples


@bug("padding in the maximum over time", "classes", (pooling, "max_pool"))
def _(real):
    return lambda features: features.values.max(axis=1)


@bug("zeros in the maximum over time", "classes", (pooling, "max_pool"))
def _(real):
    return lambda f: jnp.where(f.mask[..., None], f.values, 0).max(axis=1)


@bug("accuracy over padded rows", "classes", (classification.Classification, "score"))
def _(real):
    def score(self, predictions, batch, references):
        return real(self, predictions, {**batch, "valid": np.ones_like(batch["valid"])}, references)

    return score


@bug("the loss of padded rows", "classes", (classification.Classification, "loss"))
def _(real):
    def loss(self, model, variables, batch, **options):
        batch = {**batch, "valid": jnp.ones_like(batch["valid"])}
        return real(self, model, variables, batch, **options)

    return loss


@bug("accuracies of batches are averaged", "classes", (accuracy.Confusion, "__add__"))
def _(real):
    return lambda self, other: self


WINDOWS = (word_windows, "_epoch")
KEPT = (word_windows.WordWindows, "_kept")


def _of_stream(change):
    """An epoch's stream after `change(stream)`."""

    def make(real):
        return lambda windows, epoch: change(real.__wrapped__(windows, epoch))

    return make


bug("the window is never drawn smaller", "word vectors", WINDOWS)(
    _of_stream(
        lambda s: s._replace(left=np.where(s.left > 0, 3, 0), right=np.where(s.right > 0, 3, 0))
    )
)
bug("contexts on the left only", "word vectors", WINDOWS)(
    _of_stream(lambda s: s._replace(right=np.zeros_like(s.right)))
)
bug("the text is one word late", "word vectors", WINDOWS)(
    _of_stream(lambda s: s._replace(ids=np.roll(s.ids, 1)))
)


@bug("subsampling upside down", "word vectors", KEPT)
def _(real):
    return property(lambda self: 1.0 - 0.9 * real.func(self))


@bug("subsampling by the square root alone", "word vectors", KEPT)
def _(real):
    def kept(self):
        ratio = self.subsample * self._text.counts.sum() / np.maximum(self._text.counts, 1)
        return np.minimum(np.sqrt(ratio), 1.0)

    return property(kept)


@bug("negatives by the count itself", "word vectors", (word_windows, "Noise"))
def _(real):
    return lambda weights: real(np.asarray(weights) ** (4 / 3))


@bug("negatives that the text does not have", "word vectors", (word_windows, "Noise"))
def _(real):
    return lambda weights: real(np.ones(len(weights)))


def _of_pairs(model, change):
    """The model's Pairs after `change(pairs, batch)`."""

    def make(real):
        return lambda self, batch, *, train: change(real(self, batch, train=train), batch)

    return (model, "__call__"), make


for name, model, change in (
    ("contexts are negatives too", word2vec.SkipGram, lambda p, b: p._replace(
        negative=p.negative.at[..., b["text"].shape[1]:].set(
            p.positive.sum(-1, keepdims=True) / b["negatives"].shape[1]))),
    ("a negative counts once a word, not once a pair", word2vec.SkipGram, lambda p, b: p._replace(
        negative=jnp.where(p.negative > 0, 1 / b["negatives"].shape[1], 0.0))),
    ("the word itself is a negative", word2vec.Cbow, lambda p, b: p._replace(
        negative=p.negative.at[..., b["left"].shape[1]:].set(1 / b["negatives"].shape[1]))),
    ("negatives of a row count whole", word2vec.Cbow, lambda p, b: p._replace(
        negative=p.negative * b["negatives"].shape[1])),
):  # fmt: skip
    bug(name, "word vectors", (model, "__call__"))(_of_pairs(model, change)[1])


@bug("a word is its own context", "word vectors", (word2vec, "contexts"))
def _(real):
    def contexts(batch):
        around, reach = real(batch)
        return around.at[:, jnp.arange(around.shape[1]), reach + jnp.arange(around.shape[1])].set(
            1
        ), reach

    return contexts


@bug("rows that are not valid are contexts", "word vectors", (word2vec, "contexts"))
def _(real):
    return lambda batch: real({**batch, "valid": jnp.ones_like(batch["valid"])})


@bug("the sum of the contexts, not their mean", "word vectors", (word2vec.Cbow, "__call__"))
def _(real):
    def call(self, batch, *, train):
        pairs = real(self, batch, train=train)
        around, _ = word2vec.contexts(batch)
        return pairs._replace(scores=pairs.scores * around.sum(-1, keepdims=True))

    return call


@bug("a context gets its share of the gradient only", "word vectors", (jax.lax, "stop_gradient"))
def _(real):
    return lambda x: x


@bug("GloVe's weight without its power", "word vectors", (word_vectors.LogCounts, "loss"))
def _(real):
    return lambda self, *args, **options: real(
        dataclasses.replace(self, power=1.0), *args, **options
    )


@bug("GloVe's vectors without their contexts", "word vectors", (glove.GloVe, "vectors"))
def _(real):
    return lambda self: self.embedding.table[:, :-1]


@bug("a .bin of the other byte order", "word vectors", (word_files, "FLOAT"))
def _(real):
    return real.newbyteorder(">")


@bug("equal values have ranks of their own", "word vectors", (spearman, "ranks"))
def _(real):
    return lambda values: [float(r) for r in np.argsort(np.argsort(values, kind="stable")) + 1]


ROOMS = {
    "classes": Room(classification_checks.CHECKS),
    "word vectors": Room(word_checks.CHECKS, forget=word_checks.forget),
}
