import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.model_zoo import FEATURES, NUM_PLACES, generators
from vlm_jax import config
from vlm_jax.fusion.concat import Concat
from vlm_jax.fusion.elementwise import Sum
from vlm_jax.language.recurrent import (
    InitInject,
    Merge,
    ParInject,
    PreInject,
    RecurrentDecoder,
    RecurrentEncoder,
)
from vlm_jax.layers.recurrent import GRU
from vlm_jax.models.generator import Generator
from vlm_jax.train.state import count_parameters
from vlm_jax.vision.precomputed import Precomputed

BATCH = {
    "image": jnp.ones((2, NUM_PLACES, FEATURES)),
    "text": jnp.array([[5, 6, 0], [7, 8, 9]]),
    "target": jnp.array([[1, 5, 2], [1, 2, 0]]),
}
DECODER = RecurrentDecoder(vocab_size=10, width=4, embedding_width=4)
TEXT_ENCODER = RecurrentEncoder(vocab_size=10, width=3, embedding_width=4)


def memory_of(model):
    @jax.jit
    def encode():
        return model.init_with_output(jax.random.key(0), BATCH, train=False, method="encode")[0]

    return encode()


def test_the_memory_is_what_the_encoders_and_the_fusion_make():
    assert memory_of(Generator(decoder=DECODER)) is None
    image = memory_of(Generator(decoder=DECODER, image_encoder=Precomputed()))
    np.testing.assert_array_equal(image.values, BATCH["image"])
    text = memory_of(Generator(decoder=DECODER, text_encoder=TEXT_ENCODER))
    assert text.values.shape == (2, 3, 6)
    np.testing.assert_array_equal(text.mask, [[1, 1, 0], [1, 1, 1]])
    both = memory_of(
        Generator(
            decoder=DECODER,
            image_encoder=Precomputed(),
            text_encoder=TEXT_ENCODER,
            fusion=Sum(width=6),
        )
    )
    np.testing.assert_array_equal(both.mask, text.mask)


def test_two_encoders_without_a_fusion_are_refused():
    model = Generator(decoder=DECODER, image_encoder=Precomputed(), text_encoder=TEXT_ENCODER)
    with pytest.raises(ValueError, match=r"fusion=Concat\(\)"):
        memory_of(model)


@pytest.mark.parametrize(
    "encoder, inject, given",
    [(None, InitInject(), "no memory"), (Precomputed(), None, "no `inject`")],
)
def test_a_memory_without_a_way_in_is_refused_and_the_reverse(encoder, inject, given):
    model = Generator(decoder=DECODER.clone(inject=inject), image_encoder=encoder)
    with pytest.raises(ValueError, match=given):
        model.init(jax.random.key(0), BATCH, train=False)


@pytest.mark.parametrize(
    "inject, width, millions",
    [
        (Merge(fusion=Concat()), 128, 1.60),
        (InitInject(), 512, 6.27),
        (PreInject(), 512, 6.27),
        (ParInject(fusion=Concat()), 256, 2.94),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, object) else str(value),
)
def test_parameters_are_those_of_tanti_et_al(inject, width, millions):
    """Their table 4: 4096 image features, a GRU, 2,539 words, start and end."""
    decoder = RecurrentDecoder(
        cell=GRU(), vocab_size=2541, width=width, embedding_width=width, inject=inject
    )
    model = Generator(decoder=decoder, image_encoder=Precomputed())
    batch = {**BATCH, "image": jnp.zeros((2, 1, 4096))}
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))
    assert abs(count_parameters(shapes["params"]) / 1e6 - millions) < 0.01


@pytest.mark.parametrize("name", generators())
def test_a_model_is_its_own_configuration(name):
    model = generators()[name]
    again = config.from_json(config.to_json(model))
    assert again == model and hash(again) == hash(model)


@pytest.mark.parametrize("name", generators())
def test_every_leaf_of_a_cache_has_the_batch_first_and_init_makes_only_params(name):
    model = generators()[name]
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), BATCH, train=False))
    assert set(shapes) == {"params"}

    def cache(variables):
        memory = model.apply(variables, BATCH, train=False, method="encode")
        return model.apply(variables, memory, 2, 5, method="initial_cache")

    for leaf in jax.tree.leaves(jax.eval_shape(cache, shapes)):
        assert leaf.shape[0] == 2


@pytest.mark.parametrize("name", generators())
def test_logits_are_float32_whatever_computes_them(name):
    def in_bfloat16(node):
        fields = {field.name for field in config.fields(node)}
        return node.clone(dtype=jnp.bfloat16) if "dtype" in fields else node

    model = config.transform(generators()[name], in_bfloat16)

    def run():
        logits, variables = model.init_with_output(jax.random.key(0), BATCH, train=False)
        memory = model.apply(variables, BATCH, train=False, method="encode")
        cache = model.apply(variables, memory, 2, 5, method="initial_cache")
        step, after = model.apply(variables, BATCH["target"][:, 0], cache, memory, method="step")
        return logits, step, variables, cache, after

    logits, step, variables, cache, after = jax.eval_shape(run)
    assert logits.dtype == step.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert jax.tree.map(lambda leaf: leaf.dtype, cache) == jax.tree.map(
        lambda leaf: leaf.dtype, after
    )
