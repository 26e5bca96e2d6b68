import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.model_zoo import filled
from vlm_jax.language.transformer import TransformerDecoder, TransformerEncoder
from vlm_jax.types import BOS, EOS, PAD, Features

SIZES = {"vocab_size": 23, "width": 16, "num_layers": 2, "num_heads": 4, "hidden": 32}
TOKENS = np.array([[BOS, 5, 6, 7, 8], [BOS, 9, 10, EOS, PAD]])
MEMORY = Features(
    values=jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 6)), jnp.float32),
    mask=jnp.array([[1, 1, 1], [1, 1, 0]], bool),
)


def variables_of(module, *arguments):
    return filled(
        jax.eval_shape(lambda: module.init(jax.random.key(0), *arguments, train=False)), seed=2
    )


@pytest.fixture(scope="module", params=[False, True], ids=["cross_attention", "prefix"])
def decoder(request):
    module = TransformerDecoder(**SIZES, prefix=request.param)
    variables = variables_of(module, TOKENS, MEMORY)

    def apply(*arguments, **options):
        return module.apply(variables, *arguments, **options)

    return apply


@pytest.mark.parametrize("chunks", [(3, 2), (5,)], ids=str)
def test_a_prompt_may_be_read_in_chunks(decoder, chunks):
    @jax.jit
    def run(tokens):
        whole = decoder(tokens, MEMORY, train=False)
        cache = decoder(MEMORY, 2, 5, method="initial_cache")
        parts, start = [], 0
        for size in chunks:
            part, cache = decoder(tokens[:, start : start + size], cache, MEMORY, method="extend")
            parts.append(part)
            start += size
        return whole, jnp.concatenate(parts, axis=1)

    whole, parts = run(TOKENS)
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-4)


def test_a_step_beyond_the_cache_is_nan_and_up_to_it_exact(decoder):
    @jax.jit
    def run(tokens):
        cache = decoder(MEMORY, 2, 4, method="initial_cache")
        logits = []
        for t in range(5):
            found, cache = decoder(tokens[:, t], cache, MEMORY, method="step")
            logits.append(found)
        return jnp.stack(logits, axis=1), decoder(tokens, MEMORY, train=False)

    steps, whole = run(TOKENS)
    np.testing.assert_allclose(steps[:, :4], whole[:, :4], rtol=1e-4, atol=1e-4)
    assert np.isnan(steps[:, 4]).all()


def test_the_prefix_sees_all_of_itself_and_nothing_of_the_text():
    module = TransformerDecoder(**SIZES, prefix=True)
    variables = variables_of(module, TOKENS, MEMORY)

    @jax.jit
    def keys(values):
        """Of the first prefix place in the second block: what the first block made of it."""
        memory = MEMORY.replace(values=values)
        cache = module.apply(variables, memory, 2, 5, method="initial_cache")
        return cache["blocks"][1].keys[:, 0]

    before = keys(MEMORY.values)
    last_moved = keys(MEMORY.values.at[0, 2].add(1.0))
    assert np.abs(last_moved - before)[0].max() > 1e-4
    padding_moved = keys(MEMORY.values.at[1, 2].add(1.0))
    np.testing.assert_array_equal(padding_moved, before)
    # The cache is made before any text is known, and steps from it equal the whole
    # (tests/language/test_decoders.py): so no prefix place sees text.


def test_learned_positions_end_where_they_end():
    module = TransformerDecoder(**SIZES, max_length=4)
    short = TOKENS[:, :4]
    variables = variables_of(module, short, MEMORY)
    with pytest.raises(ValueError, match="table of 4"):
        module.apply(variables, TOKENS, MEMORY, train=False)


def test_an_encoder_reads_both_ways_past_padding_on_either_side():
    module = TransformerEncoder(**SIZES)
    right = np.array([[5, 6, 7, 0, 0], [5, 6, 7, 8, 9]])
    left = np.array([[0, 0, 5, 6, 7], [5, 6, 7, 8, 9]])
    variables = variables_of(module, right)
    run = jax.jit(lambda tokens: module.apply(variables, tokens, train=False))
    found, moved = run(right), run(left)
    np.testing.assert_allclose(found.values[0, :3], moved.values[0, 2:], rtol=1e-4, atol=1e-4)
    assert (found.values[0, 3:] == 0).all() and found.mask.tolist() == (right != PAD).tolist()
    changed = run(np.array([[5, 6, 8, 0, 0], [5, 6, 7, 8, 9]]))
    assert np.abs(changed.values[0, 0] - found.values[0, 0]).max() > 1e-3
    np.testing.assert_array_equal(changed.values[1], found.values[1])


def test_the_same_word_elsewhere_is_another_vector():
    module = TransformerEncoder(**SIZES)
    tokens = np.array([[5, 6, 5]])
    variables = variables_of(module, tokens)
    values = module.apply(variables, tokens, train=False).values[0]
    assert np.abs(values[0] - values[2]).max() > 1e-3


def test_parameters_of_the_base_model_of_vaswani_et_al():
    """Their table 3: 65 million with a joint vocabulary of about 37,000 that is used three times."""
    sizes = {"width": 512, "num_layers": 6, "num_heads": 8, "hidden": 2048, "vocab_size": 37000}
    encoder = TransformerEncoder(**sizes, pre_norm=False)
    decoder = TransformerDecoder(**sizes, pre_norm=False)
    memory = Features(values=jnp.zeros((1, 2, 512)), mask=jnp.ones((1, 2), bool))
    tokens = jnp.ones((1, 2), jnp.int32)
    key = jax.random.key(0)
    shapes = jax.eval_shape(
        lambda: (
            encoder.init(key, tokens, train=False),
            decoder.init(key, tokens, memory, train=False),
        )
    )
    total = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    shared = 37000 * 512  # the encoder's table is the decoder's there
    assert total - shared - 37000 == 63_082_496 and abs((total - shared) / 65e6 - 1) < 0.03
