"""Colours, erased boxes and RandAugment, worked out by hand."""

import numpy as np
import pytest

from vlm_jax.data import augmentation as aug
from vlm_jax.data.augmentation import ColourJitter, RandAugment, RandomErasing

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(20, 128, (40, 50, 3), np.uint8)
GREY = COLOUR[:, :, :1]


class Fixed:
    """A generator whose uniform numbers are given."""

    def __init__(self, *values):
        self.values = list(values)

    def uniform(self, low, high):
        return self.values.pop(0)


def changed(transform, image, rng=None, **example):
    found = transform({"id": 3, "image": image, **example}, rng or np.random.default_rng(1))
    return found["image"]


@pytest.mark.parametrize("image", [COLOUR, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize(
    "transform",
    [
        ColourJitter(brightness=0, contrast=0, saturation=0),
        RandomErasing(rate=0.0),
        RandAugment(num_ops=0),
    ],
)
def test_with_a_strength_of_zero_nothing_changes(transform, image):
    np.testing.assert_array_equal(changed(transform, image), image)


@pytest.mark.parametrize("image", [COLOUR, GREY], ids=["colour", "grey"])
def test_every_change_keeps_shape_and_type_and_most_change_something(image):
    found = {op.__name__: aug._through_pillow(image, op, 0.7) for op in aug.OPS}
    assert all(x.shape == image.shape and x.dtype == np.uint8 for x in found.values())
    same = {name for name, x in found.items() if (x == image).all()}
    assert same <= {"identity", "saturation"}
    assert "saturation" not in same or image.shape[2] == 1
    weak = {op.__name__: aug._through_pillow(image, op, 0.0) for op in aug.OPS[3:]}
    assert all((x == image).all() for x in weak.values())  # all but the first have a strength


def test_the_changes_by_hand():
    row = np.array([[[0], [100], [200], [250]]], np.uint8)

    def values(op, strength):
        return aug._through_pillow(np.repeat(row, 4, 0), op, strength)[0, :, 0].tolist()

    assert values(aug.solarise, 0.5) == [0, 100, 55, 5]  # above 128: 255 - value
    assert values(aug.posterise, 1.0) == [0, 96, 192, 240]  # the upper four bits
    assert values(aug.brightness, -1.0) == [0, 10, 20, 25]
    assert values(aug.move_x, 1 / 1.8) == [100, 200, 250, 0]  # a quarter of four pixels


def test_brightness_contrast_and_saturation_by_hand():
    image = np.array([[[100, 100, 100], [50, 100, 0]]], np.uint8)
    luminance = 0.299 * 50 + 0.587 * 100  # of the second pixel
    mean = 1.1 * (100 + luminance) / 2
    grey = [mean + 0.5 * (1.1 * value - mean) for value in (100, luminance)]
    red = mean + 0.5 * (1.1 * 50 - mean)
    found = changed(ColourJitter(), image, Fixed(1.1, 0.5, 0.8))
    assert found[0, 0].tolist() == [round(grey[0])] * 3
    assert found[0, 1, 0] == round(grey[1] + 0.8 * (red - grey[1]))
    assert changed(ColourJitter(), image, Fixed(9.0, 1.0, 1.0))[0, 0].tolist() == [255] * 3


def test_one_box_is_erased_with_random_bytes_and_the_rest_stays():
    image = np.full((20, 30, 3), 7, np.uint8)
    areas = []
    for seed in range(40):
        found = changed(RandomErasing(rate=1.0), image, np.random.default_rng(seed))
        rows, columns = np.where((found != 7).any(-1))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        areas.append(height * width / 600)
        assert len(np.unique(found)) > 8
        assert len(rows) > 0.95 * height * width  # a byte may be 7 by chance
    assert 0.01 < min(areas) < 0.12 and 0.25 < max(areas) < 0.45
    untouched = sum(
        (changed(RandomErasing(), image, np.random.default_rng(seed)) == 7).all()
        for seed in range(60)
    )
    assert 15 < untouched < 45


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="rate is 2"):
        RandomErasing(rate=2)
    with pytest.raises(ValueError, match="magnitude"):
        RandAugment(magnitude=11)
    with pytest.raises(TypeError, match="RandAugment: the image is float32, expected uint8"):
        changed(RandAugment(), COLOUR.astype(np.float32))
    with pytest.raises(TypeError, match="put Decode"):
        changed(RandomErasing(), b"encoded")
