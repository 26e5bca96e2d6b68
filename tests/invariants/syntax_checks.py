"""What must hold of taggers and parsers, of the trees that are decoded and of how words are counted.

TREE_CHECKS take nothing. Each of CHECKS takes a `Words`: a tiny tagger and a tiny parser with a batch, each of their
functions compiled once.
"""

import functools
import itertools

import jax
import numpy as np

from tests import model_zoo
from tests.decoding.toys import compiled, log_softmax
from vlm_jax.data.source import InMemory
from vlm_jax.data.word_transforms import WordHeads, WordLabels
from vlm_jax.data.word_transforms import Words as ReadWords
from vlm_jax.decoding import spanning_tree as trees
from vlm_jax.language.word_characters import CharacterCnn, WordCharacterEncoder
from vlm_jax.layers.biaffine import DeepBiaffine
from vlm_jax.metrics import attachment
from vlm_jax.models.tagger import Parser, Tagger
from vlm_jax.tasks import parsing, tagging
from vlm_jax.text.conllu import tree_fault
from vlm_jax.text.lexicon import Lexicon
from vlm_jax.train.state import named_leaves

B, L, C = 3, 5, 4  # rows, words, letters with their two ends
LENGTHS = (5, 1, 3)
NUM_WORDS, NUM_LETTERS = 24, 16
TAGS = ("NOUN", "VERB", "PUNCT", "DET")
RELATIONS = ("nsubj", "root", "obj:x", "punct", "det")
HEADS = ((2, 0, 5, 5, 2), (0,), (3, 1, 0))

# ---- trees


@functools.cache
def every_tree(num_words):
    """Int[trees n]: the heads of all trees with one word at the root, found by trying all."""
    heads = itertools.product(range(num_words + 1), repeat=num_words)
    return np.array([h for h in heads if tree_fault(h) is None]).reshape(-1, num_words)


def value(scores, heads):
    """(arcs that are not forbidden, the sum of their scores): larger is better."""
    chosen = np.take_along_axis(scores, np.asarray(heads)[:, None], 1)[:, 0]
    return np.isfinite(chosen).sum(), chosen[np.isfinite(chosen)].sum()


def best_value(scores):
    return max(value(scores, heads) for heads in every_tree(len(scores)))


def check_is_the_best(scores):
    heads = trees.spanning_tree(scores)
    assert tree_fault(heads.tolist()) is None, (scores, heads)
    np.testing.assert_allclose(value(scores, heads), best_value(scores), rtol=1e-9, atol=1e-9)


def drawn(kind, num_words, seed):
    """Scores [n n+1] of a kind that searches go wrong on."""
    rng = np.random.default_rng((num_words, seed))
    scores = rng.normal(size=(num_words, num_words + 1)) * 10.0 ** rng.integers(-2, 4)
    if kind == "ties":
        return rng.integers(-1, 2, scores.shape).astype(float)
    if kind == "forbidden":
        scores[rng.random(scores.shape) < 0.4] = -np.inf
    if kind == "roots":  # every word would rather be the root
        scores[:, 0] += 3 * np.abs(scores).max(initial=0)
    if kind == "negative":
        scores -= 10 * np.abs(scores).max(initial=0)
    return scores


def _best_of(kind):
    def check():
        for num_words in (1, 2, 3, 4, 5):
            for seed in range(25 if num_words < 5 else 12):
                check_is_the_best(drawn(kind, num_words, seed))

    check.__name__ = f"check_the_best_of_all_trees_{kind}"
    return check


def check_the_tree_of_the_docstring():
    """9 + 3 is taken, though 9 + 8, two roots, is more, and 1 + 3, a cycle, is what each would choose without them."""
    assert trees.spanning_tree([[9, 0, 1], [8, 3, 0]]).tolist() == [0, 1]
    assert trees.spanning_tree([[0, 0, 5], [-9, 5, 0]]).tolist() == [0, 1]
    assert trees.spanning_tree(np.zeros((0, 1))).tolist() == []


KINDS = ("any", "ties", "forbidden", "roots", "negative")
TREE_CHECKS = (check_the_tree_of_the_docstring, *map(_best_of, KINDS))

# ---- taggers and parsers


def encoder(**fields):
    return WordCharacterEncoder(
        vocab_size=NUM_WORDS,
        word_width=5,
        characters=CharacterCnn(num_letters=NUM_LETTERS, width=4, filters=6),
        width=4,
        num_layers=2,
        **fields,
    )


class Words:
    """The tiny models, their task and a batch whose words and letters all differ."""

    def __init__(self):
        self.tagger = Tagger(num_labels=len(TAGS), text_encoder=encoder())
        self.parser = Parser(
            text_encoder=encoder(),
            arcs=DeepBiaffine(hidden=5),
            relations=DeepBiaffine(hidden=3, num_outputs=len(RELATIONS)),
        )
        self.tagging = tagging.Tagging(names=TAGS)
        self.parsing = parsing.Parsing(names=RELATIONS)
        self.batch = padded(L)

    @functools.cached_property
    def variables(self):
        """Of the tagger and of the parser."""
        return tuple(
            model_zoo.filled(
                jax.eval_shape(
                    lambda model=model: model.init(jax.random.key(0), self.batch, train=False)
                ),
                seed,
            )
            for seed, model in enumerate((self.tagger, self.parser))
        )

    @functools.cached_property
    def _losses(self):
        def both(variables, batch):
            def loss(params, task, model):
                objective, aux = task.loss(model, {"params": params}, batch, rngs={}, train=False)
                return objective, aux.metrics["loss"]

            pairs = ((self.tagging, self.tagger), (self.parsing, self.parser))
            return [
                jax.value_and_grad(loss, has_aux=True)(each["params"], *pair)
                for each, pair in zip(variables, pairs)
            ]

        return compiled(both)

    def losses(self, **changes):
        """Of tagger and parser: ((objective, Mean), gradients)."""
        return jax.device_get(self._losses(self.variables, {**self.batch, **changes}))

    @functools.cached_property
    def _forward(self):
        def both(variables, batch):
            tagger, parser = variables
            arcs, relations = self.parser.apply(parser, batch, method="every_pair")
            return self.tagger.apply(tagger, batch, train=False), arcs, relations

        return compiled(both)

    def forward(self, batch=None):
        """Scores of tags [b l k], heads [b l l+1] and relations [b l l+1 k]."""
        return jax.device_get(self._forward(self.variables, batch or self.batch))

    @functools.cached_property
    def features(self):
        """What the parser's two scorers read [b l d]."""
        encode = compiled(
            lambda variables, batch: self.parser.apply(
                variables, batch, train=False, method="encode"
            )
        )
        return np.asarray(encode(self.variables[1], self.batch).values)


def padded(length):
    """The batch with its rows padded to `length`."""
    rng = np.random.default_rng(0)
    words = iter(rng.permutation(np.arange(4, NUM_WORDS)))
    batch = {
        "text": np.zeros((B, length), np.int32),
        "characters": np.zeros((B, length, C), np.int32),
        **{name: np.full((B, length), -1, np.int32) for name in ("label", "head", "relation")},
        "valid": np.ones(B, bool),
        "id": np.arange(B, dtype=np.int32),
    }
    for row, n in enumerate(LENGTHS):
        batch["text"][row, :n] = [next(words) for _ in range(n)]
        batch["characters"][row, :n] = rng.integers(4, NUM_LETTERS, (n, C))
        batch["characters"][row, :n, C - 1] *= rng.integers(0, 2, n)  # words of 3 and 4 letters
        batch["label"][row, :n] = rng.integers(0, len(TAGS), n)
        batch["head"][row, :n] = HEADS[row]
        relations = rng.choice([0, 2, 3, 4], n)
        batch["relation"][row, :n] = np.where(batch["head"][row, :n] == 0, 1, relations)
    return batch


def words_of(batch):
    return [(row, i) for row, n in enumerate(LENGTHS) for i in range(n)]


def check_the_loss_of_tags_is_that_of_every_word(w):
    tags = log_softmax(w.forward()[0])
    terms = [-tags[row, i, w.batch["label"][row, i]] for row, i in words_of(w.batch)]
    (objective, mean), _ = w.losses()[0]
    np.testing.assert_allclose(objective, np.mean(terms), rtol=1e-4)
    assert mean.count == sum(LENGTHS)


def check_the_loss_of_a_parse_is_that_of_its_arcs(w):
    """-log p(head) - log p(relation | that head), over heads that are the root or a word, and not itself."""
    _, arcs, relations = w.forward()
    terms = []
    for row, i in words_of(w.batch):
        heads = [head for head in range(LENGTHS[row] + 1) if head != i + 1]
        head, relation = w.batch["head"][row, i], w.batch["relation"][row, i]
        terms.append(-log_softmax(arcs[row, i, heads])[heads.index(head)])
        terms[-1] -= log_softmax(relations[row, i, head])[relation]
    (objective, mean), _ = w.losses()[1]
    np.testing.assert_allclose(objective, np.mean(terms), rtol=1e-4)
    assert mean.count == sum(LENGTHS)


def check_the_biaffine_scores_are_those_of_loops(w):
    """[d; 1]' U [h; 1] of every word and head, the root's vector first."""
    _, arcs, relations = w.forward()
    params = jax.device_get(w.variables[1]["params"])
    x = w.features
    for name, found in (("arcs", arcs[..., None]), ("relations", relations)):
        p = params[name]
        layers = [p["dependent_layer"], p["head_layer"]]
        d, h = (x @ layer["kernel"] + layer["bias"] for layer in layers)
        d, h = (np.where(side > 0, side, 0.1 * side) for side in (d, h))
        for row, i in words_of(w.batch):
            for head in range(LENGTHS[row] + 1):
                if head == i + 1:
                    continue
                vector = p["root"] if head == 0 else h[row, head - 1]
                expected = np.einsum("d,dke,e->k", [*d[row, i], 1], p["kernel"], [*vector, 1])
                np.testing.assert_allclose(found[row, i, head], expected, rtol=1e-3, atol=1e-4)


def check_padding_changes_nothing(w):
    """Neither more of it, nor what stands there beside PAD."""
    longer = w.forward(padded(L + 2))
    for short, long in zip(w.forward(), longer):
        for row, n in enumerate(LENGTHS):
            heads = slice(None) if short.shape[2] == len(TAGS) else slice(n + 1)
            np.testing.assert_allclose(
                short[row, :n, heads], long[row, :n, heads], rtol=1e-4, atol=1e-5
            )
    pad = w.batch["text"] == 0
    garbage = {
        "characters": np.where(pad[..., None], 7, w.batch["characters"]),
        **{name: np.where(pad, 1, w.batch[name]) for name in ("label", "head", "relation")},
    }
    for plain, other in zip(w.losses(), w.losses(**garbage)):
        jax.tree.map(np.testing.assert_array_equal, plain, other)


def check_rows_do_not_mix(w):
    """A sentence is read as it is alone, wherever it stands in the batch."""
    order = np.array([2, 0, 1])
    for plain, moved in zip(
        w.forward(), w.forward({name: x[order] for name, x in w.batch.items()})
    ):
        np.testing.assert_allclose(plain[order], moved, rtol=1e-4, atol=1e-5)
    other = {name: np.roll(x, 1, axis=-1) for name, x in w.batch.items()}
    mixed = {name: np.concatenate([x[:1], other[name][1:]]) for name, x in w.batch.items()}
    for plain, beside in zip(w.forward(), w.forward(mixed)):
        np.testing.assert_allclose(plain[0], beside[0], rtol=1e-4, atol=1e-5)


def check_rows_that_are_not_valid(w):
    """They are in no loss and no score."""
    valid = np.array([True, False, True])
    for (_, mean), _ in w.losses(valid=valid):
        assert mean.count == LENGTHS[0] + LENGTHS[2]
    batch = {**w.batch, "valid": valid}
    assert [e["id"] for e in w.tagging.examples(w.batch["label"], batch)] == [0, 2]
    assert [e["id"] for e in w.parsing.examples(gold_arcs(w.batch), batch)] == [0, 2]


def check_gradients_reach_every_parameter(w):
    for _, gradients in w.losses():
        for path, gradient in named_leaves(gradients).items():
            assert np.isfinite(gradient).all() and (gradient != 0).any(), path


def check_the_letters_and_the_order_matter(w):
    """Tags of other letters, and of the words the other way round, are others."""
    tags = w.forward()[0]
    letters = np.where(w.batch["characters"] > 0, 4 + (w.batch["characters"] + 3) % 12, 0)
    assert (w.forward({**w.batch, "characters": letters})[0] != tags).any()
    turned = {name: x[:, ::-1] if x.ndim > 1 else x for name, x in w.batch.items()}
    assert not np.allclose(w.forward(turned)[0][0, ::-1], tags[0], atol=1e-3)


def gold_arcs(batch):
    """Predictions that are right: at every other head stands another relation."""
    heads = np.arange(batch["head"].shape[1] + 1)
    at_gold = heads == batch["head"][..., None]
    relations = np.where(at_gold, batch["relation"][..., None], 4)
    return parsing.Arcs(log_probs=np.where(at_gold, 0.0, -5.0), relations=relations)


def references_of(batch):
    return {
        row: {
            "upos": tuple(TAGS[k] for k in batch["label"][row, :n]),
            "relations": tuple(RELATIONS[k] for k in batch["relation"][row, :n]),
        }
        for row, n in enumerate(LENGTHS)
    }


def check_what_is_right_scores_100_and_nothing_else_counts(w):
    """Every word is one, padding is none; the relation is the one to the head in the tree."""
    references = references_of(w.batch)
    arcs = gold_arcs(w.batch)
    for row, example in enumerate(w.parsing.examples(arcs, w.batch)):
        assert example["heads"] == list(HEADS[row])
        assert tuple(example["relations"]) == references[row]["relations"]
    stats = w.parsing.score(arcs, w.batch, references)
    (attached,) = stats.values()
    assert attached.words == sum(LENGTHS)
    assert w.parsing.report(stats) == {"uas": 100.0, "las": 100.0}
    tags = np.where(w.batch["label"] < 0, 0, w.batch["label"])
    stats = w.tagging.score(tags, w.batch, references)
    (tagged,) = stats.values()
    assert tagged.words == sum(LENGTHS)
    assert w.tagging.report(stats) == {"accuracy": 100.0}


def check_scores_by_hand(w):
    """Six words: five have the right head, and of these three the right relation, subtypes apart."""
    gold = [(2, "det"), (3, "nsubj:pass"), (0, "root"), (3, "obl"), (3, "obj"), (3, "punct")]
    guess = [(2, "det"), (3, "nsubj"), (0, "root"), (3, "advmod"), (3, "iobj"), (5, "punct")]
    metric = attachment.Attachment()
    stats = metric.stats(guess[:2], gold[:2]) + metric.stats(guess[2:], gold[2:])
    found = metric.result(stats)
    np.testing.assert_allclose((found["uas"], found["las"]), (500 / 6, 300 / 6))
    cut = metric.result(metric.stats(guess[:3], gold))  # what was left out is wrong
    assert cut == {"uas": 50.0, "las": 50.0}
    tags = attachment.TagAccuracy()
    stats = tags.stats(("DET", "NOUN"), ("DET", "VERB", "NOUN", "PUNCT"))
    assert tags.result(stats) == {"accuracy": 25.0}


def check_the_root_is_called_root_and_no_other_word_is(w):
    predicted = compiled(
        lambda variables, batch: w.parsing.predict(w.parser, variables, batch, None)
    )(w.variables[1], w.batch)
    for example in w.parsing.examples(jax.device_get(predicted), w.batch):
        assert tree_fault(example["heads"]) is None
        for head, relation in zip(example["heads"], example["relations"]):
            assert (head == 0) == (relation == "root"), example


def check_only_words_of_the_corpus_have_rows(w):
    """Words seen twice in training; all others, those of the test among them, are UNK and change nothing."""
    train = InMemory(
        [
            {"id": 0, "words": ("The", "dog", "saw", "the", "dog", "<unk>")},
            {"id": 1, "words": ("a", "cat", "saw")},
        ]
    )
    lexicon = Lexicon(corpus=train, vocab_size=8, min_count=2)
    assert lexicon.encode("the DOG saw a cat bird <unk> <pad>") == [6, 4, 5, 3, 3, 3, 3, 3]
    assert lexicon.num_tokens == 7 and lexicon.decode([4, 5, 6, 3, 0]) == "dog saw the"


def check_every_place_has_its_own_word_label_and_head(w):
    lexicon = Lexicon(corpus=InMemory([{"id": 0, "words": ("a", "b")}]), vocab_size=8)
    example = {"id": 0, "words": ("b", "q", "a"), "upos": ("DET", "X", "NOUN"), "heads": (3, 0, 2)}
    for transform in (
        ReadWords(lexicon=lexicon, max_length=4, max_letters=2),
        WordLabels(names=TAGS, max_length=4, key="upos"),
        WordHeads(max_length=4),
    ):
        example = transform(example)
    assert example["text"].tolist() == [5, 3, 4, 0]
    assert example["characters"][0].tolist() == [1, 4 + ord("b"), 2, 0]
    assert example["label"].tolist() == [3, -1, 0, -1]
    assert example["head"].tolist() == [3, 0, 2, -1]


CHECKS = (
    check_the_loss_of_tags_is_that_of_every_word,
    check_the_loss_of_a_parse_is_that_of_its_arcs,
    check_the_biaffine_scores_are_those_of_loops,
    check_padding_changes_nothing,
    check_rows_do_not_mix,
    check_rows_that_are_not_valid,
    check_gradients_reach_every_parameter,
    check_the_letters_and_the_order_matter,
    check_what_is_right_scores_100_and_nothing_else_counts,
    check_scores_by_hand,
    check_the_root_is_called_root_and_no_other_word_is,
    check_only_words_of_the_corpus_have_rows,
    check_every_place_has_its_own_word_label_and_head,
)
