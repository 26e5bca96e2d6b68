import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.model_zoo import filled
from vlm_jax.decoding.sampling import Greedy
from vlm_jax.language.recurrent import RecurrentDecoder
from vlm_jax.language.transformer import TransformerDecoder
from vlm_jax.layers.recurrent import LSTM
from vlm_jax.models.generator import Generator
from vlm_jax.tasks.language_modelling import LanguageModelling
from vlm_jax.types import BOS, EOS, PAD

V = 16
MODELS = {
    "lstm": Generator(
        decoder=RecurrentDecoder(
            cell=LSTM(), vocab_size=V, width=6, embedding_width=6, num_layers=2, tied=True
        )
    ),
    "transformer": Generator(
        decoder=TransformerDecoder(vocab_size=V, width=8, num_layers=2, num_heads=2, hidden=16)
    ),
}
TASK = LanguageModelling(tokenizer=None, decoding=Greedy(max_length=5))
PROMPTS = (
    [BOS, 5, 6, 7, 8, EOS, PAD],
    [BOS, 9, EOS, PAD, PAD, PAD, PAD],
    [BOS, EOS, PAD, PAD, PAD, PAD, PAD],
    [BOS, 9, 10, 11, 12, 13, EOS],
)


class Logits:
    """A model that finds each of `V` tokens equally probable."""

    @staticmethod
    def apply(variables, batch, *, train, rngs, mutable):
        return jnp.zeros((*batch["target"].shape, V)), {}


def test_bits_per_byte_by_hand():
    """7 tokens of log2 16 = 4 bits in 10 bytes; a row that is not valid has neither tokens nor bytes."""
    batch = {
        "target": np.array([[BOS, 5, 6, EOS, 7], [BOS, 5, 6, EOS, PAD], [1, 1, 1, 1, 1]]),
        "bytes": np.array([6, 4, 100]),
        "valid": np.array([True, True, False]),
    }
    metrics = TASK.loss(Logits, {}, batch, rngs={}, train=False)[1].metrics
    assert float(metrics["loss"].count) == 7
    np.testing.assert_allclose(metrics["loss"].value(), np.log(16), rtol=1e-6)
    np.testing.assert_allclose(metrics["bits_per_byte"].value(), 7 * 4 / 10, rtol=1e-6)
    two = metrics["bits_per_byte"] + metrics["bits_per_byte"]
    np.testing.assert_allclose(two.value(), 2.8, rtol=1e-6)


def test_what_is_only_read_is_not_counted():
    predicted = np.array([[False, False, True, True]])
    batch = {"target": np.array([[BOS, 5, 6, EOS, 7]]), "valid": np.array([True])}
    batch |= {"predicted": predicted, "bytes": np.array([8])}
    metrics = TASK.loss(Logits, {}, batch, rngs={}, train=False)[1].metrics
    assert float(metrics["loss"].count) == 2
    np.testing.assert_allclose(metrics["bits_per_byte"].value(), 1.0, rtol=1e-6)


@pytest.fixture(scope="module", params=MODELS)
def subject(request):
    model = MODELS[request.param]
    batch = {"target": jnp.ones((1, 3), int)}
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))
    variables = filled(shapes)
    predict = jax.jit(lambda prompt: TASK.predict(model, variables, {"prompt": prompt}, None))
    forward = jax.jit(lambda x: model.apply(variables, {"target": x}, train=False))
    return predict, forward


def test_a_prompt_is_gone_on_from_as_a_full_forward_would(subject):
    """After EOS and every word of the prompt, the argmax; however the prompts of a batch differ in length."""
    predict, forward = subject
    found = predict(np.array(PROMPTS))
    for row, prompt in enumerate(PROMPTS):
        read = [EOS, *(token for token in prompt if token > EOS)]
        total = 0.0
        for token in found.tokens[row, 0].tolist()[: int(found.lengths[row, 0])]:
            padded = np.array([read + [PAD] * (12 - len(read))])
            logits = np.array(forward(padded)[0, len(read) - 1])
            log_p = logits - np.logaddexp.reduce(logits)
            total += log_p[token]
            logits[[PAD, BOS]] = -np.inf
            assert logits.max() - logits[token] < 1e-4
            read.append(token)
        np.testing.assert_allclose(found.log_probs[row, 0], total, rtol=1e-3, atol=1e-4)


def test_every_word_of_a_prompt_matters_the_last_one_too(subject):
    predict, _ = subject
    before = predict(np.array(PROMPTS)).log_probs[:, 0]
    for column in range(1, 6):
        changed = np.array(PROMPTS)
        word = changed[:, column] > EOS
        changed[word, column] = 15
        after = predict(changed).log_probs[:, 0]
        assert (np.abs(after - before)[word] > 1e-5).all()
        np.testing.assert_array_equal(after[~word], before[~word])


class Words:
    vocab_size = V


def test_tokens_beyond_the_vocabulary_are_refused():
    task = dataclasses.replace(TASK, tokenizer=Words())
    task.check(MODELS["lstm"], {"target": np.array([[BOS, 5, V - 1]])})
    for wrong in (-1, V):
        with pytest.raises(ValueError, match="vocab_size"):
            task.check(MODELS["lstm"], {"target": np.array([[BOS, wrong, 5]])})
    with pytest.raises(ValueError, match="same number"):
        other = Generator(decoder=RecurrentDecoder(vocab_size=9, width=2, embedding_width=2))
        task.check(other, {"target": np.array([[BOS, 5]])})
