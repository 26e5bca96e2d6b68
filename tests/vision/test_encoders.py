"""What must hold of every image encoder, on networks of a few channels."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.layers.norm import BatchNorm, GroupNorm, NoNorm, UnitNorm
from vlm_jax.vision import mobilenet, precomputed, resnet, small_cnn, vgg, vit

SIZE = 16

ENCODERS = {
    "vgg": vgg.Vgg(widths=((4,), (6,)), hidden=8, num_classes=3),
    "resnet": resnet.ResNet(
        block=resnet.BottleneckBlock,
        stage_sizes=(1,),
        widths=(4,),
        stem=resnet.ImageNetStem,
        shortcut=resnet.ProjectionShortcut,
        num_classes=3,
    ),
    "cifar resnet": resnet.ResNet(
        block=resnet.BasicBlock,
        stage_sizes=(0, 1),
        widths=(4, 8),
        stem=resnet.CifarStem,
        shortcut=resnet.PaddedShortcut,
        norm=GroupNorm(num_groups=2),
        num_classes=3,
        drop_path_rate=0.2,
    ),
    "mobilenet": mobilenet.MobileNetV2(
        stages=((1, 4, 1, 2), (2, 4, 1, 1)), stem_width=4, width=8, num_classes=3
    ),
    "vit": vit.Vit(
        width=8,
        num_layers=1,
        num_heads=2,
        hidden=12,
        patch_size=4,
        image_size=(16, 16),
        num_classes=3,
    ),
    "small cnn": small_cnn.SmallCnn(features=(4, 6)),
    "convolution": small_cnn.Convolution(filters=4),
    "precomputed": precomputed.Precomputed(
        norm=BatchNorm(), width=6, activation=nn.gelu, dropout_rate=0.2
    ),
}

# Vectors whose gradient is zero by the mathematics, not by mistake.
WITHOUT_GRADIENT = {
    # Attention's softmax does not see what is added to every key.
    "vit": ("key/bias",),
    # What leaves a block goes through a linear convolution into a BatchNorm, which takes it away.
    "mobilenet": ("project/norm/bias",),
}


@pytest.fixture(scope="module", params=ENCODERS)
def case(request):
    """(name, model, variables, images), the variables drawn without compiling anything."""
    model = ENCODERS[request.param]
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.standard_normal((4, SIZE, SIZE, 3), np.float32))
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), images, train=False, method=_method(model))
    )

    def draw(path, shape):
        values = rng.standard_normal(shape.shape, np.float32)
        if path[-1].key in ("scale", "var"):
            return jnp.asarray(1.0 + 0.1 * values)
        return jnp.asarray(values / max(1.0, np.prod(shape.shape[:-1])) ** 0.5)

    return request.param, model, jax.tree_util.tree_map_with_path(draw, shapes), images


def _method(model):
    return "logits" if getattr(model, "num_classes", None) else "__call__"


def _output(model, variables, images, **kwargs):
    """Logits where there are any, else the features' values."""
    result = model.apply(variables, images, method=_method(model), **kwargs)
    changed = {}
    if "mutable" in kwargs:
        result, changed = result
    return getattr(result, "values", result), changed


def test_training_gives_finite_gradients_to_every_parameter_and_moves_the_statistics(case):
    name, model, variables, images = case

    @jax.jit
    def gradients(variables):
        def loss(params):
            output, changed = _output(
                model,
                {**variables, "params": params},
                images,
                train=True,
                rngs={"dropout": jax.random.key(2)},
                mutable=["batch_stats"],
            )
            return jnp.sum(jnp.sin(output)), changed

        return jax.grad(loss, has_aux=True)(variables["params"])

    grads, changed = gradients(variables)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        path = "/".join(str(k.key) for k in path)
        assert np.isfinite(grad).all(), path
        if not path.endswith(WITHOUT_GRADIENT.get(name, ("nothing",))):
            assert np.abs(grad).max() > 1e-6, path
    before = variables.get("batch_stats", {})
    assert jax.tree.structure(changed.get("batch_stats", {})) == jax.tree.structure(before)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(changed)):
        assert np.abs(old - new).max() > 0


def test_evaluation_does_not_depend_on_the_other_pictures_or_their_order(case):
    _, model, variables, images = case
    evaluate = jax.jit(lambda images: _output(model, variables, images, train=False)[0])
    whole = np.asarray(evaluate(images))
    others = images.at[jnp.array([0, 3])].multiply(-5.0)[::-1]
    np.testing.assert_allclose(evaluate(others)[1:3], whole[2:0:-1], rtol=1e-5, atol=1e-5)
    assert np.abs(whole[0] - whole[1]).max() > 1e-3


def test_bfloat16_work_keeps_float32_parameters_and_statistics(case):
    name, model, variables, images = case
    half = model.clone(dtype=jnp.bfloat16)

    def train(variables, images):
        rngs = {"dropout": jax.random.key(2)}
        features, changed = half.apply(
            variables, images, train=True, rngs=rngs, mutable=["batch_stats"]
        )
        return features.values, changed

    values, changed = jax.eval_shape(train, variables, images)
    assert values.dtype == jnp.bfloat16, name
    fresh = jax.eval_shape(lambda: half.init(jax.random.key(0), images, train=False))
    kept = {x.dtype for x in jax.tree.leaves((fresh, changed))}
    assert kept == {jnp.dtype(jnp.float32)}


def test_a_convolution_of_ones_sums_each_neighbourhood():
    model = small_cnn.Convolution(filters=1)
    image = jnp.arange(9.0).reshape(1, 3, 3, 1)
    params = {"conv": {"kernel": jnp.ones((3, 3, 1, 1)), "bias": jnp.array([-10.0])}}
    values = model.apply({"params": params}, image, train=False).values[0, :, 0]
    # Corner 0+1+3+4 = 8 -> relu(-2); centre 36 -> 26.
    np.testing.assert_allclose(values, [0, 5, 2, 11, 26, 17, 10, 23, 14])


def test_option_a_takes_every_second_place_and_adds_channels_of_zeros():
    shortcut = resnet.PaddedShortcut(width=4, stride=2, norm=NoNorm(), dtype=jnp.float32)
    x = jnp.arange(4 * 4 * 2.0).reshape(1, 4, 4, 2)
    y = shortcut.apply({}, x, train=True)
    assert y.shape == (1, 2, 2, 4)
    np.testing.assert_array_equal(y[0, 1, 1], [0.0, *x[0, 2, 2], 0.0])


def test_cached_features_are_taken_in_three_shapes():
    model = precomputed.Precomputed(norm=UnitNorm())
    vectors = jnp.array([[3.0, 4.0], [0.0, 2.0]], jnp.float16)
    for image in (vectors, vectors[:, None], vectors[:, None, None]):
        features = model.apply({}, image, train=False)
        np.testing.assert_allclose(features.values, [[[0.6, 0.8]], [[0.0, 1.0]]], rtol=1e-6)
        assert features.mask.shape == (2, 1)


def test_cached_features_may_be_transformed_first():
    model = precomputed.Precomputed(transform=jnp.log1p)
    features = model.apply({}, jnp.array([[0.0, np.e - 1.0]]), train=False)
    np.testing.assert_allclose(features.values, [[[0.0, 1.0]]], atol=1e-6)


def test_pictures_are_not_taken_for_cached_features():
    with pytest.raises(ValueError, match="uint8.*SmallCnn"):
        precomputed.Precomputed().apply({}, jnp.zeros((1, 4, 4, 3), jnp.uint8), train=False)
