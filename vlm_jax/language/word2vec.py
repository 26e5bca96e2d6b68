"""Word2Vec with negative sampling: skip-gram and CBOW (Mikolov et al. 2013, arXiv 1301.3781 and 1310.4546)."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vlm_jax.language.embeddings import Embedding
from vlm_jax.types import Batch


class Pairs(NamedTuple):
    """Scores of n pairs for each of the words of a row, and what they are: `positive` pairs were seen in the text,
    `negative` ones were not; the two weights say how often each pair counts, and are zero for what is no pair."""

    scores: Array  # Float[b m n]
    positive: Array  # Float[b m n]
    negative: Array  # Float[b m n], for one negative a positive pair


class TwoTables(nn.Module, kw_only=True):
    """A vector for each word, and an output vector that it is scored by."""

    vocab_size: int
    width: int

    def setup(self):
        # As in the authors' code: uniform in (-0.5, 0.5) / width, here normal with that deviation; and zero.
        stddev = 12**-0.5 / self.width
        self.embedding = Embedding(vocab_size=self.vocab_size, width=self.width, stddev=stddev)
        self.output = Embedding(vocab_size=self.vocab_size, width=self.width, stddev=0.0)

    def vectors(self) -> Float[Array, "v d"]:
        return self.embedding.table


class SkipGram(TwoTables, kw_only=True):
    """A word's vector is scored against the output vectors of the words around it.

    Reads the rows of data.word_windows.WordWindows. All m words of a row share its s negatives, so that the scores of
    a row are one product of matrices [m d] [d m+2w+s] (as Ji et al. 2016, arXiv 1604.04661, share them in a window):
    a negative that is drawn stands for each of the pairs of a word, but not where it is that pair's context.
    """

    def __call__(self, batch: Batch, *, train: bool) -> Pairs:
        text, negatives = batch["text"], batch["negatives"]
        around, reach = contexts(batch)
        rows = self.output(jnp.concatenate([text, negatives], axis=1))
        scores = jnp.einsum("bmd,bnd->bmn", self.embedding(text[:, reach:-reach]), rows)
        same = (text[:, :, None] == negatives[:, None, :]).astype(jnp.float32)
        meant = around.sum(-1, keepdims=True) - around @ same  # [b m s]
        nothing = jnp.zeros_like
        return Pairs(
            scores=scores,
            positive=jnp.concatenate([around, nothing(meant)], axis=-1),
            negative=jnp.concatenate([nothing(around), meant / negatives.shape[1]], axis=-1),
        )


class Cbow(TwoTables, kw_only=True):
    """The mean of the vectors of the words around is scored against the output vector of the word.

    As in the authors' code, each of the words around gets the gradient of the mean whole, not a share of it.
    """

    def __call__(self, batch: Batch, *, train: bool) -> Pairs:
        text, negatives = batch["text"], batch["negatives"]
        around, reach = contexts(batch)
        words = text[:, reach:-reach]
        count = around.sum(-1, keepdims=True)
        total = around @ self.embedding(text)  # [b m d]
        mean = total + jax.lax.stop_gradient(total / jnp.maximum(count, 1.0) - total)
        own = (mean * self.output(words)).sum(-1, keepdims=True)
        drawn = jnp.einsum("bmd,bnd->bmn", mean, self.output(negatives))
        known = (count > 0).astype(jnp.float32)
        other = known * (words[:, :, None] != negatives[:, None, :])
        nothing = jnp.zeros_like
        return Pairs(
            scores=jnp.concatenate([own, drawn], axis=-1),
            positive=jnp.concatenate([known, nothing(other)], axis=-1),
            negative=jnp.concatenate([nothing(known), other / negatives.shape[1]], axis=-1),
        )


def contexts(batch: Batch) -> tuple[Float[Array, "b m n"], int]:
    """1 where word n of batch["text"] is a context of centre m, and the number of words before the first centre."""
    length, centers = batch["text"].shape[1], batch["left"].shape[1]
    reach = (length - centers) // 2
    away = jnp.arange(length)[None, :] - reach - jnp.arange(centers)[:, None]  # [m n]
    near = (away >= -batch["left"][..., None]) & (away <= batch["right"][..., None]) & (away != 0)
    return (near & batch["valid"][:, None, None]).astype(jnp.float32), reach
