"""What must hold of a decoder that copies, beside what holds of all (model_checks)."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests import model_zoo
from tests.decoding.toys import compiled
from vlm_jax.data.copying import ExtendedTarget, ExtendedText
from vlm_jax.data.source import Rows
from vlm_jax.language.copying import CopyingTransformer, PointerGenerator
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.types import BOS, EOS, PAD, UNK, Features

V, S = 13, 3
# Words of the first text come twice, one of them unknown; the second has padding within and at its end.
TEXT = np.array([[13, 5, 14, 5, 13], [14, PAD, 6, 7, PAD], [PAD, PAD, PAD, PAD, PAD]])
TARGET = np.array([[BOS, 13, 5, 14], [BOS, 6, EOS, PAD], [BOS, 5, 6, 7]])
B, N, L = 3, 5, 4


class Copying:
    """A decoder that copies, its variables, and its functions compiled once."""

    def __init__(self, decoder):
        self.decoder = decoder
        values = np.random.default_rng(0).normal(size=(B, N, 7))
        self.memory = Features(
            values=jnp.asarray(values, jnp.float32),
            mask=jnp.asarray(TEXT != PAD),
            tokens=jnp.asarray(TEXT),
        )
        shapes = jax.eval_shape(
            lambda: self.decoder.init(jax.random.key(0), TARGET, self.memory, train=False)
        )
        self.variables = model_zoo.filled(shapes)

    def __call__(self, memory=None, target=TARGET, variables=None):
        """Log probabilities [b l V+S] and what is sown, by name."""
        memory = self.memory if memory is None else memory
        logits, sown = self._run(variables or self.variables, jnp.asarray(target), memory)
        own = [
            pair for kind in sown.values() for pair in kind.items() if isinstance(pair[1], tuple)
        ]
        flat = {name: leaf[0] for name, leaf in own}
        return np.asarray(logits, np.float64), jax.device_get(flat)

    @functools.cached_property
    def _run(self):
        return compiled(
            lambda variables, target, memory: self.decoder.apply(
                variables, target, memory, train=False, mutable=["intermediates", "losses"]
            )
        )

    def step_by_step(self):
        """The same log probabilities, one token after another."""

        def run(variables, memory):
            def steps(decoder):
                cache, found = decoder.initial_cache(memory, B, L), []
                for t in range(L):
                    logits, cache = decoder.step(jnp.asarray(TARGET[:, t]), cache, memory)
                    found.append(logits)
                return jnp.stack(found, axis=1)

            return nn.apply(steps, self.decoder)(variables)

        return np.asarray(compiled(run)(self.variables, self.memory))

    def with_gate(self, bias):
        """Variables whose gate is sigmoid(bias) everywhere."""
        params = dict(self.variables["params"])
        for name in [name for name in params if name.startswith("gate_from")]:
            params[name] = jax.tree.map(jnp.zeros_like, params[name])
        params["gate_from_memory"] = {
            **params["gate_from_memory"],
            "bias": jnp.full_like(params["gate_from_memory"]["bias"], bias),
        }
        return {"params": params}


def pointer():
    """A pointer-generator with coverage."""
    return Copying(
        PointerGenerator(
            vocab_size=V,
            num_slots=S,
            width=6,
            embedding_width=5,
            attention_width=4,
            look_last=True,
            gated=False,
            deep_output=False,
            coverage_weight=2.0,
        )
    )


def transformer():
    return Copying(
        CopyingTransformer(
            vocab_size=V, num_slots=S, width=8, num_layers=1, num_heads=2, hidden=12, tied=False
        )
    )


def check_probabilities_sum_to_one(p):
    """Over the extended vocabulary, at every position, also where there is no text."""
    logits, _ = p()
    np.testing.assert_allclose(np.exp(logits).sum(-1), 1, rtol=1e-5)


def check_the_equations(p):
    """Eq. 1-4, 8-13, written out with loops."""
    logits, sown = p()
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), p.variables["params"])
    rnn, linear = params["rnn"], params["vocabulary"]["linear"]

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def softmax(x):
        return np.exp(x - x.max()) / np.exp(x - x.max()).sum()

    def dense(name, x):
        return x @ params[name]["kernel"] + params[name].get("bias", 0)

    for row in (0, 1):
        places = np.flatnonzero(TEXT[row])
        a = np.asarray(p.memory.values[row], np.float64)[places]
        h, c = (np.tanh(dense(f"initial_{j}", a.mean(0))) for j in (0, 1))
        seen, covered, cost = np.zeros(a.shape[1]), np.zeros(len(a)), 0.0
        for t in range(L):
            if TARGET[row, t] == PAD:
                continue
            read = TARGET[row, t] if TARGET[row, t] < V else UNK
            word = params["embedding"]["table"][read]
            gates = word @ rnn["kernel"] + seen @ rnn["memory_kernel"] + rnn["bias"]
            i, f, g, o = np.split(gates + h @ rnn["recurrent_kernel_0"], 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            hidden = dense("keys", a) + h @ rnn["query_kernel"]
            hidden = hidden + covered[:, None] * rnn["coverage_kernel"][0]
            weights = softmax(np.tanh(hidden) @ rnn["score"][:, 0])
            seen = weights @ a
            if TARGET[row, t] != EOS:  # what follows EOS is not written
                cost += 2.0 * np.minimum(weights, covered).sum()
            covered = covered + weights
            gate = dense("gate_from_memory", seen) + dense("gate_from_state", h)
            gate = sigmoid(gate + dense("gate_from_word", word))[0]
            expected = np.zeros(V + S)
            expected[:V] = gate * softmax(h @ linear["kernel"] + linear["bias"])
            for place, weight in zip(places, weights):
                expected[TEXT[row, place]] += (1 - gate) * weight
            np.testing.assert_allclose(np.exp(logits[row, t]), expected, rtol=1e-4, atol=1e-7)
            np.testing.assert_allclose(sown["generating"][row, t], gate, rtol=1e-4)
            np.testing.assert_allclose(sown["attention"][row, t, places], weights, rtol=1e-4)
        np.testing.assert_allclose(sown["coverage"][row], cost, rtol=1e-4)


def check_the_copies_of_a_transformer(p):
    """Given its scores, and what they are made of: one head over the memory, the gate, and the sum over like words."""
    logits, sown = p()
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), p.variables["params"])

    def states(decoder):
        kept = {}

        def keep(f, args, kwargs, context):
            if context.method_name == "scores":
                kept["x"] = args[0]
            return f(*args, **kwargs)

        with nn.intercept_methods(keep):
            decoder(jnp.asarray(TARGET), p.memory, train=False)
        return kept["x"]

    x = np.asarray(compiled(nn.apply(states, p.decoder))(p.variables), np.float64)
    head, linear = params["copy_attention"], params["vocabulary"]["linear"]

    def projected(name, values):
        return (
            np.einsum("...d,diw->...w", values, head[name]["kernel"][:, :1]) + head[name]["bias"][0]
        )

    for row in (0, 1):
        places = np.flatnonzero(TEXT[row])
        a = np.asarray(p.memory.values[row], np.float64)[places]
        for t in range(L):
            if TARGET[row, t] == PAD:
                continue
            scores = projected("key", a) @ projected("query", x[row, t]) / np.sqrt(8)
            weights = np.exp(scores) / np.exp(scores).sum()
            seen = np.einsum(
                "iw,iwd->d", (weights @ projected("value", a))[None], head["output"]["kernel"]
            )
            seen = seen + head["output"]["bias"]
            gate = seen @ params["gate_from_memory"]["kernel"] + params["gate_from_memory"]["bias"]
            gate = 1 / (1 + np.exp(-(gate + x[row, t] @ params["gate_from_state"]["kernel"])[0]))
            words = np.exp(x[row, t] @ linear["kernel"] + linear["bias"])
            expected = np.zeros(V + S)
            expected[:V] = gate * words / words.sum()
            for place, weight in zip(places, weights):
                expected[TEXT[row, place]] += (1 - gate) * weight
            np.testing.assert_allclose(np.exp(logits[row, t]), expected, rtol=1e-4, atol=1e-7)
            np.testing.assert_allclose(sown["generating"][row, t], gate, rtol=1e-4)
            copying = sown["copying"][row, t, places]
            np.testing.assert_allclose(copying, (1 - gate) * weights, rtol=1e-4)


def check_steps_are_the_whole(p):
    """Also after a word that was copied without being known."""
    real = TARGET[:2] != PAD
    np.testing.assert_allclose(p.step_by_step()[:2][real], p()[0][:2][real], atol=1e-4)


def check_only_the_words_of_the_text_are_copied(p):
    """With the gate shut nothing else has any probability: not padding, no slot of another text."""
    logits, _ = p(variables=p.with_gate(-60.0))
    probabilities = np.exp(logits)
    for row in (0, 1):
        words = np.unique(TEXT[row][TEXT[row] != PAD])
        np.testing.assert_allclose(probabilities[row][:, words].sum(-1), 1, rtol=1e-5)
        assert (probabilities[row][:, words] > 1e-6).all()


def check_an_open_gate_copies_nothing(p):
    logits, _ = p(variables=p.with_gate(60.0))
    assert np.exp(logits)[..., V:].max() < 1e-20


def check_a_text_without_words_is_written_from_the_vocabulary(p):
    logits, sown = p()
    assert np.isfinite(logits).all() and (sown["generating"][2] == 1).all()
    assert np.exp(logits)[2, :, V:].max() < 1e-20


def check_padding_is_not_copied(p):
    """Whatever token stands where the mask is False."""
    before, _ = p()
    tokens = np.where(TEXT == PAD, 15, TEXT)
    after, _ = p(memory=p.memory.replace(tokens=jnp.asarray(tokens)))
    np.testing.assert_array_equal(before, after)


def check_a_copied_word_is_read_as_unknown(p):
    """All slots are read alike, as UNK; they are told apart by what was looked at only."""
    unknown, _ = p(target=np.where(TARGET >= V, UNK, TARGET))
    slots, _ = p(target=np.where(TARGET >= V, V + S - 1, TARGET))
    np.testing.assert_array_equal(unknown, p()[0])
    np.testing.assert_array_equal(unknown, slots)


def check_unknown_words_have_rows_of_their_own(p):
    """The first unknown word is row V, in the text and in what is to be written; the spelling says which it is."""
    corpus = Rows(names=("body",), rows=(("ask about deal",),))
    words = WordTokenizer(corpus=corpus, texts="body", vocab_size=V)
    text = ExtendedText(tokenizer=words, max_length=7, num_slots=2)
    target = ExtendedTarget(tokenizer=words, max_length=5)
    example = target(
        text({"id": 0, "body": "ask krista about tana krista", "subject": "tana krista"})
    )
    ask, about = words.encode("ask about")
    assert example["text"].tolist() == [ask, V, about, V + 1, V, PAD, PAD]
    assert example["target"].tolist() == [BOS, V + 1, V, EOS, PAD]
    assert bytes(example["spelling"][1]).rstrip(b"\0") == b"tana"


COMMON = (
    check_probabilities_sum_to_one,
    check_steps_are_the_whole,
    check_only_the_words_of_the_text_are_copied,
    check_an_open_gate_copies_nothing,
    check_a_text_without_words_is_written_from_the_vocabulary,
    check_padding_is_not_copied,
    check_a_copied_word_is_read_as_unknown,
)
CHECKS = (check_unknown_words_have_rows_of_their_own, check_the_equations, *COMMON)
TRANSFORMER_CHECKS = (check_the_copies_of_a_transformer, *COMMON)
