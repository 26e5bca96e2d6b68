"""Parameters with 1000 classes (10 for CIFAR), counted without computing anything."""

import jax
import jax.numpy as jnp
import pytest

from vlm_jax.vision import convnext, mobilenet, resnet, vgg, vit


@pytest.mark.parametrize(
    ("build", "size", "num_classes", "parameters"),
    [
        # Simonyan and Zisserman 2015, table 2: 133, 138 and 144 million.
        (vgg.vgg11, 224, 1000, 132_863_336),
        (vgg.vgg16, 224, 1000, 138_357_544),
        (vgg.vgg19, 224, 1000, 143_667_240),
        (vgg.vgg11_batch_norm, 224, 1000, 132_868_840),
        (vgg.vgg16_batch_norm, 224, 1000, 138_365_992),
        (vgg.vgg19_batch_norm, 224, 1000, 143_678_248),
        # The published weights of He et al. 2016's networks.
        (resnet.resnet18, 224, 1000, 11_689_512),
        (resnet.resnet34, 224, 1000, 21_797_672),
        (resnet.resnet50, 224, 1000, 25_557_032),
        (resnet.resnet101, 224, 1000, 44_549_160),
        # He et al. 2016, table 6: 0.27, 0.46, 0.66, 0.85 and 1.7 million.
        (resnet.cifar_resnet20, 32, 10, 269_722),
        (resnet.cifar_resnet32, 32, 10, 464_154),
        (resnet.cifar_resnet44, 32, 10, 658_586),
        (resnet.cifar_resnet56, 32, 10, 853_018),
        (resnet.cifar_resnet110, 32, 10, 1_727_962),
        # Sandler et al. 2018, table 4: 3.4 million.
        (mobilenet.mobilenet_v2, 224, 1000, 3_504_872),
        # Liu et al. 2022, table 1: 29, 50 and 89 million.
        (convnext.convnext_tiny, 224, 1000, 28_589_128),
        (convnext.convnext_small, 224, 1000, 50_223_688),
        (convnext.convnext_base, 224, 1000, 88_591_464),
        # Dosovitskiy et al. 2021, table 1: 86 million; Touvron et al. 2021, table 1: 22 and 5 million.
        (vit.vit_base_16, 224, 1000, 86_567_656),
        (vit.vit_small_16, 224, 1000, 22_050_664),
        (vit.vit_tiny_16, 224, 1000, 5_717_416),
    ],
)
def test_the_number_of_parameters_is_the_published_one(build, size, num_classes, parameters):
    model = build(num_classes=num_classes)
    image = jnp.zeros((1, size, size, 3))
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), image, train=False, method="logits")
    )
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == parameters


@pytest.mark.parametrize(
    ("model", "size", "grid", "width"),
    [
        (vgg.vgg16(), 224, 7, 512),
        (vgg.vgg16(last_pool=False), 224, 14, 512),
        (resnet.resnet18(), 224, 7, 512),
        (resnet.resnet50(), 224, 7, 2048),
        (resnet.resnet50(), 128, 4, 2048),
        (resnet.cifar_resnet20(), 32, 8, 64),
        (mobilenet.mobilenet_v2(), 224, 7, 1280),
        (vit.vit_tiny_16(), 224, 14, 192),
        (vit.vit_tiny_16(), 96, 6, 192),
    ],
)
def test_the_grid_is_as_small_as_the_paper_says(model, size, grid, width):
    image = jnp.zeros((2, size, size, 3))
    features, variables = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), image, train=False)
    )
    assert features.values.shape == (2, grid * grid, width)
    assert features.mask.shape == (2, grid * grid)
    assert "head" not in variables["params"]
