"""What must hold of what judges a picture, from its pixels to the numbers of a split, and of prompts on their way in."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.commands import paint
from vlm_jax.commands.command import UserError
from vlm_jax.data.datasets.scenes import example
from vlm_jax.data.datasets.scenes_layout import SPLITS, generate
from vlm_jax.data.datasets.scenes_pictures import render
from vlm_jax.data.source import Rows
from vlm_jax.data.text_transforms import Tokenize
from vlm_jax.metrics import facts_kept, frechet, nearest, prompt_holds
from vlm_jax.metrics.base import total
from vlm_jax.tasks import painting
from vlm_jax.text import scene_reader
from vlm_jax.text.scene_judge import Scene, SceneObject
from vlm_jax.text.tokenizers import WordTokenizer
from vlm_jax.types import BOS, EOS, PAD, Features

SCENES = [generate(0, split, index) for split in SPLITS for index in range(6)]


def objects_of(picture):
    return [(o.shape, o.color, o.size, o.x, o.y) for o in scene_reader.read_scene(picture).objects]


def drawn(*given, background=3):
    objects = [
        SceneObject(shape=s, color=c, size="", x=x, y=y, radius=r) for s, c, x, y, r in given
    ]
    return render(Scene(objects=tuple(objects), background=background))


# ---- reading


def check_every_object_of_a_scene_is_read():
    for scene in SCENES:
        expected = [(o.shape, o.color, o.size, o.x, o.y) for o in scene.objects]
        assert sorted(objects_of(render(scene))) == sorted(expected)


def check_objects_come_from_left_to_right():
    for scene in SCENES:
        xs = [each.x for each in scene_reader.read_scene(render(scene)).objects]
        assert xs == sorted(xs)


def check_neither_clouds_nor_specks_are_objects():
    for background in range(12):
        picture = render(Scene(objects=(), background=background))
        picture[10:60:7, 10:60:7] = (215, 35, 40)
        assert objects_of(picture) == []


def check_objects_that_touch_are_two():
    given = [("square", "red", 22, 22, 11), ("square", "red", 40, 40, 11)]
    assert [each[:2] for each in objects_of(drawn(*given))] == [("square", "red")] * 2


def check_what_is_no_shape_or_no_colour_is_an_object_that_nothing_names():
    picture = drawn(("circle", "red", 14, 14, 9))
    picture[40:44, 16:60] = (40, 90, 215)
    picture[50:60, 50:60] = (0, 200, 220)
    picture[4:12, 50:58] = picture[4:12, 50:58] // 2 + np.array([108, 18, 20], np.uint8)  # a ghost
    found = scene_reader.read_scene(picture).objects
    assert len(found) == 4
    assert sum(scene_reader.UNKNOWN in (each.shape, each.color) for each in found) == 3


# ---- judging


def check_a_prompt_holds_of_its_own_picture_and_of_few_others():
    texts = [example(0, SPLITS[k // 6], k % 6)["captions"] for k in range(len(SCENES))]
    metric = prompt_holds.PromptHolds()
    pictures = [render(scene) for scene in SCENES]
    for k, picture in enumerate(pictures):
        for caption in texts[k]:
            assert metric.result(metric.stats(picture, (caption,)))["prompt_holds"] == 100
    others = [metric.stats(p, (texts[k - 1][0],)) for k, p in enumerate(pictures)]
    assert metric.result(total(others))["prompt_holds"] <= 5


def check_an_object_that_was_not_asked_for_breaks_the_prompt():
    picture = drawn(("circle", "red", 14, 14, 9), ("star", "blue", 45, 45, 9))
    metric = prompt_holds.PromptHolds()
    found = metric.result(metric.stats(picture, ("a red circle",)))
    assert found["prompt_holds"] == 0 and found["prompt_facts"] == 100


class Seen:
    """A metric that keeps what it is given."""

    reference = "prompt"

    def stats(self, picture, references):
        return Counter({(int(picture.ravel()[0]), references[0]): 1})


def check_each_sample_of_each_valid_row_is_judged_by_its_own_prompt():
    images = np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2, 1, 1, 1)
    batch = {"id": np.array([4, 9, -1]), "valid": np.array([True, True, False])}
    batch["text"] = np.array([[BOS, EOS]] * 3)
    references = {4: {"prompt": ("a",)}, 9: {"prompt": ("b",)}, -1: {"prompt": ("c",)}}
    task = painting.Painting(metrics=(Seen(),))
    (found,) = task.score(painting.Painted(images), batch, references).values()
    assert found == Counter({(0, "a"): 1, (51, "a"): 1, (102, "b"): 1, (153, "b"): 1})


# ---- scales and prompts


def check_the_scale_of_the_pipeline_is_undone():
    task = painting.Painting(mean=0.5, std=0.25)
    pixels = np.array([0, 1, 127, 128, 255], np.uint8)
    normalised = (pixels / np.float32(255) - 0.5) / 0.25
    shown = painting.as_bytes(task.shown(normalised))
    np.testing.assert_array_equal(shown, pixels)
    np.testing.assert_allclose(task.scaled(pixels / 255), normalised, atol=1e-6)
    np.testing.assert_array_equal(painting.as_bytes(np.array([-0.1, 1.2, 0.5])), [0, 255, 128])


def check_prompts_are_dropped_each_by_itself_and_leave_an_empty_one():
    text = np.tile(np.array([[BOS, 5, 6, EOS, PAD]], np.int32), (64, 1))
    task = painting.Painting(prompt_dropout=0.5)
    found = np.asarray(task.with_dropped_prompts({"text": text}, jax.random.key(1))["text"])
    empty = (found == [BOS, EOS, PAD, PAD, PAD]).all(1)
    assert 10 < empty.sum() < 54
    np.testing.assert_array_equal(found[~empty], text[~empty])


def check_the_share_between_two_prompts_is_that_of_the_second():
    one, two = (
        Features(values=jnp.full((1, 2, 1), value), mask=jnp.ones((1, 2), bool))
        for value in (0.0, 1.0)
    )
    for share in (0.0, 0.25, 1.0):
        mixed = painting.between(one, two, jnp.float32([share]))
        np.testing.assert_allclose(mixed.values, share)


def check_a_prompt_that_cannot_be_read_as_a_whole_is_refused():
    corpus = Rows(names=("captions",), rows=((("a red circle",),),))
    tokenize = Tokenize(
        tokenizer=WordTokenizer(corpus=corpus, vocab_size=8), max_length=6, key="prompt"
    )
    paint.check_prompt(tokenize, "A red circle.", "--prompt")
    for prompt in ("", "a red zebra", "a circle a circle a"):
        try:
            paint.check_prompt(tokenize, prompt, "--prompt")
        except UserError:
            continue
        raise AssertionError(f"{prompt!r} was let through")


# ---- other numbers


def check_frechet_by_hand():
    one, two = np.array([[0.0], [2.0]]), np.array([[3.0], [7.0]])
    found = frechet.frechet_distance(*frechet.moments(one), *frechet.moments(two))
    np.testing.assert_allclose(found, 16 + (8**0.5 - 2**0.5) ** 2)
    rank_one = np.full((2, 2), 0.5)
    found = frechet.frechet_distance(np.zeros(2), np.diag([1.0, 0.0]), np.zeros(2), rank_one)
    np.testing.assert_allclose(found, 2 - 2**0.5)
    across = np.array([[0.5, -0.5], [-0.5, 0.5]])
    found = frechet.frechet_distance(np.zeros(2), rank_one, np.zeros(2), across)
    np.testing.assert_allclose(found, 2)


def check_facts_that_are_kept_by_hand():
    metric = facts_kept.FactsKept()
    prompt = "a red circle left of a small blue square"
    for caption, kept, facts in (
        (prompt, 5, 5),
        ("a red circle right of a large blue square", 3, 5),
        ("a red circle, a blue square and a star", 2, 3),
        ("a red circle above a blue square", 3, 3),
    ):
        found = metric.stats(caption, (prompt,))
        assert (found.kept, found.facts) == (kept, facts), caption


def check_a_copy_is_found_among_many_and_its_distance_is_in_levels():
    rng = np.random.default_rng(0)
    training = rng.integers(0, 256, (1100, 2, 2, 3), np.uint8)
    made = training[[3, 700, 1099]].copy()
    made[0] ^= 1
    which, far = nearest.nearest(made, training)
    assert which.tolist() == [3, 700, 1099]
    np.testing.assert_allclose(far, [1, 0, 0])
    real = np.full(200, 5.0)
    assert nearest.copies(far, real)["copies"] == 100
    assert nearest.copies(real + 1, real)["copies"] == 0


CHECKS = tuple(value for name, value in list(globals().items()) if name.startswith("check_"))
