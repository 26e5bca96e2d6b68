"""Every fusion against every check of fusion_checks, and without anything to fuse."""

import functools

import flax
import jax
import jax.numpy as jnp
import pytest

from tests.fusion.by_hand import ALL, IMAGE, TEXT, variables_of
from tests.invariants import fusion_checks
from vlm_jax.layers.attention import masked_softmax


@pytest.fixture(scope="module")
def fusions():
    return fusion_checks.Fusions()


@pytest.mark.parametrize("check", fusion_checks.CHECKS, ids=lambda check: check.__name__[6:])
def test_fusions(check, fusions):
    check(fusions)


def shape_of(fusion, image, text):
    def fused(image, text):
        return fusion.init_with_output(jax.random.key(0), image, text, train=False)[0]

    return jax.eval_shape(fused, image, text)


@pytest.mark.parametrize(("b", "n", "num_words"), [(0, 6, 4), (2, 0, 4), (2, 6, 0)])
def test_no_rows_no_places_and_no_words_are_no_error(b, n, num_words):
    image = IMAGE.replace(values=IMAGE.values[:b, :n], mask=IMAGE.mask[:b, :n])
    text = TEXT.replace(values=TEXT.values[:b, :num_words], mask=TEXT.mask[:b, :num_words])
    for name, fusion in ALL.items():
        if name != "film" or n:  # no places are not a grid
            found = shape_of(fusion, image, text)
            assert found.values.shape[:2] == found.mask.shape and len(found.mask) == b, name


def test_a_look_at_nothing_gives_nothing():
    nothing = masked_softmax(jnp.zeros((2, 0)), jnp.zeros((2, 0), bool))
    assert nothing.shape == (2, 0)


def test_numbers_may_be_halves():
    """The result is bfloat16 where the fusion is, whatever it was given."""
    for name in ("mcb", "mfb", "film", "cross_attention", "stacked_attention", "resampler"):
        found = shape_of(ALL[name].clone(dtype=jnp.bfloat16), IMAGE, TEXT)
        assert found.values.dtype == jnp.bfloat16, name


@pytest.mark.parametrize("name", [name for name in ALL if hasattr(ALL[name], "dropout_rate")])
def test_dropout_is_for_training_alone(name):
    fusion = ALL[name].clone(dropout_rate=0.5)
    variables = variables_of(fusion)

    def shape(**more):
        apply = functools.partial(fusion.apply, variables, IMAGE, TEXT, **more)
        return jax.eval_shape(apply).values.shape

    with pytest.raises(flax.errors.InvalidRngError):
        shape(train=True)
    assert shape(train=False) == shape(train=True, rngs={"dropout": jax.random.key(0)})
