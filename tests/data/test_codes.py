import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.data.codes import CodesToTarget, ToPlan
from vlm_jax.data.encoded import Encoded
from vlm_jax.data.source import InMemory
from vlm_jax.text.scene_judge import Scene, SceneObject
from vlm_jax.text.scene_plan import ScenePlan
from vlm_jax.types import BOS, EOS, NUM_SPECIAL, Features


class Sums(nn.Module):
    """Each row's sum of pixels, a whole number beyond what float16 holds."""

    @nn.compact
    def __call__(self, image, *, train):
        sums = image.sum((2, 3)).astype(jnp.int32)[..., None]
        return Features(values=sums, mask=jnp.ones(sums.shape[:2], bool))


PICTURES = [np.full((2, 3, 1), value, np.float32) for value in (1000, 1371)]
SOURCE = InMemory([{"id": i, "image": picture} for i, picture in enumerate(PICTURES)])


def test_cached_codes_are_whole_numbers_and_become_tokens():
    codes = Encoded(source=SOURCE, encoder=Sums(), dtype="int32")
    assert codes[1]["image"].dtype == np.int32
    assert codes[1]["image"].tolist() == [[4113], [4113]]
    example = CodesToTarget(num_codes=5000)(codes[1])
    assert example["target"].tolist() == [BOS, 4117, 4117, EOS] and "image" not in example


def test_a_plan_stands_before_the_codes_in_tokens_of_its_own():
    star = SceneObject(shape="star", color="yellow", size="small", x=40, y=7, radius=5)
    scene = Scene(objects=(star,)).to_json()
    example = {"id": 7, "image": np.array([[8], [0]]), "scene": scene}
    target = CodesToTarget(num_codes=9, plan=ScenePlan(num_objects=2))(example)["target"]
    beyond = 9 + NUM_SPECIAL
    plan = [beyond + number for number in (3, 11, 17, 33, 36, 44, 59, *7 * [0])]
    assert target.tolist() == [BOS, *plan, 8 + NUM_SPECIAL, NUM_SPECIAL, EOS]
    alone = ToPlan(plan=ScenePlan(num_objects=2))(example)
    assert alone["plan"].tolist() == [number - beyond for number in plan]
    assert alone["image"] is example["image"]


@pytest.mark.parametrize(
    "transform", [CodesToTarget(num_codes=9, plan=ScenePlan()), ToPlan(plan=ScenePlan())]
)
@pytest.mark.parametrize(
    "scene, words",
    [({}, "'scene'"), ({"scene": '{"objects": [{}]}'}, "{}: example 7: not the truth")],
)
def test_a_plan_of_no_scene_is_refused_by_name(transform, scene, words):
    example = {"id": 7, "image": np.array([[8], [0]]), **scene}
    with pytest.raises((KeyError, ValueError), match=words.format(type(transform).__name__)):
        transform(example)


def test_codes_are_not_rescaled():
    with pytest.raises(ValueError, match="whole numbers, which pool"):
        Encoded(source=SOURCE, encoder=Sums(), dtype="int32", pool=True)


@pytest.mark.parametrize(
    "image, words",
    [
        (np.zeros((4, 4, 3), np.float32), "expected whole numbers"),
        (np.array([[3], [9]]), "codes from 3 to 9, expected 0 to 8"),
    ],
)
def test_what_is_no_code_is_refused_by_name(image, words):
    with pytest.raises(ValueError, match=f"of example 7 .*{words}"):
        CodesToTarget(num_codes=9)({"id": 7, "image": image})


def test_the_two_kinds_of_cache_do_not_share_a_file():
    whole = Encoded(source=SOURCE, encoder=Sums(), dtype="int32")
    assert dataclasses.replace(whole, dtype="float32") != whole
