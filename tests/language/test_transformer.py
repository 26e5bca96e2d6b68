import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.model_zoo import filled
from vlm_jax.language.transformer import (
    Form,
    Layer,
    TransformerDecoder,
    TransformerEncoder,
    in_prompt,
)
from vlm_jax.layers.positions import Rotary
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


def applied(module, variables, *arguments):
    """Compiled as one: operation by operation costs more."""
    return jax.jit(lambda variables: module.apply(variables, *arguments, train=False))(variables)


TURNED = (Layer(window=3, rotary=Rotary()), Layer(rotary=Rotary(base=100.0)))
DECODERS = {
    "cross_attention": {},
    "prefix": {"prefix": True},
    "rotary": {"prefix": True, "layers": TURNED, "form": Form(add_places=False)},
    "relative": {"relative": 8, "form": Form(add_places=False)},
}


@pytest.fixture(scope="module", params=DECODERS)
def read(request):
    """Logits [2 5 v] of TOKENS as a whole; in two chunks and in one; in single steps with a cache for four."""
    module = TransformerDecoder(**SIZES, **DECODERS[request.param])
    variables = variables_of(module, TOKENS, MEMORY)

    def apply(*arguments, **options):
        return module.apply(variables, *arguments, **options)

    def in_chunks(tokens, sizes):
        cache = apply(MEMORY, 2, 5, method="initial_cache")
        parts, start = [], 0
        for size in sizes:
            part, cache = apply(tokens[:, start : start + size], cache, MEMORY, method="extend")
            parts.append(part)
            start += size
        return jnp.concatenate(parts, axis=1)

    def in_steps(tokens):
        def body(cache, token):
            logits, cache = apply(token, cache, MEMORY, method="step")
            return cache, logits

        cache = apply(MEMORY, 2, 4, method="initial_cache")
        return jnp.swapaxes(jax.lax.scan(body, cache, tokens.T)[1], 0, 1)

    @jax.jit
    def run(tokens):
        whole = apply(tokens, MEMORY, train=False)
        return whole, in_chunks(tokens, (3, 2)), in_chunks(tokens, (5,)), in_steps(tokens)

    return run(jnp.asarray(TOKENS))


def test_a_prompt_may_be_read_in_chunks(read):
    whole, two, one, _ = read
    np.testing.assert_allclose(two, whole, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(one, whole, rtol=1e-4, atol=1e-4)


def test_a_step_beyond_the_cache_is_nan_and_up_to_it_exact(read):
    whole, _, _, steps = read
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


def test_texts_are_filled_up_to_a_length_that_must_be_given():
    module = TransformerEncoder(**SIZES, filled_with=2)
    with pytest.raises(ValueError, match=r"filled_with=2, max_length=None\).*give max_length"):
        variables_of(module, TOKENS)


def test_the_same_word_elsewhere_is_another_vector():
    module = TransformerEncoder(**SIZES)
    tokens = np.array([[5, 6, 5]])
    variables = variables_of(module, tokens)
    values = applied(module, variables, tokens).values[0]
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


IMAGE, END = 20, 21
# Two pictures' places, then a prompt that END closes, then the answer; padding on the left in one row.
PROMPTED = np.array(
    [[IMAGE, IMAGE, IMAGE, BOS, 5, END, 6, 7], [PAD, IMAGE, IMAGE, BOS, 9, END, 8, EOS]]
)


@pytest.fixture(scope="module")
def with_places():
    """A decoder whose text keeps places for the picture, and whose prompt sees all of itself."""
    module = TransformerDecoder(
        **SIZES, image_token=IMAGE, prefix_end=END, layers=TURNED, form=Form(add_places=False)
    )
    memory = MEMORY.replace(
        values=jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 16)), jnp.float32)
    )
    variables = variables_of(module, PROMPTED, memory)

    @jax.jit
    def run(tokens, values):
        seen = memory.replace(values=values)
        whole = module.apply(variables, tokens, seen, train=False)
        cache = module.apply(variables, seen, 2, 8, method="initial_cache")
        prompt, cache = module.apply(variables, tokens[:, :6], cache, seen, method="extend")
        parts = [prompt]
        for t in (6, 7):
            logits, cache = module.apply(variables, tokens[:, t], cache, seen, method="step")
            parts.append(logits[:, None])
        return whole, jnp.concatenate(parts, axis=1)

    return lambda tokens, values=memory.values: run(tokens, values), memory


def test_a_prompt_with_a_picture_and_steps_after_it_equal_the_whole(with_places):
    run, _ = with_places
    whole, parts = run(PROMPTED)
    real = PROMPTED != PAD
    np.testing.assert_allclose(parts[real], whole[real], rtol=1e-4, atol=1e-4)


def test_the_prompt_sees_all_of_itself_and_nothing_of_the_answer(with_places):
    run, _ = with_places
    before = run(PROMPTED)[0]
    prompt_changed = PROMPTED.copy()
    prompt_changed[0, 4] = 12
    assert np.abs(run(prompt_changed)[0] - before)[0, 0].max() > 1e-4
    answer_changed = PROMPTED.copy()
    answer_changed[:, 6] = 12
    np.testing.assert_array_equal(run(answer_changed)[0][:, :6], before[:, :6])


def test_a_prompt_in_two_pieces_gives_nan_and_its_end_may_be_written_again():
    module = TransformerDecoder(**SIZES, prefix_end=END)
    tokens = jnp.array([[BOS, 5, END, 6], [BOS, END, 7, END]])
    variables = variables_of(module, tokens, None)

    @jax.jit
    def halves(tokens):
        cache = module.apply(variables, None, 2, 4, method="initial_cache")
        first, cache = module.apply(variables, tokens[:, :2], cache, None, method="extend")
        second, _ = module.apply(variables, tokens[:, 2:], cache, None, method="extend")
        return jnp.concatenate([first, second], axis=1)

    found = halves(tokens)
    assert np.isnan(found[0, 2:]).all() and np.isfinite(found[0, :2]).all()
    whole = applied(module, variables, tokens, None)
    np.testing.assert_allclose(found[1], whole[1], rtol=1e-4, atol=1e-4)


def test_each_vector_of_the_memory_stands_in_its_own_place(with_places):
    """The logits of a place move most directly with its own vector: swapped vectors give other logits; a vector that is
    padding changes nothing."""
    run, memory = with_places
    before = run(PROMPTED)[0]
    swapped = memory.values[:, jnp.array([1, 0, 2])]
    assert np.abs(run(PROMPTED, swapped)[0] - before).max() > 1e-2
    under = memory.values.at[1, 2].set(1e3)
    np.testing.assert_array_equal(run(PROMPTED, under)[0], before)


def test_a_text_with_too_few_or_too_many_places_gives_nan_and_one_without_any_is_a_text(
    with_places,
):
    run, _ = with_places
    few, none = PROMPTED.copy(), PROMPTED.copy()
    few[0, 2] = 5
    none[none == IMAGE] = 5
    found = run(few)[0]
    assert np.isnan(found[0]).all() and np.isfinite(found[1, 1:]).all()
    assert np.isfinite(run(none)[0][0]).all()


def test_which_tokens_belong_to_the_prompt():
    tokens = jnp.array([[5, 9, 6, 9], [5, 6, 7, 8], [9, 5, 5, 5]])
    expected = [[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert in_prompt(tokens, 9).astype(int).tolist() == expected


def test_a_window_ends_what_a_word_sees():
    """Two layers that see three places: a word is seen four places later, not five."""
    layers = (Layer(window=3, rotary=Rotary()),)
    module = TransformerDecoder(**SIZES, layers=layers, form=Form(add_places=False))
    tokens = np.array([[5, 6, 7, 8, 9, 10, 11]])
    variables = variables_of(module, tokens, None)
    run = jax.jit(lambda tokens: module.apply(variables, tokens, None, train=False))
    changed = tokens.copy()
    changed[0, 0] = 12
    moved = np.abs(run(changed) - run(tokens))[0].max(-1)
    assert (moved[:5] > 1e-4).all() and (moved[5:] == 0).all()


def test_tokens_that_are_never_written_have_no_chance():
    module = TransformerDecoder(**SIZES, unscored=(PAD, BOS))
    variables = variables_of(module, TOKENS, None)
    chances = jax.nn.softmax(applied(module, variables, TOKENS, None))
    assert (chances[..., [PAD, BOS]] == 0).all()
    np.testing.assert_allclose(chances.sum(-1), 1, rtol=1e-5)


def test_a_causal_encoder_sees_nothing_behind():
    module = TransformerEncoder(**SIZES, causal=True, layers=TURNED, relative=8)
    tokens = np.array([[5, 6, 7, 8]])
    variables = variables_of(module, tokens)
    run = jax.jit(lambda tokens: module.apply(variables, tokens, train=False).values)
    before, after = run(tokens), run(np.array([[5, 6, 7, 9]]))
    np.testing.assert_array_equal(after[0, :3], before[0, :3])
    assert np.abs(after[0, 3] - before[0, 3]).max() > 1e-3


def test_what_stands_behind_the_causal_tokens_sees_them_and_each_other():
    """Three causal tokens, two that are not: what changes where one of them is another. Steps, and the last two in one
    piece, equal the whole."""
    module = TransformerDecoder(**SIZES, causal=False, num_causal=3, relative=8, max_length=5)
    variables = variables_of(module, TOKENS, MEMORY)

    @jax.jit
    def whole(tokens):
        return module.apply(variables, tokens, MEMORY, train=False)

    @jax.jit
    def in_pieces(tokens):
        cache = module.apply(variables, MEMORY, 2, 5, method="initial_cache")
        parts = []
        for t in range(3):
            logits, cache = module.apply(variables, tokens[:, t], cache, MEMORY, method="step")
            parts.append(logits[:, None])
        last, _ = module.apply(variables, tokens[:, 3:], cache, MEMORY, method="extend")
        return jnp.concatenate([*parts, last], axis=1)

    np.testing.assert_allclose(in_pieces(TOKENS), whole(TOKENS), rtol=1e-4, atol=1e-4)
    seen = []
    for place in range(5):
        changed = TOKENS.copy()
        changed[0, place] = 15
        seen.append(np.abs(whole(changed) - whole(TOKENS))[0].max(-1) > 1e-4)
    expected = [[1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1]]
    np.testing.assert_array_equal(np.array(seen), np.array(expected, bool))


def test_tokens_that_are_not_causal_have_no_steps_and_all_are_causal_already():
    module = TransformerDecoder(**SIZES, causal=False)
    with pytest.raises(ValueError, match="has no steps: it reads all tokens at once"):
        module.init(jax.random.key(0), None, 2, 5, method="initial_cache")
    with pytest.raises(ValueError, match="num_causal=3.*try causal=False"):
        variables_of(TransformerDecoder(**SIZES, num_causal=3), TOKENS, None)


def test_a_second_segment_begins_after_the_first_end():
    """Rows of the segments' table: [CLS] a [SEP] b [SEP] -> 0 0 0 1 1."""
    form = Form(num_segments=2, norm_words=True, scale_words=False)
    module = TransformerEncoder(**SIZES, form=form, pre_norm=False, max_length=8)
    tokens = np.array([[BOS, 5, EOS, 6, EOS]])
    variables = variables_of(module, tokens)
    run = jax.jit(lambda variables: module.apply(variables, tokens, train=False).values)
    table = variables["params"]["embedding"]["segments"]["table"]
    gradient = jax.jit(jax.grad(lambda v: run(v)[0, 1].sum()))(variables)
    assert np.abs(gradient["params"]["embedding"]["segments"]["table"]).max(-1).all()
    assert table.shape == (2, 16)
    one = tokens.copy()
    one[0, 2] = 7
    other = applied(module, variables, one).values
    assert np.abs(other - run(variables))[0, 3].max() > 1e-3
