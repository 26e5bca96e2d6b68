"""A scene as numbers that are written before its picture, by hand and back again."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.data.datasets.scenes_layout import RADII, SPLITS, generate
from vlm_jax.data.datasets.scenes_pictures import render
from vlm_jax.text.scene_judge import Scene, SceneObject
from vlm_jax.text.scene_plan import LARGE, ScenePlan

PLAN = ScenePlan()
STAR = SceneObject(shape="star", color="yellow", size="small", x=40, y=7, radius=5)
CIRCLE = SceneObject(shape="circle", color="red", size="large", x=12, y=50, radius=11)


def test_numbers_by_hand():
    """0 nothing, 1 to 6 colours, 7 to 11 shapes, 12 to 27 radii; then columns of 8 pixels 28 to 35 and the pixel in them 36 to
    43, rows 44 to 51 and the pixel in them 52 to 59."""
    assert PLAN.length == 28 and PLAN.vocab_size == 60
    circle = [1, 7, 12 + 11, 28 + 1, 36 + 4, 44 + 6, 52 + 2]  # x = 8 + 4, y = 48 + 2
    star = [3, 11, 12 + 5, 28 + 5, 36 + 0, 44 + 0, 52 + 7]
    for objects in ((CIRCLE, STAR), (STAR, CIRCLE)):  # from left to right in any case
        numbers = PLAN.encode(Scene(objects=objects))
        assert numbers.dtype == np.int32
        assert numbers.tolist() == [*circle, *star] + 14 * [0]


def test_cells_that_an_object_reaches_by_hand():
    """The star lies within 6.5 pixels of (40, 7): x from 33.5 to 46.5 in cells 4 and 5, y from 0.5 to 13.5 in cells 0 and 1. The
    circle within 13.7 of (12, 50): x up to 25.7, y from 36.3."""
    both = np.stack([PLAN.encode(Scene(objects=each)) for each in ((STAR,), (CIRCLE, STAR), ())])
    expected = np.zeros((3, 8, 8), bool)
    expected[:2, :2, 4:6] = True
    expected[1, 4:, :4] = True
    for numbers in (both, jnp.asarray(both)):
        np.testing.assert_array_equal(PLAN.reached(numbers, (8, 8)), expected)
    wide = PLAN.reached(both, (2, 8))[0]
    assert wide[0].tolist() == expected[0, 0].tolist() and not wide[1].any()


def test_every_pixel_of_an_object_lies_in_a_cell_that_is_reached():
    for index in range(50):
        scene = generate(0, "train", index)
        empty = dataclasses.replace(scene, objects=())
        painted = (render(scene) != render(empty)).any(-1)
        cells = painted.reshape(8, 8, 8, 8).any((1, 3))
        reached = PLAN.reached(PLAN.encode(scene)[None], (8, 8))[0]
        assert not (cells & ~reached).any()
        assert not reached.all()


@pytest.mark.parametrize("split", SPLITS)
def test_every_scene_comes_back(split):
    for index in range(100):
        scene = generate(0, split, index)
        assert PLAN.decode(PLAN.encode(scene)) == dataclasses.replace(scene, background=0)


def test_sizes_are_those_of_the_scenes():
    assert max(RADII["small"]) < LARGE <= min(RADII["large"])


def test_what_is_no_plan_is_no_scene():
    numbers = PLAN.encode(Scene(objects=(STAR,)))
    for place, number in ((0, 8), (1, 1), (2, 0), (4, 44), (6, 60)):
        wrong = numbers.copy()
        wrong[place] = number
        assert PLAN.decode(wrong) is None
    assert PLAN.decode(np.zeros(28, int)) == Scene(objects=())


def test_a_scene_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"5 objects, expected at most 4; try .*num_objects=5"):
        PLAN.encode(Scene(objects=(STAR,) * 5))
    with pytest.raises(ValueError, match="radius 16, expected one of 0 ... 15"):
        PLAN.encode(Scene(objects=(dataclasses.replace(STAR, radius=16),)))
    with pytest.raises(ValueError, match="x 64, expected one of 0 ... 63"):
        PLAN.encode(Scene(objects=(dataclasses.replace(STAR, x=64),)))
