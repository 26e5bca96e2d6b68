"""Step functions small enough to be checked by hand, with numpy forms of the same models."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.types import BOS, EOS

# The shapes are tiny and compilation is the cost: half of it without LLVM's optimisations.
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def log_softmax(x):
    x = np.asarray(x, np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


class Markov:
    """Logits that depend on the row, the last token and the one before it.

    The cache is the token before the last: a beam search that does not reorder it goes wrong.
    """

    def __init__(self, seed, batch_size=1, vocab_size=4, scale=2.0):
        rng = np.random.default_rng(seed)
        shape = (batch_size, vocab_size, vocab_size, vocab_size)
        self.table = rng.normal(size=shape).astype(np.float32) * scale
        self.batch_size, self.vocab_size = batch_size, vocab_size

    def cache(self):
        return {"previous": jnp.zeros(self.batch_size, jnp.int32)}

    def memory(self):
        return {"table": jnp.asarray(self.table)}

    @staticmethod
    def step(token, cache, memory):
        rows = jnp.arange(token.shape[0])
        return memory["table"][rows, cache["previous"], token], {"previous": token}

    def log_prob(self, row, tokens, length=None):
        """Of a list of tokens without BOS, in double precision; tokens after EOS do not count."""
        before, last, total = 0, BOS, 0.0
        for token in tokens[:length]:
            total += log_softmax(self.table[row, before, last])[token]
            before, last = last, token
            if token == EOS:
                break
        return total

    def sentences(self, max_length, banned=()):
        """All that end in EOS within max_length."""
        words = [w for w in range(self.vocab_size) if w != EOS and w not in banned]
        for n in range(max_length):
            for sentence in itertools.product(words, repeat=n):
                yield [*sentence, EOS]


class Recurrent:
    """A random tanh RNN conditioned on a vector a row: h' = tanh(E[w] + h U + m), logits = h' V."""

    def __init__(self, seed, batch_size, vocab_size=11, width=6, scale=1.5):
        rng = np.random.default_rng(seed)
        draw = lambda *shape: rng.normal(size=shape).astype(np.float32) * scale  # noqa: E731
        self.embed, self.recur = draw(vocab_size, width), draw(width, width) / width**0.5
        self.head, self.image = draw(width, vocab_size), draw(batch_size, width)
        self.batch_size, self.vocab_size, self.width = batch_size, vocab_size, width

    def cache(self):
        return {
            "hidden": jnp.zeros((self.batch_size, self.width)),
            "image": jnp.asarray(self.image),  # returned untouched: never reordered
            "position": jnp.zeros(self.batch_size, jnp.int32),
        }

    def memory(self):
        return None

    def step(self, token, cache, memory):
        embed = jnp.asarray(self.embed)
        hidden = jnp.tanh(embed[token] + cache["hidden"] @ self.recur + cache["image"])
        cache = {**cache, "hidden": hidden, "position": cache["position"] + 1}
        return hidden @ self.head, cache

    def log_prob(self, row, tokens, length=None):
        hidden, last, total = np.zeros(self.width), BOS, 0.0
        for token in tokens[:length]:
            hidden = np.tanh(self.embed[last] + hidden @ self.recur + self.image[row])
            total += log_softmax(hidden @ self.head)[token]
            last = token
            if token == EOS:
                break
        return total

    def row(self, i):
        """The same model for row i alone."""
        one = object.__new__(Recurrent)
        one.__dict__ = {**self.__dict__, "image": self.image[i : i + 1], "batch_size": 1}
        return one


def fixed_logits(logits, batch_size):
    """A step that gives the same logits whatever came before, and its cache."""
    logits = jnp.asarray(logits, jnp.float32)

    def step(token, cache, memory):
        return jnp.broadcast_to(logits, (token.shape[0], logits.shape[0])), cache

    return step, {"nothing": jnp.zeros(batch_size)}


def normalised(log_prob, tokens, alpha):
    return log_prob / len(tokens) ** alpha


def reference_search(model, row, strategy):
    """The same search as a person would write it down: lists, no batch, no early stop."""
    width, alpha = strategy.width, strategy.length_penalty
    live, ended = [(0.0, [])], []
    for _ in range(strategy.max_length):
        extensions = [
            (model.log_prob(row, [*tokens, word]), [*tokens, word])
            for _, tokens in live
            for word in range(model.vocab_size)
            if word not in strategy.banned
        ]
        best = sorted(extensions, reverse=True)[: 2 * width - 1]
        ended += [(normalised(p, t, alpha), t) for p, t in best[:width] if t[-1] == EOS]
        live = [(p, t) for p, t in best if t[-1] != EOS][:width]
    cut = [(normalised(p, t, alpha), t) for p, t in live]
    return sorted(ended, reverse=True) + sorted(cut, reverse=True)
