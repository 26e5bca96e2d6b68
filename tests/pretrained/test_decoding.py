"""What must hold of every published decoder: steps with a cache equal the whole, padding on either side, causality."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.pretrained import multimodal, published
from vlm_jax.types import PAD

NAMES = (
    *("gpt2_b", "llama_b", "gemma_b", "gemma_2a", "gemma_3a", "t5_b"),
    *("blip_b", "blip_qa", "git_b", "ved_b"),
)
PICTURED = (
    "llava_b",
    "paligemma_b",
    "paligemma_2a",
    "idefics3_b",
)  # their texts keep places for the picture
LENGTH = 9
RIGHT = np.array(
    [[5, 6, 7, 8, 9, 10, 11, 12, 13], [14, 15, 16, 17, 18, PAD, PAD, PAD, PAD], [19] + [PAD] * 8]
)
LEFT = np.stack([np.roll(row, (row == PAD).sum()) for row in RIGHT])
REAL = RIGHT != PAD
TEXT = np.array([[1, 5, 9, 6, 2], [1, 7, 2, PAD, PAD], [1, 8, 20, 2, PAD]])


def seen(family):
    """What the decoder writes about: a picture, a text with padding, both or nothing."""
    (example,) = family.example
    batch = {"text": jnp.array(TEXT)} if "text" in example else {}
    if "image" in example:
        batch["image"] = jnp.array(published.picture((3, *example["image"].shape[1:])))
    return batch


@pytest.fixture(scope="module", params=NAMES)
def run(request, tmp_path_factory):
    """tokens -> logits of the whole, of a prompt read in two pieces and of single steps behind it."""
    found = published.loaded(request.param, tmp_path_factory.mktemp("published"))
    batch = seen(found.family)

    def apply(*arguments, method):
        return found.model.apply(found.variables, *arguments, method=method)

    @jax.jit
    def computed(tokens):
        whole = found.model.apply(found.variables, {**batch, "target": tokens}, train=False)
        memory = found.model.apply(found.variables, batch, train=False, method="encode")
        cache = apply(memory, 3, LENGTH, method="initial_cache")

        first, cache = apply(tokens[:, :3], cache, memory, method="extend")
        second, cache = apply(tokens[:, 3:5], cache, memory, method="extend")

        def body(cache, token):
            logits, cache = apply(token, cache, memory, method="step")
            return cache, logits

        cache, steps = jax.lax.scan(body, cache, tokens[:, 5:].T)
        beyond, _ = apply(tokens[:, 0], cache, memory, method="step")
        parts = jnp.concatenate([first, second, jnp.swapaxes(steps, 0, 1)], axis=1)
        return whole, parts, beyond

    return computed


def test_pieces_and_steps_equal_the_whole_and_beyond_the_cache_is_nan(run):
    for tokens in (RIGHT, LEFT):
        whole, parts, beyond = run(tokens)
        real = tokens != PAD
        np.testing.assert_allclose(parts[real], whole[real], rtol=1e-4, atol=1e-4)
        assert np.isnan(beyond).all()


def test_padding_on_the_left_equals_padding_on_the_right(run):
    right, left = run(RIGHT)[0], run(LEFT)[0]
    np.testing.assert_allclose(left[LEFT != PAD], right[REAL], rtol=1e-4, atol=1e-4)


def test_words_behind_change_nothing_before_them(run):
    before = np.asarray(run(RIGHT)[0])
    for t in (1, 4, 8):
        changed = RIGHT.copy()
        changed[0, t] = 25
        after = np.asarray(run(changed)[0])
        np.testing.assert_array_equal(after[0, :t], before[0, :t])
        assert (after[0, t] != before[0, t]).any()
        np.testing.assert_array_equal(after[1:], before[1:])


# ---- a picture within the text


def num_places(found, batch) -> int:
    """How many places a text has to keep for its picture."""
    encode = lambda: found.model.apply(found.variables, batch, train=False, method="encode")  # noqa: E731
    return jax.eval_shape(encode).mask.shape[1]


@pytest.fixture(scope="module", params=PICTURED)
def asked(request, tmp_path_factory):
    """(answers -> logits of the whole and of a prompt in one piece, then steps, and one beyond the cache; the prompts;
    whether a prompt sees all of itself)"""
    found = published.loaded(request.param, tmp_path_factory.mktemp("published"))
    (example,) = found.family.example
    batch = {"image": jnp.array(published.picture((3, *example["image"].shape[1:])))}

    def apply(*arguments, method):
        return found.model.apply(found.variables, *arguments, method=method)

    places = [multimodal.IMAGE] * num_places(found, batch)
    prompt = np.array([[*places, 1, 5, 66, multimodal.LINE_BREAK]] * 3)

    def computed(tokens, first):
        whole = found.model.apply(found.variables, {**batch, "target": tokens}, train=False)
        memory = found.model.apply(found.variables, batch, train=False, method="encode")
        cache = apply(memory, 3, tokens.shape[1], method="initial_cache")
        parts, cache = apply(tokens[:, :first], cache, memory, method="extend")

        def body(cache, token):
            logits, cache = apply(token, cache, memory, method="step")
            return cache, logits

        cache, steps = jax.lax.scan(body, cache, tokens[:, first:].T)
        beyond, _ = apply(tokens[:, -1], cache, memory, method="step")
        return whole, jnp.concatenate([parts, jnp.swapaxes(steps, 0, 1)], axis=1), beyond

    whole_prompt = found.model.decoder.prefix_end is not None
    assert whole_prompt == request.param.startswith("paligemma")
    return jax.jit(computed, static_argnums=1), prompt, whole_prompt


ANSWERS = np.array([[11, 60, 13, 14], [15, 7, PAD, PAD], [16, PAD, PAD, PAD]])


def test_behind_a_picture_and_a_prompt_steps_equal_the_whole_on_either_side_of_padding(asked):
    run, prompt, _ = asked
    right = np.concatenate([prompt, ANSWERS], axis=1)
    left = np.stack([np.roll(row, (row == PAD).sum()) for row in right])
    found = []
    for tokens in (right, left):
        # The prompt in one piece, wherever it ends: with words of some rows' answers.
        whole, parts, beyond = run(tokens, prompt.shape[1] + 3)
        real = tokens != PAD
        np.testing.assert_allclose(parts[real], whole[real], rtol=1e-4, atol=1e-4)
        assert np.isnan(beyond).all()
        found.append(np.asarray(whole)[real])
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-4)


def test_places_of_a_picture_may_be_read_in_pieces_where_the_prompt_is_read_from_left_to_right(
    asked,
):
    run, prompt, whole_prompt = asked
    tokens = np.concatenate([prompt, ANSWERS], axis=1)
    first = (prompt[0] == multimodal.IMAGE).sum() // 2
    whole, parts, _ = run(tokens, int(first))
    if whole_prompt:  # PaliGemma's has to be given in one piece
        assert np.isnan(parts[:, prompt.shape[1] - 1]).all()
        return
    real = tokens != PAD
    np.testing.assert_allclose(parts[real], whole[real], rtol=1e-4, atol=1e-4)


def test_of_an_answer_words_behind_change_nothing_before_them(asked):
    run, prompt, _ = asked
    tokens = np.concatenate([prompt, ANSWERS], axis=1)
    before = np.asarray(run(tokens, prompt.shape[1] + 3)[0])
    for t in (prompt.shape[1], prompt.shape[1] + 3):
        changed = tokens.copy()
        changed[0, t] = 25
        after = np.asarray(run(changed, prompt.shape[1] + 3)[0])
        np.testing.assert_array_equal(after[0, :t], before[0, :t])
        assert (after[0, t] != before[0, t]).any()
        np.testing.assert_array_equal(after[1:], before[1:])


def test_of_a_prompt_the_last_word_is_seen_by_the_first_place_in_paligemma_alone(asked):
    run, prompt, whole_prompt = asked
    tokens = np.concatenate([prompt, ANSWERS], axis=1)
    changed, last = tokens.copy(), prompt.shape[1] - 2
    changed[0, last] = 25
    before, after = (np.asarray(run(t, prompt.shape[1] + 3)[0]) for t in (tokens, changed))
    assert (after[0, last] != before[0, last]).any()
    assert (after[0, 0] != before[0, 0]).any() == whole_prompt
