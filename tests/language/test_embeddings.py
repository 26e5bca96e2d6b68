"""Tables whose rows are made of the digits of codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.language.embeddings import Embedding
from vlm_jax.layers.quantisation import FiniteScalarQuantiser
from vlm_jax.types import NUM_SPECIAL

LEVELS = (3, 4)


def test_codes_share_the_vectors_of_their_digits():
    """Code 7 of levels 3 and 4 is 1 + 2 * 3, as FiniteScalarQuantiser counts."""
    table = Embedding(vocab_size=NUM_SPECIAL + 12, width=5, digits=LEVELS)
    tokens = jnp.arange(NUM_SPECIAL + 12)
    rows, variables = jax.jit(table.init_with_output)(jax.random.key(0), tokens)
    params = variables["params"]
    assert params["digit_0"].shape == (3, 5) and params["digit_1"].shape == (4, 5)
    np.testing.assert_array_equal(rows[:NUM_SPECIAL], params["table"][:NUM_SPECIAL])
    expected = params["table"][NUM_SPECIAL + 7] + params["digit_0"][1] + params["digit_1"][2]
    np.testing.assert_allclose(rows[NUM_SPECIAL + 7], expected, rtol=1e-6)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5)), jnp.float32)
    np.testing.assert_allclose(
        table.apply(variables, x, method="logits"), x @ rows.T, rtol=1e-5, atol=1e-6
    )


def test_digits_are_those_of_the_quantiser():
    """Codes with the same number i have the same digit i."""
    values = FiniteScalarQuantiser(levels=LEVELS).apply({}, jnp.arange(12)[None], method="lookup")
    table = Embedding(vocab_size=NUM_SPECIAL + 12, width=2, digits=LEVELS)
    tokens = NUM_SPECIAL + jnp.arange(12)
    zeros = jax.tree.map(jnp.zeros_like, table.init(jax.random.key(0), tokens))["params"]
    for i, base in enumerate(LEVELS):
        numbers = jnp.arange(base, dtype=jnp.float32)[:, None] * jnp.ones((1, 2))
        rows = table.apply({"params": {**zeros, f"digit_{i}": numbers}}, tokens)
        order = np.unique(np.asarray(values[0, :, i]), return_inverse=True)[1]
        np.testing.assert_array_equal(rows[:, 0], order)


def test_the_first_values_have_the_deviation_that_was_asked_for():
    table = Embedding(vocab_size=NUM_SPECIAL + 4096, width=64, stddev=0.2, digits=(8, 8, 8, 8))
    tokens = NUM_SPECIAL + jnp.arange(4096)
    rows, _ = jax.jit(table.init_with_output)(jax.random.key(0), tokens)
    np.testing.assert_allclose(np.std(rows), 0.2, rtol=0.05)


def test_digits_that_do_not_make_the_vocabulary_are_refused():
    table = Embedding(vocab_size=15, width=2, digits=(3, 4))
    with pytest.raises(ValueError, match=r"expected vocab_size at least 16, the 12 codes"):
        table.init(jax.random.key(0), jnp.array([1]))


def test_tokens_beyond_the_codes_have_no_digits():
    table = Embedding(vocab_size=NUM_SPECIAL + 12 + 3, width=5, digits=LEVELS)
    tokens = jnp.arange(NUM_SPECIAL + 11, NUM_SPECIAL + 15)
    rows, variables = jax.jit(table.init_with_output)(jax.random.key(0), tokens)
    own = variables["params"]["table"][tokens]
    np.testing.assert_array_equal(rows[1:], own[1:])
    assert (rows[0] != own[0]).any()
