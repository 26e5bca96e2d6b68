"""What must hold of every published model that writes, seen by its gradients: who sees whom, padding, packed rows.

A gradient that is exactly 0 says more than a number that did not change: it holds of every other value too.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.pretrained import multimodal, published
from tests.pretrained.test_decoding import NAMES, PICTURED, num_places
from vlm_jax.pretrained import mapping, weights
from vlm_jax.types import PAD

# Every word stands once, in the prompts too, so that a row of the table of words is one place of one text.
TOKENS = np.array(
    [[10, 11, 12, 13, 14, 15, 16, 17, 18], [21, 22, 23, 24] + [PAD] * 5, [26, 27, 28] + [PAD] * 6]
)
TEXTS = np.array([[1, 5, 9, 6, 2], [1, 7, 2, PAD, PAD], [1, 8, 20, 2, PAD]])
PROMPTS = np.array([[4, 5], [7, 8], [9, 6]])
COLUMN = 29  # a word that nobody reads
WORDS = "decoder/embedding/words/table"


@dataclasses.dataclass
class Subject:
    found: weights.Published
    batch: dict[str, np.ndarray]
    tokens: np.ndarray  # [3 l]
    before: int  # so many tokens of each row are the same for all rows, or a prompt

    def __post_init__(self):
        self.variables = jax.tree.map(jnp.asarray, self.found.variables)
        self._run = jax.jit(self._logits_and_gradients)

    def __call__(self, weight: np.ndarray, variables: Any = None, **batch: np.ndarray):
        """Logits [3 l v] and the gradients of their sum under `weight`, by the names of parameters."""
        variables = self.variables if variables is None else variables
        logits, gradients = self._run(variables, {**self.batch, **batch}, jnp.asarray(weight))
        return np.asarray(logits), mapping.named(jax.device_get(gradients))

    def _logits_and_gradients(self, variables, batch, weight):
        def total(params):
            inputs = {**variables, "params": params}
            logits = self.found.model.apply(inputs, batch, train=False)
            return (logits * weight).sum(), logits

        gradients, logits = jax.grad(total, has_aux=True)(variables["params"])
        return logits, {"params": gradients}

    @property
    def words(self) -> list[str]:
        """The names of the tables of words."""
        names = mapping.named(self.variables)
        return [name for name in names if name.endswith("embedding/words/table")]

    def one(self, row: int, place: int) -> np.ndarray:
        """The weight of one logit."""
        weight = np.zeros((*self.tokens.shape, self.found.model.decoder.vocab_size), np.float32)
        weight[row, place, COLUMN] = 1
        return weight

    def all(self, rows: int) -> np.ndarray:
        """Weights of all logits of the first rows at places that are no padding, but those of padding as a word."""
        shape = (*self.tokens.shape, self.found.model.decoder.vocab_size)
        weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        weight *= (self.tokens != PAD)[..., None]
        weight[rows:] = 0
        weight[..., PAD] = 0
        return weight


@pytest.fixture(scope="module", params=(*NAMES, *PICTURED, "bert_a"))
def subject(request, tmp_path_factory):
    found = published.loaded(request.param, tmp_path_factory.mktemp("published"))
    (example,) = found.family.example
    batch, tokens, before = {}, TOKENS, 0
    if "text" in example:
        batch["text"] = TEXTS
    if "image" in example:
        batch["image"] = published.picture((3, *example["image"].shape[1:]))
    if request.param in PICTURED:
        places = np.full((3, num_places(found, batch)), multimodal.IMAGE)
        ends = np.full((3, 1), multimodal.LINE_BREAK)
        tokens = np.concatenate([places, PROMPTS, ends, TOKENS[:, :4]], axis=1)
        before = tokens.shape[1] - 4
    return Subject(found, {**batch, "target": tokens}, tokens, before)


def test_a_word_moves_what_is_said_from_it_on_in_its_row_alone(subject):
    both_ways = not subject.found.model.decoder.causal  # BERT
    for place in (subject.before, subject.before + 2):
        gradient = np.abs(subject(subject.one(0, place))[1][WORDS]).max(-1)
        row = gradient[subject.tokens[0]]
        assert row[place] > 0 and (row[place + 1 :] > 0).all() == both_ways, place
        assert both_ways or (row[place + 1 :] == 0).all(), place
        assert (row[subject.before : place + 1] > 0).any()
        others = [token for token in subject.tokens[1:].ravel() if token not in subject.tokens[0]]
        assert (gradient[[token for token in others if token != PAD]] == 0).all()


def test_what_padding_is_made_of_changes_nothing(subject):
    weight = subject.all(rows=3)
    logits, gradients = subject(weight)
    leaves = {name: np.array(leaf) for name, leaf in mapping.named(subject.variables).items()}
    for name in subject.words:
        leaves[name][PAD] = 1e3
    others, moved = subject(weight, mapping.unnamed(leaves))
    real = subject.tokens != PAD
    words = np.arange(logits.shape[-1]) != PAD
    np.testing.assert_array_equal(others[real][:, words], logits[real][:, words])
    for name, gradient in gradients.items():
        if name in subject.words:
            assert (gradient[PAD] == 0).all(), name
        np.testing.assert_array_equal(moved[name], gradient, err_msg=name)


def test_a_row_of_padding_alone_is_finite_and_counts_nothing(subject):
    weight = subject.all(rows=2)
    _, gradients = subject(weight)
    empty = {"target": np.where([[True], [True], [False]], subject.tokens, PAD)}
    if "text" in subject.batch:
        empty["text"] = np.where([[True], [True], [False]], subject.batch["text"], PAD)
    logits, others = subject(weight, **empty)
    scored = logits[0, subject.before] > np.finfo(np.float32).min  # those that may be written
    assert np.isfinite(logits[:2][subject.tokens[:2] != PAD][:, scored]).all()
    assert np.isfinite(logits[2][:, scored]).all()
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(others[name], gradient, err_msg=name)


def test_texts_packed_in_a_row_are_read_as_if_each_stood_alone_or_refused(subject):
    a, b = TOKENS[0, :4], TOKENS[1, :4]
    alike = {key: np.repeat(value[:1], 3, axis=0) for key, value in subject.batch.items()}

    @jax.jit
    def read(tokens, segment):
        batch = {**alike, "target": tokens, "segment": segment}
        return subject.found.model.apply(subject.variables, batch, train=False)

    if subject.before or subject.found.model.decoder.form.num_segments:
        with pytest.raises(ValueError, match="expected one text in a row"):
            read(TOKENS, np.zeros_like(TOKENS))
        return
    # Both packed, another first text packed, the second alone; the memory of all rows is the same.
    tokens = np.array([[*a, *b, PAD], [*a[:1], 25, *a[2:], *b, PAD], [*b] + [PAD] * 5])
    segment = np.array([[0] * 4 + [1] * 4 + [-1]] * 2 + [[0] * 4 + [-1] * 5])
    packed, changed, alone = np.asarray(read(tokens, segment))
    np.testing.assert_allclose(packed[4:8], alone[:4], atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(changed[4:8], packed[4:8])
    assert (changed[1:4] != packed[1:4]).any()
