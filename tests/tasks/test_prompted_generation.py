"""Answers after a prompt: what is learned, and what is written, against the plain forward pass."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from tests.decoding.toys import compiled
from tests.model_zoo import FEATURES, NUM_PLACES, VOCAB_SIZE, filled, generators
from vlm_jax.decoding.beam_search import BeamSearch
from vlm_jax.decoding.sampling import Greedy, Sampling
from vlm_jax.language.transformer import Form, TransformerDecoder
from vlm_jax.models.generator import Generator
from vlm_jax.tasks.captioning import Captioning
from vlm_jax.tasks.self_critical import SelfCritical
from vlm_jax.types import BOS, EOS, PAD
from vlm_jax.vision.precomputed import Precomputed

SIZES = {"vocab_size": VOCAB_SIZE, "width": 16, "num_layers": 1, "num_heads": 2, "hidden": 16}
END = 9  # of the prompts that see themselves
DECODERS = {
    "cross_attention": {"max_length": 12},
    "prefix": {"prefix": True},
    "prompt that sees itself": {"prefix_end": END},
}
PROMPTS = [[BOS, 5, 6, END], [BOS, END]]
ANSWERS = [[7, 8, EOS], [11, EOS]]
LENGTH = 3
IMAGE = np.random.default_rng(0).normal(size=(2, NUM_PLACES, FEATURES)).astype(np.float32)


class Words:
    vocab_size = VOCAB_SIZE

    def decode(self, ids):
        return " ".join(map(str, ids))


def rows(texts, length, left=False):
    filled = np.full((len(texts), length), PAD, np.int32)
    for row, text in zip(filled, texts):
        row[length - len(text) if left else 0 :][: len(text)] = text
    return filled


def batch():
    target = rows([p + a for p, a in zip(PROMPTS, ANSWERS)], 8)
    predicted = np.zeros((2, 7), bool)
    for row, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS)):
        predicted[row, len(prompt) - 1 : len(prompt) + len(answer) - 1] = True
    return {
        "image": IMAGE,
        "target": target,
        "predicted": predicted,
        "prompt": rows(PROMPTS, 5, left=True),
        "valid": np.ones(2, bool),
        "id": np.arange(2),
    }


@pytest.fixture(scope="module", params=DECODERS)
def subject(request):
    """(model, variables, read), where read(row, tokens) gives log p of the token after them by a plain forward."""
    model = Generator(
        decoder=TransformerDecoder(**SIZES, **DECODERS[request.param]),
        image_encoder=Precomputed(),
    )
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch(), train=False))
    variables = filled(shapes, seed=3)

    @jax.jit
    def logits(image, target):
        found = model.apply(variables, {"image": image, "target": target}, train=False)
        return jax.nn.log_softmax(found)

    def read(row, tokens):
        padded = rows([tokens], 8)
        return np.asarray(logits(IMAGE[row : row + 1], padded))[0, len(tokens) - 1]

    return model, variables, read


def task():
    return Captioning(tokenizer=Words(), decoding=BeamSearch(max_length=LENGTH, width=1))


def test_the_loss_is_that_of_the_answers_after_their_prompts(subject):
    model, variables, read = subject
    loss, aux = jax.jit(lambda v: task().loss(model, v, batch(), rngs={}, train=False))(variables)
    total = 0.0
    for row, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS)):
        for place, token in enumerate(answer):
            total -= read(row, prompt + answer[:place])[token]
    assert aux.metrics["loss"].count == 5
    np.testing.assert_allclose(loss, total / 5, rtol=1e-5)


def test_what_is_written_follows_the_prompt_as_a_plain_forward_would(subject):
    model, variables, read = subject
    found = jax.jit(lambda v: task().predict(model, v, batch(), jax.random.key(0)))(variables)
    for row, prompt in enumerate(PROMPTS):
        written, log_prob = [], 0.0
        while len(written) < LENGTH and EOS not in written:
            log_p = read(row, prompt + written)
            allowed = log_p.copy()
            allowed[[PAD, BOS]] = -np.inf
            written.append(int(allowed.argmax()))
            log_prob += log_p[written[-1]]
        tokens = np.asarray(found.tokens)[row, 0]
        assert tokens[: len(written)].tolist() == written
        np.testing.assert_allclose(found.log_probs[row, 0], log_prob, rtol=1e-4, atol=1e-4)


def test_the_space_that_tokens_of_bytes_begin_with_is_none_of_the_answer():
    class Bytes(Words):
        def decode(self, ids):
            return "".join(f" w{i}" for i in ids)

    found = types.SimpleNamespace(tokens=np.array([[[7, 8]], [[9, 9]]]))
    spaced = dataclasses.replace(task(), tokenizer=Bytes())
    assert spaced.texts(found, {}) == ["w7 w8", "w9 w9"]


def test_a_prompt_with_too_few_places_for_its_picture_is_not_answered():
    decoder = TransformerDecoder(**SIZES, image_token=10)
    model = Generator(decoder=decoder, image_encoder=Precomputed())
    image = np.random.default_rng(0).normal(size=(3, 2, 16)).astype(np.float32)
    prompts = rows([[BOS, 10, 10, 5], [BOS, 10, 5], [BOS, 6, 5]], 4, left=True)
    given = {**batch(), "image": image, "prompt": prompts, "target": prompts}
    given |= {"valid": np.ones(3, bool), "id": np.arange(3)}
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), given, train=False))
    found = jax.jit(lambda v: task().predict(model, v, given, jax.random.key(0)))(filled(shapes))
    # Two places, one, and none: a text alone.
    assert np.isfinite(found.log_probs[:, 0]).tolist() == [True, False, True]
    assert (np.asarray(found.tokens)[1] == PAD).all()


def test_the_attention_is_that_of_what_was_written_alone():
    model = Generator(decoder=TransformerDecoder(**SIZES), image_encoder=Precomputed())
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch(), train=False))
    found = jax.jit(lambda v: task().predict(model, v, batch(), jax.random.key(0)))(filled(shapes))
    assert found.attention.shape == (2, LENGTH, NUM_PLACES)
    np.testing.assert_allclose(found.attention.sum(-1), 1.0, rtol=1e-5)


def test_a_decoder_that_reads_one_token_at_a_time_refuses_a_prompt():
    with pytest.raises(ValueError, match="has a prompt, which RecurrentDecoder cannot read"):
        task().check(generators()["init_inject"], batch())


@pytest.mark.parametrize("subject", ["prompt that sees itself"], indirect=True)
def test_what_is_drawn_and_taught_follows_the_prompt(subject):
    """-log p of the captions that were drawn, by a plain forward; the baseline's are the greedy ones."""
    model, variables, read = subject
    seen = []

    def reward(tokens, ids):
        seen.append(tokens)
        return np.zeros(tokens.shape[:2], np.float32)

    strategies = {
        "sampling": Sampling(max_length=LENGTH, num_results=2),
        "baseline": Greedy(max_length=LENGTH),
    }
    chosen = SelfCritical(tokenizer=Words(), decoding=None, reward=reward, **strategies)
    rngs = {"sampling": jax.random.key(0)}
    run = compiled(lambda v: chosen.loss(model, v, batch(), rngs=rngs, train=True)[1].metrics)
    found, total = jax.device_get(run(variables)), 0.0

    def log_probs(row, words):
        log_p = read(row, PROMPTS[row] + words).astype(np.float64)
        log_p[[PAD, BOS]] = -np.inf
        return log_p - np.log(np.exp(log_p).sum())

    for row, texts in enumerate(seen[-1].tolist()):
        for number, text in enumerate(texts):
            for place, token in enumerate(token for token in text if token != PAD):
                log_p = log_probs(row, text[:place])
                if number == 2:
                    assert token == log_p.argmax()
                else:
                    total -= log_p[token]
    np.testing.assert_allclose(found["loss"].total, total, rtol=1e-4)


@pytest.mark.parametrize("prompt, longest", [(False, 7), (True, 3)])
def test_more_is_not_written_than_there_are_learned_positions(prompt, longest):
    """After BOS seven tokens are read to write seven, after a prompt of five another two to write three."""
    given = batch()
    if not prompt:
        del given["prompt"], given["predicted"]
    model = Generator(
        decoder=TransformerDecoder(**SIZES, max_length=7), image_encoder=Precomputed()
    )
    for length in (longest, longest + 1):
        chosen = dataclasses.replace(task(), decoding=Greedy(max_length=length))
        if length == longest:
            chosen.check(model, given)
            continue
        with pytest.raises(ValueError, match="reads 8 tokens, expected no more than .* 7"):
            chosen.check(model, given)
    for changes in ({}, {"max_length": 7, "form": Form(add_places=False)}):
        free = Generator(decoder=TransformerDecoder(**SIZES, **changes))
        chosen.check(free, given)


def test_a_row_with_nothing_to_learn_is_refused():
    empty = batch()
    empty["predicted"][1] = False
    model = Generator(decoder=TransformerDecoder(**SIZES), image_encoder=Precomputed())
    with pytest.raises(ValueError, match="example id 1: none of its tokens is predicted"):
        task().check(model, empty)
    task().check(model, batch())
