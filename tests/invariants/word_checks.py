"""What must hold of learning word vectors: which pairs are seen, which are drawn, what they cost, what a file holds."""

import tempfile
from pathlib import Path

import jax
import numpy as np

from vlm_jax.data import word_windows
from vlm_jax.data.source import Rows
from vlm_jax.data.word_windows import Noise, WordWindows, encoded_text
from vlm_jax.language import glove, word2vec
from vlm_jax.metrics import spearman
from vlm_jax.metrics.base import total
from vlm_jax.tasks.word_vectors import LogCounts, NegativeSampling
from vlm_jax.text import word_vectors as files
from vlm_jax.text.tokenizers import WordTokenizer

SENTENCES = (
    "the cat sat on the mat",
    "a dog",
    "the",
    "the dog and the cat and a bird unheard",
    "on and on the bird sat",
)
V, WIDTH = 16, 5


def windows(**changes) -> WordWindows:
    """Two rows of four words; the words of the last sentences are rare, `unheard` is none of the tokenizer's."""
    known = Rows(names=("sentence",), rows=tuple((s.replace("unheard", ""),) for s in SENTENCES))
    corpus = Rows(names=("sentence",), rows=tuple((s,) for s in SENTENCES))
    fields = dict(
        source=corpus,
        tokenizer=WordTokenizer(corpus=known, vocab_size=V, texts="sentence"),
        batch_size=2,
        centers=4,
        window=3,
        negatives=6,
        subsample=0.2,
    )
    return WordWindows(**{**fields, **changes})


def forget():
    """Lets go of the epochs that were made without a bug, or with another."""
    getattr(word_windows._epoch, "cache_clear", lambda: None)()


# ---- data


def check_contexts_stay_in_their_sentence_and_are_drawn_wide():
    """Without subsampling the words of an epoch, put together again, are the sentences, and a word's contexts are
    its neighbours there, as many on either side as the window or the sentence has."""
    plain = windows(subsample=1e9, train=False)
    sentences = [plain.tokenizer.encode(s.replace("unheard", "")) for s in SENTENCES]
    reaches, place = set(), 0
    batches = [batch for _, batch in plain.batches()]
    rows = [{k: v[r] for k, v in b.items()} for b in batches for r in range(2)]
    for sentence in sentences:
        for at, word in enumerate(sentence):
            row, center = rows[place // 4], place % 4
            assert row["text"][3 + center] == word
            left, right = row["left"][center], row["right"][center]
            before, after = at, len(sentence) - 1 - at
            for reach in (1, 2, 3):
                if left == min(reach, before) and right == min(reach, after):
                    reaches.add(reach)
                    break
            else:
                raise AssertionError(
                    f"{left} words before and {right} after; there are {before}, {after}"
                )
            around = row["text"][3 + center - left : 3 + center + right + 1].tolist()
            assert around == sentence[at - left : at + right + 1]
            place += 1
    assert reaches == {1, 2, 3}


def check_frequent_words_are_left_out_by_the_authors_formula():
    """kept = sqrt(t / f) + t / f, at most 1: the mean over epochs, and rare words always."""
    some = windows(subsample=0.02)
    text = encoded_text(some.source, some.tokenizer, "sentence")
    ratio = 0.02 * text.counts.sum() / np.maximum(text.counts, 1)
    expected = np.minimum(np.sqrt(ratio) + ratio, 1.0)
    epochs, counts = 300, np.zeros(V)
    for epoch in range(epochs):
        stream = word_windows._epoch(some, epoch)
        counts += np.bincount(stream.ids, minlength=V) * (np.arange(V) > 3)
    seen = counts[4:] / np.maximum(text.counts[4:], 1) / epochs
    there = text.counts[4:] > 0
    np.testing.assert_allclose(seen[there], expected[4:][there], atol=0.12)
    assert seen[there].argmin() == text.counts[4:][there].argmax()


def check_negatives_are_drawn_by_their_count_to_the_power():
    some = windows(negatives=200, batch_size=50)
    text = encoded_text(some.source, some.tokenizer, "sentence")
    drawn = np.bincount(next(some.batches())[1]["negatives"].ravel(), minlength=V)
    weights = text.counts**0.75 * (text.counts > 0)
    np.testing.assert_allclose(drawn / drawn.sum(), weights / weights.sum(), atol=0.015)
    assert (drawn[text.counts == 0] == 0).all()


def check_the_alias_method_draws_what_it_is_told():
    weights = np.array([5.0, 0.0, 1.0, 3.0, 0.5])
    drawn = np.bincount(Noise(weights).draw(np.random.default_rng(0), (40_000,)), minlength=5)
    np.testing.assert_allclose(drawn / 40_000, weights / weights.sum(), atol=0.01)


DATA_CHECKS = (
    check_contexts_stay_in_their_sentence_and_are_drawn_wide,
    check_frequent_words_are_left_out_by_the_authors_formula,
    check_negatives_are_drawn_by_their_count_to_the_power,
    check_the_alias_method_draws_what_it_is_told,
)


# ---- objectives, pair by pair


def _variables(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "params": {
            name: {"table": rng.normal(size=(V, WIDTH)).astype(np.float32)}
            for name in ("embedding", "output")
        }
    }


def _batch():
    _, batch = next(windows(subsample=1e9).batches(1))
    batch["valid"] = np.array([True, True])
    return batch


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _contexts(batch, row, center):
    text, place = batch["text"][row], 3 + center
    left, right = batch["left"][row, center], batch["right"][row, center]
    return [text[j] for j in range(place - left, place + right + 1) if j != place]


def _loss(model, batch, variables=None):
    """(loss, number of pairs)"""
    variables = _variables() if variables is None else variables
    loss, aux = NegativeSampling(negatives=5.0).loss(model, variables, batch, rngs={}, train=True)
    return float(loss), float(aux.metrics["loss"].count)


def check_skip_gram_costs_what_its_pairs_cost():
    """Each (word, context) once; the drawn words stand for 5 a pair, without those that are its context."""
    batch, params = _batch(), _variables()["params"]
    words, outputs = params["embedding"]["table"], params["output"]["table"]
    cost = pairs = 0
    for row in range(2):
        for center in range(4):
            vector = words[batch["text"][row, 3 + center]]
            for context in _contexts(batch, row, center):
                pairs += 1
                cost -= np.log(_sigmoid(vector @ outputs[context]))
                for negative in batch["negatives"][row]:
                    if negative != context:
                        cost -= 5 / 6 * np.log(_sigmoid(-vector @ outputs[negative]))
    loss, count = _loss(word2vec.SkipGram(vocab_size=V, width=WIDTH), batch)
    assert count == pairs > 8
    np.testing.assert_allclose(loss, cost / pairs, rtol=1e-5)


def check_cbow_costs_what_its_words_cost():
    """The mean of the contexts against the word, once; against the drawn words, without itself."""
    batch, params = _batch(), _variables()["params"]
    words, outputs = params["embedding"]["table"], params["output"]["table"]
    cost = seen = 0
    for row in range(2):
        for center in range(4):
            contexts = _contexts(batch, row, center)
            if not contexts:
                continue
            seen += 1
            mean, word = words[contexts].mean(0), batch["text"][row, 3 + center]
            cost -= np.log(_sigmoid(mean @ outputs[word]))
            for negative in batch["negatives"][row]:
                if negative != word:
                    cost -= 5 / 6 * np.log(_sigmoid(-mean @ outputs[negative]))
    loss, count = _loss(word2vec.Cbow(vocab_size=V, width=WIDTH), batch)
    assert count == seen > 4
    np.testing.assert_allclose(loss, cost / seen, rtol=1e-5)


def check_a_context_gets_the_gradient_of_the_mean_whole():
    """Of cbow: the table's gradient is the sum over words of d loss / d mean, once for each context."""
    batch, variables = _batch(), _variables()
    model = word2vec.Cbow(vocab_size=V, width=WIDTH)

    def loss(params):
        task = NegativeSampling(negatives=5.0)
        return task.loss(model, {"params": params}, batch, rngs={}, train=True)[0]

    found = jax.grad(loss)(variables["params"])["embedding"]["table"]
    words, outputs = (variables["params"][name]["table"] for name in ("embedding", "output"))
    expected, seen = np.zeros((V, WIDTH)), 0
    for row in range(2):
        for center in range(4):
            contexts = _contexts(batch, row, center)
            if not contexts:
                continue
            seen += 1
            mean, word = words[contexts].mean(0), batch["text"][row, 3 + center]
            slope = (_sigmoid(mean @ outputs[word]) - 1) * outputs[word]
            for negative in batch["negatives"][row]:
                if negative != word:
                    slope += 5 / 6 * _sigmoid(mean @ outputs[negative]) * outputs[negative]
            for context in contexts:
                expected[context] += slope
    np.testing.assert_allclose(found, expected / seen, rtol=1e-4, atol=1e-6)


def check_rows_that_are_not_valid_have_no_gradient():
    batch = _batch()
    one = {**batch, "valid": np.array([True, False])}
    other = {**one, "text": np.stack([batch["text"][0], batch["text"][1] % 7 + 5])}
    for model in (
        word2vec.SkipGram(vocab_size=V, width=WIDTH),
        word2vec.Cbow(vocab_size=V, width=WIDTH),
    ):
        assert _loss(model, one) == _loss(model, other) != _loss(model, batch)


def check_glove_costs_what_its_cells_cost():
    rng = np.random.default_rng(2)
    params = {
        name: {"table": rng.normal(size=(V, WIDTH + 1)).astype(np.float32)}
        for name in ("embedding", "output")
    }
    batch = {
        "word": np.array([4, 5, 6, 0]),
        "context": np.array([7, 5, 4, 0]),
        "count": np.array([1.0, 50.0, 300.0, 1.0], np.float32),
        "valid": np.array([True, True, True, False]),
    }
    model = glove.GloVe(vocab_size=V, width=WIDTH)
    loss, aux = LogCounts().loss(model, {"params": params}, batch, rngs={}, train=True)
    w, c = params["embedding"]["table"], params["output"]["table"]
    cost = 0
    for i, j, x in list(zip(batch["word"], batch["context"], batch["count"]))[:3]:
        error = w[i, :-1] @ c[j, :-1] + w[i, -1] + c[j, -1] - np.log(x)
        cost += 0.5 * min(x / 100, 1) ** 0.75 * error**2
    np.testing.assert_allclose(loss, cost / 3, rtol=1e-5)
    assert float(aux.metrics["loss"].count) == 3
    vectors = model.apply({"params": params}, method="vectors")
    np.testing.assert_allclose(vectors, w[:, :-1] + c[:, :-1], rtol=1e-6)


# ---- files and scores


def check_a_binary_file_is_little_endian_float32():
    vectors = np.array([[1.0, -2.5], [0.1, 3e-8]], np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.bin"
        files.write_word2vec_binary(path, ("dog", "café"), vectors)
        assert path.read_bytes() == (
            b"2 2\ndog \x00\x00\x80\x3f\x00\x00\x20\xc0\n"
            + "café ".encode() + np.array([0.1, 3e-8], "<f4").tobytes() + b"\n"
        )  # fmt: skip
        found = files.read_vectors(path)
    assert found.words == ("dog", "café")
    np.testing.assert_array_equal(found.vectors, vectors)


def check_equal_values_share_their_rank():
    metric = spearman.Spearman()
    pairs = [(0.1, 1.0), (0.4, 2.0), (0.4, 2.0), (0.9, 1.5), (None, 9.0)]
    found = metric.result(total(metric.stats(p, (g,)) for p, g in pairs))
    # ranks 1 2.5 2.5 4 and 1 3.5 3.5 2
    np.testing.assert_allclose(found["spearman"], 100 / 3, rtol=1e-9)
    np.testing.assert_allclose(found["coverage"], 80.0)


OTHER_CHECKS = (
    check_skip_gram_costs_what_its_pairs_cost,
    check_cbow_costs_what_its_words_cost,
    check_a_context_gets_the_gradient_of_the_mean_whole,
    check_rows_that_are_not_valid_have_no_gradient,
    check_glove_costs_what_its_cells_cost,
    check_a_binary_file_is_little_endian_float32,
    check_equal_values_share_their_rank,
)
CHECKS = DATA_CHECKS + OTHER_CHECKS
