"""Weights in int8: by hand, by their bound, by their size, and by what a model says with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import model_zoo
from tests.train import toys
from vlm_jax import config
from vlm_jax.decoding.sampling import Greedy
from vlm_jax.tasks.generation import write
from vlm_jax.train.int8 import Int8, dequantised, in_int8, quantised, size_in_bytes
from vlm_jax.train.lora import Lora
from vlm_jax.train.state import named_leaves

IMAGE = np.random.default_rng(0).normal(size=(2, model_zoo.NUM_PLACES, model_zoo.FEATURES))
BATCH = {"image": IMAGE.astype(np.float32), "target": np.ones((2, 5), np.int32)}
MODEL = model_zoo.generators()["transformer"]


def read(model, variables, batch=BATCH):
    return model.apply(variables, batch, train=False)


@pytest.fixture(scope="module")
def small():
    """(plain variables, model in int8, its variables)."""
    shapes = jax.eval_shape(lambda: MODEL.init(jax.random.key(0), BATCH, train=False))
    variables = model_zoo.filled(shapes)
    return variables, *in_int8(MODEL, variables, read)


def test_a_kernel_by_hand():
    kernel = jnp.array([[1.27, 0.0, -5.0], [-0.635, 0.0, 2.5]])
    values, scale = quantised(kernel, (0,))
    assert values.tolist() == [[127, 0, -127], [-64, 0, 64]]  # halves to the even: -63.5 and 63.5
    np.testing.assert_allclose(scale, [[0.01, 1.0, 5 / 127]], rtol=1e-6)
    assert values.dtype == jnp.int8 and dequantised(values, scale).dtype == jnp.float32


def test_no_value_moves_by_more_than_half_a_scale_of_its_output(small):
    plain, model, variables = small
    before, after = named_leaves(plain["params"]), named_leaves(model.plain(variables)["params"])
    held = named_leaves(variables["params"])
    assert before.keys() == after.keys()
    for name in before:
        if f"{name}/scale" not in held:
            np.testing.assert_array_equal(before[name], after[name])
            continue
        scale = np.asarray(held[f"{name}/scale"])
        assert (np.abs(before[name] - after[name]) <= 0.5001 * scale).all(), name
    moved = {name for name in before if (before[name] != after[name]).any()}
    assert all(name.endswith(("kernel", "table")) for name in moved)


def test_each_output_has_a_scale_and_each_row_of_a_table(small):
    shapes = {n: x.shape for n, x in named_leaves(small[2]["params"]).items() if "scale" in n}
    attention = "decoder/blocks_0/self_attention"
    assert shapes[f"{attention}/query/kernel/scale"] == (1, 4, 4)  # [in heads head_width]
    assert shapes[f"{attention}/output/kernel/scale"] == (1, 1, 16)  # [heads head_width out]
    assert shapes["decoder/blocks_0/mlp/hidden_layer/kernel/scale"] == (1, 32)
    assert shapes["decoder/embedding/words/table/scale"] == (model_zoo.VOCAB_SIZE, 1)


def test_a_large_layer_takes_a_quarter_of_the_memory():
    model = toys.Model(width=256, vocab_size=256)
    batch = next(toys.Pipeline().batches())[1]
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))
    variables = model_zoo.filled(shapes)
    assert size_in_bytes(
        in_int8(model, variables, lambda m, v: read(m, v, batch))[1]
    ) < 0.27 * size_in_bytes(variables)


def test_every_way_into_the_model_gives_what_the_rounded_weights_give(small):
    _, model, variables = small
    plain = model.plain(variables)

    @jax.jit
    def both(variables, plain):
        def found(model, variables):
            memory = model.apply(variables, BATCH, train=False, method="encode")
            written = write(model, variables, memory, Greedy(max_length=4), batch_size=2)
            return model.apply(variables, BATCH, train=False), written.tokens

        return found(model, variables), found(MODEL, plain)

    (logits, tokens), (wanted, wanted_tokens) = both(variables, plain)
    np.testing.assert_allclose(logits, wanted, atol=1e-5)
    np.testing.assert_array_equal(tokens, wanted_tokens)


def test_a_model_with_low_rank_updates_is_merged_first():
    adapted = Lora(model=MODEL, rules=("query/kernel$",), rank=2)
    shapes = jax.eval_shape(lambda: adapted.init(jax.random.key(0), BATCH, train=False))
    variables = model_zoo.filled(shapes)
    model, held = in_int8(adapted, variables, read)
    assert model == Int8(model=MODEL) and "base" not in held
    found = named_leaves(model.plain(held)["params"])
    merged = named_leaves(adapted.plain(variables)["params"])
    name = "decoder/blocks_0/self_attention/query/kernel"
    assert 0 < np.abs(found[name] - merged[name]).max() < 0.05


def test_a_rule_that_matches_nothing_is_an_error(small):
    with pytest.raises(ValueError, match="in_int8: rules: the rule 'kernels.' matches no"):
        in_int8(MODEL, small[0], read, rules=("kernels$",))


def test_it_is_plain_data():
    again = config.from_json(config.to_json(Int8(model=MODEL)))
    assert again == Int8(model=MODEL) and hash(again) == hash(Int8(model=MODEL))
