"""A tagger and a parser against every check of syntax_checks, and eight sentences learnt by heart."""

import time

import numpy as np
import pytest

from experiments import treebanks
from tests.invariants import syntax_checks
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import InMemory
from vlm_jax.data.word_transforms import WordHeads, WordLabels, Words
from vlm_jax.decoding.spanning_tree import spanning_tree
from vlm_jax.language.word_characters import CharacterCnn, WordCharacterEncoder
from vlm_jax.layers.biaffine import DeepBiaffine
from vlm_jax.models.tagger import Parser
from vlm_jax.tasks.parsing import Parsing
from vlm_jax.text.conllu import tree_fault
from vlm_jax.text.lexicon import NUM_LETTERS, Lexicon
from vlm_jax.train.evaluation import Evaluation, evaluate
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.logs import Writer
from vlm_jax.train.loop import train
from vlm_jax.train.optimizers import Adam


@pytest.fixture(scope="module")
def words():
    return syntax_checks.Words()


@pytest.mark.parametrize("check", syntax_checks.CHECKS, ids=lambda check: check.__name__[6:])
def test_tagger_and_parser(check, words):
    check(words)


@pytest.mark.parametrize("check", syntax_checks.TREE_CHECKS, ids=lambda check: check.__name__[6:])
def test_trees(check):
    check()


def test_a_sentence_of_200_words_takes_no_time_and_gives_one_tree():
    rng = np.random.default_rng(0)
    rings = np.full((200, 201), -1.0)  # cycles within cycles
    rings[np.arange(200), np.arange(1, 201) % 200 + 1] = 1
    for scores in (rng.normal(size=(200, 201)), rings, np.zeros((200, 201))):
        start = time.process_time()
        heads = spanning_tree(scores)
        assert time.process_time() - start < 2
        assert tree_fault(heads.tolist()) is None


def test_scores_that_are_no_scores_are_refused():
    with pytest.raises(ValueError, match="expected .n n.1."):
        spanning_tree(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="inf"):
        spanning_tree([[np.inf, 0]])
    assert spanning_tree([[np.nan, 0.0]]).tolist() == [0]


EIGHT = (
    ("the dog runs", (2, 3, 0), ("det", "nsubj", "root")),
    ("the dog sees the cat", (2, 3, 0, 5, 3), ("det", "nsubj", "root", "det", "obj")),
    ("cats sleep", (2, 0), ("nsubj", "root")),
    ("stop !", (0, 1), ("root", "punct")),
    ("old dogs sleep .", (2, 3, 0, 3), ("amod", "nsubj", "root", "punct")),
    ("run , dog", (0, 3, 1), ("root", "punct", "vocative")),
    ("he sees her", (2, 0, 2), ("nsubj", "root", "obj")),
    ("they run and sleep", (2, 0, 4, 2), ("nsubj", "root", "cc", "conj")),
)


class Silent(Writer):
    def open(self, workdir, num_steps):
        return self


def test_a_parser_learns_eight_sentences_by_heart():
    names = tuple(dict.fromkeys(name for *_, relations in EIGHT for name in relations))
    source = InMemory(
        [
            {"id": i, "words": tuple(text.split()), "heads": heads, "relations": relations}
            for i, (text, heads, relations) in enumerate(EIGHT)
        ]
    )
    lexicon = Lexicon(corpus=source, vocab_size=32)
    transforms = (
        Words(lexicon=lexicon, max_length=5, max_letters=4),
        WordHeads(max_length=5),
        WordLabels(names=names, max_length=5, key="relations", output="relation"),
    )
    fields = dict(source=source, transforms=transforms, batch_size=8)
    encoder = WordCharacterEncoder(
        vocab_size=32,
        word_width=16,
        characters=CharacterCnn(num_letters=NUM_LETTERS, width=8, filters=8),
        width=16,
    )
    experiment = Experiment(
        model=Parser(
            text_encoder=encoder,
            arcs=DeepBiaffine(hidden=16),
            relations=DeepBiaffine(hidden=16, num_outputs=len(names)),
        ),
        task=Parsing(names=names),
        train_data=Pipeline(**fields, train=True),
        num_steps=60,
        optimizer=Adam(learning_rate=2e-2),
    )
    state = train(experiment, log=Silent())
    evaluation = Evaluation(name="again", data=Pipeline(**fields, train=False))
    found = evaluate(evaluation, experiment.model, experiment.task, state.variables)
    assert found.numbers["uas"] == found.numbers["las"] == 100.0
    assert found.numbers["loss"] < 0.1


def test_the_treebank_has_all_its_relations_and_the_lexicon_no_word_of_the_test(monkeypatch):
    data = treebanks.english_ewt(reads="relations", tokens=1024)
    assert data.lexicon.corpus.split == "train" == data.train.source.split
    assert len(set(treebanks.ENGLISH_RELATIONS)) == 52
