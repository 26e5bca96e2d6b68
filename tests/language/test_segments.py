"""Several texts in a row are read as if each stood alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.model_zoo import filled
from vlm_jax.language.transformer import Form, Layer, TransformerDecoder
from vlm_jax.layers.attention import positions, segment_mask
from vlm_jax.layers.positions import Rotary
from vlm_jax.models.generator import Generator
from vlm_jax.tasks.generation import Generation
from vlm_jax.types import BOS, EOS, PAD, Features
from vlm_jax.vision.precomputed import Precomputed

SIZES = {"vocab_size": 23, "width": 16, "num_layers": 2, "num_heads": 4, "hidden": 32}
A, B = [BOS, 5, 6, 7, EOS], [BOS, 9, 10, EOS]
ROW = np.array([[*A, *B, PAD]])
SEGMENT = np.array([[0] * 5 + [1] * 4 + [-1]])
MEMORY = Features(
    values=jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 6)), jnp.float32),
    mask=jnp.array([[1, 1, 0]], bool),
)
TURNED = (Layer(window=3, rotary=Rotary()), Layer(rotary=Rotary(base=100.0)))
DECODERS = {
    "language model": ({"max_length": 12}, None),
    "cross_attention": ({}, MEMORY),
    "prefix, rotary, window": (
        {"prefix": True, "layers": TURNED, "form": Form(add_places=False)},
        MEMORY,
    ),
    "relative": ({"relative": 8, "form": Form(add_places=False)}, MEMORY),
}


@pytest.fixture(scope="module", params=DECODERS)
def read(request):
    """tokens, segment -> logits, in numpy."""
    fields, memory = DECODERS[request.param]
    module = TransformerDecoder(**SIZES, **fields)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), ROW, memory, train=False))
    variables = filled(shapes, seed=2)

    @functools.partial(jax.jit)
    def apply(tokens, segment):
        return module.apply(variables, tokens, memory, segment=segment, train=False)

    return lambda tokens, segment: np.asarray(apply(jnp.asarray(tokens), jnp.asarray(segment)))


def alone(tokens):
    """The text by itself, in a row of the same length."""
    row = np.full((1, ROW.shape[1]), PAD)
    row[0, : len(tokens)] = tokens
    return row, np.where(row == PAD, -1, 0)


def test_each_text_has_the_logits_that_it_has_alone(read):
    packed = read(ROW, SEGMENT)[0]
    np.testing.assert_allclose(packed[:5], read(*alone(A))[0, :5], atol=1e-5)
    np.testing.assert_allclose(packed[5:9], read(*alone(B))[0, :4], atol=1e-5)


def test_another_first_text_changes_nothing_of_the_second_exactly(read):
    other = ROW.copy()
    other[0, 1:4] = [20, 3, 11]
    packed, changed = read(ROW, SEGMENT)[0], read(other, SEGMENT)[0]
    np.testing.assert_array_equal(packed[5:9], changed[5:9])
    assert (packed[1:5] != changed[1:5]).any()


def test_positions_begin_anew_in_each_segment():
    kept = np.array([[0, 1, 1, 1, 1, 1, 0]], bool)
    segment = np.array([[0, 0, 0, 1, 1, 2, -1]])
    found = positions(jnp.asarray(kept), jnp.asarray(segment))
    assert found.tolist() == [[0, 0, 1, 0, 1, 0, 0]]
    mask = segment_mask(jnp.array([[0, 1]]), num_before=1)
    assert mask.astype(int).tolist() == [[[1, 1, 1], [1, 1, 0], [1, 0, 1]]]


def test_loss_and_gradient_of_packed_texts_are_those_of_rows_of_their_own():
    sizes = {**SIZES, "num_layers": 1}
    model = Generator(decoder=TransformerDecoder(**sizes), image_encoder=Precomputed())
    task = Generation(tokenizer=None, decoding=None)
    image = np.asarray(MEMORY.values)
    packed = {"image": image, "target": ROW, "segment": SEGMENT, "valid": np.ones(1, bool)}
    rows = np.concatenate([alone(A)[0], alone(B)[0]])
    apart = {"image": np.repeat(image, 2, 0), "target": rows, "valid": np.ones(2, bool)}
    variables = filled(
        jax.eval_shape(lambda: model.init(jax.random.key(0), packed, train=False)), seed=1
    )

    @jax.jit
    def measured(variables, batch):
        def loss(params):
            value, aux = task.loss(model, {"params": params}, batch, rngs={}, train=True)
            return value, aux.metrics["loss"].count

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    (ours, count), gradient = measured(variables, packed)
    (theirs, count_apart), gradient_apart = measured(variables, apart)
    assert count == count_apart == 7  # each word and EOS; no BOS, nothing across the border
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient, gradient_apart)


def test_a_decoder_with_one_prompt_a_row_refuses_segments():
    module = TransformerDecoder(**SIZES, prefix_end=7)
    with pytest.raises(ValueError, match="expected one text in a row"):
        jax.eval_shape(
            lambda: module.init(jax.random.key(0), ROW, None, segment=SEGMENT, train=False)
        )


class Words:
    vocab_size = SIZES["vocab_size"]


def test_a_packed_row_needs_an_end_for_each_of_its_texts():
    model = Generator(decoder=TransformerDecoder(**SIZES))
    task = Generation(tokenizer=Words(), decoding=None)
    batch = {"target": ROW, "segment": SEGMENT, "valid": np.ones(1, bool), "id": np.array([4])}
    task.check(model, batch)
    endless = ROW.copy()
    endless[0, 4] = 7
    with pytest.raises(ValueError, match="example id 4: its target has not exactly one EOS a text"):
        task.check(model, {**batch, "target": endless})
    with pytest.raises(ValueError, match="has not exactly one EOS a text"):
        task.check(model, {k: v for k, v in batch.items() if k != "segment"})
