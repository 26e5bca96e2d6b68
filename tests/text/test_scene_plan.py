"""A scene as numbers that are written before its picture, by hand and back again."""

import dataclasses

import numpy as np
import pytest

from vlm_jax.data.datasets.scenes_layout import RADII, SPLITS, generate
from vlm_jax.text.scene_judge import Scene, SceneObject
from vlm_jax.text.scene_plan import LARGE, ScenePlan

PLAN = ScenePlan()
STAR = SceneObject(shape="star", color="yellow", size="small", x=40, y=7, radius=5)
CIRCLE = SceneObject(shape="circle", color="red", size="large", x=12, y=50, radius=11)


def test_numbers_by_hand():
    """0 nothing, 1 to 6 colours, 7 to 11 shapes, 12 to 27 radii, 28 to 91 columns, 92 to 155 rows of pixels."""
    assert PLAN.length == 20 and PLAN.vocab_size == 156
    circle = [1, 7, 12 + 11, 28 + 12, 92 + 50]
    star = [3, 11, 12 + 5, 28 + 40, 92 + 7]
    for objects in ((CIRCLE, STAR), (STAR, CIRCLE)):  # from left to right in any case
        numbers = PLAN.encode(Scene(objects=objects))
        assert numbers.dtype == np.int32
        assert numbers.tolist() == [*circle, *star] + 10 * [0]


@pytest.mark.parametrize("split", SPLITS)
def test_every_scene_comes_back(split):
    for index in range(100):
        scene = generate(0, split, index)
        assert PLAN.decode(PLAN.encode(scene)) == dataclasses.replace(scene, background=0)


def test_sizes_are_those_of_the_scenes():
    assert max(RADII["small"]) < LARGE <= min(RADII["large"])


def test_what_is_no_plan_is_no_scene():
    numbers = PLAN.encode(Scene(objects=(STAR,)))
    for place, number in ((0, 8), (1, 1), (2, 0), (4, 156)):
        wrong = numbers.copy()
        wrong[place] = number
        assert PLAN.decode(wrong) is None
    assert PLAN.decode(np.zeros(20, int)) == Scene(objects=())


def test_a_scene_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"5 objects, expected at most 4; try .*num_objects=5"):
        PLAN.encode(Scene(objects=(STAR,) * 5))
    with pytest.raises(ValueError, match="radius 16, expected one of 0 ... 15"):
        PLAN.encode(Scene(objects=(dataclasses.replace(STAR, radius=16),)))
