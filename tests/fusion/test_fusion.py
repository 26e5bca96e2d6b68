import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.model_zoo import filled
from vlm_jax.fusion.bilinear import Mlb
from vlm_jax.fusion.concat import Concat
from vlm_jax.fusion.elementwise import Product, Sum
from vlm_jax.fusion.gated import Gated
from vlm_jax.types import Features

# The third place of the first picture is padding, so its mean is [2, 3].
IMAGE = Features(
    values=jnp.array([[[1.0, 2.0], [3.0, 4.0], [jnp.nan, 9.0]], [[5.0, 6.0]] * 3]),
    mask=jnp.array([[1, 1, 0], [1, 1, 1]], bool),
)
TEXT = Features(
    values=jnp.array([[[10.0, 20.0], [30.0, 40.0]], [[50.0, 60.0], [70.0, 80.0]]]),
    mask=jnp.array([[1, 0], [1, 1]], bool),
)
ALL = (Concat(), Concat(width=3), Sum(), Sum(width=3), Product(), Product(width=3), Gated())


def apply(fusion, image, text, variables=None):
    return fusion.apply(variables or {}, image, text, train=False)


def test_values_by_hand():
    assert apply(Concat(), IMAGE, TEXT).values.tolist()[0] == [[2, 3, 10, 20], [2, 3, 30, 40]]
    assert apply(Sum(), IMAGE, TEXT).values.tolist()[0] == [[12, 23], [32, 43]]
    assert apply(Product(), IMAGE, TEXT).values.tolist()[1] == [[250, 360], [350, 480]]


def test_the_gate_mixes_as_arevalo_writes():
    fusion = Gated(width=2)
    shapes = jax.eval_shape(lambda: fusion.init(jax.random.key(0), IMAGE, TEXT, train=False))
    params = jax.tree.map(lambda leaf: leaf * 0.1, filled(shapes)["params"])
    found = apply(fusion, IMAGE, TEXT, {"params": params}).values[0, 0]
    v, t = np.array([2.0, 3.0]), np.array([10.0, 20.0])
    h_v = np.tanh(v @ params["image"]["kernel"] + params["image"]["bias"])
    h_t = np.tanh(t @ params["text"]["kernel"] + params["text"]["bias"])
    w_z = np.concatenate([params["image_gate"]["kernel"], params["text_gate"]["kernel"]])
    z = 1 / (1 + np.exp(-(np.concatenate([v, t]) @ w_z + params["text_gate"]["bias"])))
    np.testing.assert_allclose(found, z * h_v + (1 - z) * h_t, rtol=1e-5)
    assert (z > 0.01).all() and (z < 0.99).all(), "a gate that is shut tests nothing"


def test_a_projection_projects_both_before_the_sum():
    fusion = Sum(width=3)
    shapes = jax.eval_shape(lambda: fusion.init(jax.random.key(0), IMAGE, TEXT, train=False))
    variables = filled(shapes)
    params = variables["params"]
    expected = sum(
        np.array(x) @ params[name]["kernel"] + params[name]["bias"]
        for name, x in (("image_projection", [2.0, 3.0]), ("text_projection", [10.0, 20.0]))
    )
    np.testing.assert_allclose(
        apply(fusion, IMAGE, TEXT, variables).values[0, 0], expected, rtol=1e-5
    )


@pytest.mark.parametrize("fusion", ALL, ids=lambda f: f"{type(f).__name__}{f.width or ''}")
def test_a_result_has_the_places_of_the_text_and_of_one_alone_is_itself(fusion):
    both = jax.eval_shape(
        lambda: fusion.init_with_output(jax.random.key(0), IMAGE, TEXT, train=False)[0]
    )
    assert both.values.shape[:2] == (2, 2) and both.values.shape[2] == (
        fusion.width or {Concat: 4}.get(type(fusion), 2)
    )
    fused, _ = fusion.init_with_output(jax.random.key(0), IMAGE, TEXT, train=False)
    np.testing.assert_array_equal(fused.mask, TEXT.mask)
    assert np.isfinite(fused.values).all(), "padding of the image came through"
    assert apply(fusion, IMAGE, None) is IMAGE and apply(fusion, None, TEXT) is TEXT


def test_widths_that_differ_are_refused_by_number():
    narrow = Features(values=IMAGE.values[..., :1], mask=IMAGE.mask)
    with pytest.raises(ValueError, match="1 features and text of 2.*width=2"):
        apply(Sum(), narrow, TEXT)


def test_a_picture_of_zeros_scales_the_text_where_its_bias_begins_at_one():
    fusion = Mlb(hidden=3, width=5, image_bias=1.0)
    nothing = IMAGE.replace(values=np.zeros_like(IMAGE.values))
    text = TEXT.replace(values=TEXT.values / 100)
    params = fusion.init(jax.random.key(0), nothing, text, train=False)["params"]
    read = np.tanh(np.where(TEXT.mask[..., None], text.values, 0) @ params["text"]["kernel"])
    expected = np.tanh(1.0) * read @ params["output"]["kernel"]
    given = fusion.apply({"params": params}, nothing, text, train=False).values
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)
