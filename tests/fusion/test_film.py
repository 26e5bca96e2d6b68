import jax
import pytest

from tests.fusion.by_hand import ALL, IMAGE, variables_of
from vlm_jax.fusion.film import Film


def test_the_norm_before_film_has_no_scale_of_its_own():
    params = variables_of(ALL["film"])["params"]
    assert "norm" in params["stem"] and "norm" not in params["block_0"]


def test_four_blocks_have_the_parameters_that_perez_counts_on():
    """1x1 and 3x3 convolutions of 128 features, two coordinates each, and gamma and beta for all of them."""
    image = IMAGE.replace(values=jax.ShapeDtypeStruct((2, 9, 128), "float32"))
    image = image.replace(mask=jax.ShapeDtypeStruct((2, 9), "bool"))
    text = image.replace(values=jax.ShapeDtypeStruct((2, 4, 4096), "float32"))
    text = text.replace(mask=jax.ShapeDtypeStruct((2, 4), "bool"))
    shapes = jax.eval_shape(
        lambda image, text: Film().init(jax.random.key(0), image, text, train=False), image, text
    )
    size = {name: sum(x.size for x in jax.tree.leaves(p)) for name, p in shapes["params"].items()}
    assert size["film"] == 4097 * 4 * 2 * 128
    assert size["block_3"] == 131 * 128 + 9 * 128 * 128
    assert size["stem"] == 9 * 130 * 128 + 2 * 128


def test_what_is_no_grid_is_refused_by_number():
    with pytest.raises(ValueError, match="6 places, expected a square.*grid="):
        variables_of(Film())
    with pytest.raises(ValueError, match=r"6 places, expected 3 \* 3"):
        variables_of(Film(grid=(3, 3)))
