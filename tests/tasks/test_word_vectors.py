"""Word2Vec, GloVe, their files and what they are asked."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import glove, word2vec, word_vectors
from tests.decoding.toys import compiled
from tests.invariants import word_checks
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import Rows
from vlm_jax.data.word_queries import ReadQuery, WordRow, WordRows
from vlm_jax.language.word2vec import Cbow, SkipGram
from vlm_jax.main import main
from vlm_jax.metrics.analogies import Analogies
from vlm_jax.metrics.spearman import Spearman
from vlm_jax.tasks.word_queries import Neighbours, Similarity
from vlm_jax.tasks.word_vectors import NegativeSampling
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.text.word_vectors import read_vectors
from vlm_jax.train.evaluation import Evaluation, evaluate
from vlm_jax.train.loop import train
from vlm_jax.train.optimizers import Adam
from vlm_jax.train.state import named_leaves

CORPUS = Rows(names=("sentence",), rows=(("king queen man woman dog puppy cat",),))
TOKENIZER = WordTokenizer(corpus=CORPUS, vocab_size=16, texts="sentence")
VECTORS = {
    "king": (1, 1, 0),
    "queen": (1, -1, 0),
    "man": (0.1, 1, 0),
    "woman": (0.1, -1, 0),
    "dog": (0, 0, 1),
    "puppy": (0, 0.1, 2),
    "cat": (0.5, 0, 1),
}


class Table:
    """A model of given vectors."""

    num_calls = 0

    def apply(self, variables, **options):
        assert options == {"method": "vectors"}
        return variables["params"]


def table():
    vectors = np.ones((16, 3), np.float32)  # specials and unused rows are as near as can be
    for word, vector in VECTORS.items():
        vectors[TOKENIZER.encode(word)[0]] = vector
    return {"params": vectors}


def ask(task, rows, *transforms, names):
    data = Pipeline(
        source=Rows(names=names, rows=rows), transforms=transforms, batch_size=4, train=False
    )
    evaluation = Evaluation(
        name="ask", data=data, task=task, loss=False, reports=(lambda *_: None,)
    )
    return evaluate(evaluation, Table(), task, table())


@pytest.mark.parametrize("check", word_checks.OTHER_CHECKS, ids=lambda check: check.__name__[6:])
def test_words(check):
    check()


def test_nearest_words_by_hand_and_hostile_queries():
    rows = tuple(
        (text,)
        for text in (
            "dog",
            "King - man + woman",
            "",
            "word " * 10_000,
            "\U0001f600 \0 \ud83d <eos>",
            "+ - -",
            "dog unheard",
        )
    )
    task = Neighbours(tokenizer=TOKENIZER, count=3)
    found = ask(task, rows, ReadQuery(tokenizer=TOKENIZER), names=("query",)).examples
    assert found[0]["prediction"].split()[:2] == ["puppy", "cat"]
    every = ask(
        dataclasses.replace(task, count=16),
        rows[:1],
        ReadQuery(tokenizer=TOKENIZER),
        names=("query",),
    )
    assert set(every.examples[0]["neighbours"]) == VECTORS.keys() - {"dog"}
    assert found[0]["neighbours"]["puppy"] == pytest.approx(2 / np.sqrt(4.01), abs=1e-5)
    assert found[1]["prediction"].split()[0] == "queen"
    assert [example["prediction"] for example in found[2:]] == [""] * 5
    query = ReadQuery(tokenizer=TOKENIZER, max_words=3)({"query": "king - man dog + cat"})
    assert query["text"].tolist() == TOKENIZER.encode("king man dog")
    assert query["sign"].tolist() == [1, -1, -1]


def test_analogies_and_similarities_count_what_is_covered():
    questions = (
        ("king - man + woman", "queen"),
        ("man - king + queen", "dog"),
        ("king - man + unheard", "queen"),
        ("queen - woman + man", "un heard"),
        ("queen - woman + man", "king"),
    )
    found = ask(
        Neighbours(tokenizer=TOKENIZER, metrics=(Analogies(),)),
        questions,
        ReadQuery(tokenizer=TOKENIZER),
        WordRow(tokenizer=TOKENIZER),
        names=("query", "answer"),
    )
    assert found.numbers == pytest.approx({"analogies": 200 / 3, "coverage": 60.0})
    pairs = (("dog", "puppy", 9.0), ("dog", "cat", 8.0), ("dog", "king", 1.0), ("x", "cat", 1.0))
    found = ask(
        Similarity(tokenizer=TOKENIZER, metrics=(Spearman(),)),
        pairs,
        WordRows(tokenizer=TOKENIZER),
        names=("first", "second", "score"),
    )
    assert found.numbers == pytest.approx({"spearman": 100.0, "coverage": 75.0})
    assert found.examples[1]["prediction"] == pytest.approx(1 / np.sqrt(1.25))
    assert found.examples[3]["prediction"] is None


@pytest.mark.parametrize("model", [SkipGram, Cbow], ids=lambda model: model.__name__)
def test_gradients_reach_both_tables_and_only_the_words_in_the_batch(model):
    batch, variables = word_checks._batch(), word_checks._variables()
    made = model(vocab_size=word_checks.V, width=word_checks.WIDTH)

    def loss(params):
        return NegativeSampling().loss(made, {"params": params}, batch, rngs={}, train=True)[0]

    gradient = named_leaves(compiled(jax.grad(loss))(variables["params"]))
    seen = set(batch["text"].ravel()) | set(batch["negatives"].ravel())
    for path, value in gradient.items():
        moved = set(np.flatnonzero(np.abs(value).sum(1)).tolist())
        assert moved and moved <= seen, path


def test_words_used_alike_become_neighbours():
    """x and y stand in the same places, p and q in others."""
    texts = tuple((f"a {w} b",) for w in "xy") + tuple((f"c {w} d",) for w in "pq")
    corpus = Rows(names=("sentence",), rows=texts * 8)
    tokenizer = WordTokenizer(corpus=corpus, vocab_size=16, texts="sentence")
    experiment = word2vec.smoke()
    data = dataclasses.replace(
        experiment.train_data, source=corpus, tokenizer=tokenizer, subsample=1e9, batch_size=12
    )
    cells = dataclasses.replace(glove.smoke().train_data, source=corpus, tokenizer=tokenizer)
    optimizer = Adam(learning_rate=0.05)
    for made in (
        dataclasses.replace(experiment, train_data=data, optimizer=optimizer),
        dataclasses.replace(
            experiment, train_data=data, optimizer=optimizer, model=Cbow(vocab_size=16, width=6)
        ),
        dataclasses.replace(glove.smoke(), train_data=cells),
    ):
        state = train(dataclasses.replace(made, num_steps=100, evaluations=()))
        vectors = np.array(made.model.apply(state.variables, method="vectors"))
        x, y, p, q = (vectors[tokenizer.encode(word)[0]] for word in "xypq")

        def cosine(a, b):
            return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

        assert min(cosine(x, y), cosine(p, q)) > max(cosine(x, p), cosine(y, q)) + 0.3


def test_a_loss_of_nothing_is_zero():
    batch = {**word_checks._batch(), "valid": np.zeros(2, bool)}
    model = SkipGram(vocab_size=word_checks.V, width=word_checks.WIDTH)
    loss, aux = NegativeSampling().loss(model, word_checks._variables(), batch, rngs={}, train=True)
    assert float(loss) == 0 and float(aux.metrics["loss"].count) == 0
    assert jnp.isfinite(loss)


def test_predict_prints_the_nearest_words_and_a_run_is_exported(tmp_path, capsys):
    def run(*argv):
        workdir = str(tmp_path / "run")
        assert main(word2vec.skip_gram, word2vec.smoke, argv=[*argv, "--workdir", workdir]) == 0
        return capsys.readouterr().out.splitlines()

    run("smoke", "train")
    known = word2vec.smoke().train_data.tokenizer.vocabulary[4:]
    (word, sums, nothing) = (
        line.split("\t") for line in run("predict", "king", "queen - king", "?")
    )
    assert len(word[1].split()) <= 10 and set(word[1].split()) <= set(known) - {"king"}
    assert not {"queen", "king"} & set(sums[1].split()) and nothing == ["?", ""]
    for name in ("v.bin", "v.txt", "v.glove.txt"):
        word_vectors.export(tmp_path / "run", str(tmp_path / name))
        found = read_vectors(tmp_path / name)
        assert found.words == known and found.vectors.shape == (len(known), 6)
