import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.invariants import copying_checks
from vlm_jax.language.copying import CopyableText, CopyingTransformer, PointerGenerator, places_of
from vlm_jax.language.recurrent import RecurrentEncoder
from vlm_jax.types import UNK, Features


@pytest.fixture(scope="module")
def pointer():
    return copying_checks.pointer()


@pytest.fixture(scope="module")
def transformer():
    return copying_checks.transformer()


@pytest.mark.parametrize("check", copying_checks.CHECKS, ids=lambda check: check.__name__[6:])
def test_a_pointer_generator(check, pointer):
    check(pointer)


@pytest.mark.parametrize(
    "check", copying_checks.TRANSFORMER_CHECKS, ids=lambda check: check.__name__[6:]
)
def test_a_copying_transformer(check, transformer):
    check(transformer)


def test_a_copying_transformer_looks_at_its_memory_in_every_block():
    sizes = {"vocab_size": 9, "width": 4, "num_layers": 1, "num_heads": 2, "hidden": 4}
    memory = Features(values=jnp.zeros((1, 2, 3)), mask=jnp.ones((1, 2), bool))
    for wrong in ({"prefix": True}, {"causal": False}, {"image_token": 4}):
        init = functools.partial(CopyingTransformer(**sizes, **wrong).init, train=False)
        with pytest.raises(ValueError, match="every block looks at"):
            jax.eval_shape(init, jax.random.key(0), jnp.array([[1]]), memory)


def test_the_first_of_like_places_stands_for_all():
    memory = Features(
        values=jnp.zeros((1, 5, 1)),
        mask=jnp.array([[1, 1, 1, 1, 0]], bool),
        tokens=jnp.array([[7, 8, 7, 0, 8]]),
    )
    rows, alike = places_of(memory, 20)
    assert rows.tolist() == [[7, 8, 22, 23, 24]]
    expected = np.zeros((5, 5), bool)
    expected[np.ix_([0, 2], [0, 2])] = expected[1, 1] = True
    np.testing.assert_array_equal(alike[0], expected)


def test_the_encoder_reads_unknown_words_as_unk_and_hands_on_their_rows():
    encoder = RecurrentEncoder(vocab_size=10, width=3, embedding_width=4)
    module = CopyableText(encoder=encoder, vocab_size=10)
    tokens = jnp.array([[5, 11, 10, 0]])

    @jax.jit
    def run():
        found, variables = module.init_with_output(jax.random.key(0), tokens, train=False)
        inner = {"params": variables["params"]["encoder"]}
        return found, encoder.apply(inner, jnp.array([[5, UNK, UNK, 0]]), train=False)

    found, expected = run()
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.mask, [[1, 1, 1, 0]])
    np.testing.assert_array_equal(found.tokens, tokens)


@pytest.mark.parametrize(
    "decoder",
    [
        PointerGenerator(vocab_size=9, width=4, embedding_width=4, attention_width=4),
        CopyingTransformer(vocab_size=9, width=4, num_layers=1, num_heads=2, hidden=4),
    ],
)
def test_a_memory_without_tokens_is_refused(decoder):
    memory = Features(values=jnp.zeros((1, 2, 3)), mask=jnp.ones((1, 2), bool))
    with pytest.raises(ValueError, match=r"text_encoder=CopyableText"):
        jax.eval_shape(
            lambda: decoder.init(jax.random.key(0), jnp.array([[1]]), memory, train=False)
        )
