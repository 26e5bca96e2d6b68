import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.vision.vit import LearnedGrid, SinusoidalGrid, Vit

TINY = {
    "width": 8,
    "num_layers": 1,
    "num_heads": 2,
    "hidden": 8,
    "patch_size": 4,
    "image_size": (8, 12),
}


def test_positions_of_the_size_they_were_made_for_are_added_as_they_are():
    layer = LearnedGrid(grid=(2, 3), num_extra=1)
    tokens = jax.random.normal(jax.random.key(0), (2, 7, 4))
    variables = layer.init(jax.random.key(1), tokens, (2, 3))
    moved = layer.apply(variables, tokens, (2, 3))
    np.testing.assert_array_equal(moved, tokens + variables["params"]["positions"])


def test_resized_positions_leave_the_class_token_out():
    layer = LearnedGrid(grid=(2, 3), num_extra=1)
    table = jnp.full((7, 4), 2.0).at[0].set(9.0)
    moved = layer.apply({"params": {"positions": table}}, jnp.zeros((1, 21, 4)), (4, 5))
    np.testing.assert_array_equal(moved[0, 0], [9.0] * 4)
    np.testing.assert_allclose(moved[0, 1:], np.full((20, 4), 2.0), rtol=1e-6)


@pytest.mark.parametrize("positions", [LearnedGrid, SinusoidalGrid])
@pytest.mark.parametrize("class_token", [True, False])
def test_features_are_the_patches_whatever_pools_them(positions, class_token):
    model = Vit(**TINY, positions=positions, class_token=class_token, num_classes=3)
    image = jnp.zeros((1, 8, 12, 3))

    def run():
        variables = model.init(jax.random.key(0), image, train=False, method="logits")
        logits = model.apply(variables, image, train=False, method="logits")
        return model.apply(variables, image, train=False).values, logits, variables

    values, logits, variables = jax.eval_shape(run)
    assert values.shape == (1, 6, 8) and logits.shape == (1, 3)
    assert ("class_token" in variables["params"]) == class_token
    assert ("positions" in variables["params"]) == (positions is LearnedGrid)


def test_a_patch_becomes_the_token_of_its_place():
    model = Vit(**{**TINY, "num_layers": 0}, positions=SinusoidalGrid, class_token=False)
    image = jax.random.normal(jax.random.key(0), (1, 8, 12, 3))
    variables = jax.jit(lambda key: model.init(key, image, train=False))(jax.random.key(1))
    changed = image.at[:, 4:, 4:8].add(1.0)  # the patch of row 1, column 1
    run = jax.jit(lambda image: model.apply(variables, image, train=False).values)
    before, after = run(image), run(changed)
    moved = np.abs(before - after).max(axis=(0, 2)) > 1e-6
    np.testing.assert_array_equal(moved, [False, False, False, False, True, False])


def test_without_positions_of_their_own_patches_could_be_exchanged():
    model = Vit(**TINY, num_classes=3)
    image = jax.random.normal(jax.random.key(0), (1, 8, 12, 3))
    variables = jax.jit(lambda key: model.init(key, image, train=False, method="logits"))(
        jax.random.key(1)
    )
    swapped = jnp.concatenate([image[:, 4:], image[:, :4]], axis=1)
    logits = jax.jit(
        lambda variables, image: model.apply(variables, image, train=False, method="logits")
    )
    assert np.abs(logits(variables, image) - logits(variables, swapped)).max() > 1e-6
    positions = jnp.zeros_like(variables["params"]["positions"]["positions"])
    params = {**variables["params"], "positions": {"positions": positions}}
    a, b = logits({"params": params}, image), logits({"params": params}, swapped)
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_an_image_that_is_not_whole_patches_is_refused():
    with pytest.raises(ValueError, match="patch_size=4.*8x10"):
        Vit(**TINY).init(jax.random.key(0), jnp.zeros((1, 8, 10, 3)), train=False)
