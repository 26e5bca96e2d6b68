"""Reading a picture back into the scene that it was drawn from.

python -m tests.text.test_scene_reader        the whole of every split, as drawn and a little blurred and noisy
"""

import numpy as np
import pytest

from vlm_jax.data.datasets.scenes import example
from vlm_jax.data.datasets.scenes_layout import SPLITS, generate
from vlm_jax.data.datasets.scenes_pictures import render
from vlm_jax.text.scene_judge import Scene, SceneObject, judge
from vlm_jax.text.scene_language import COLORS, SHAPES
from vlm_jax.text.scene_reader import UNKNOWN, connected, read_scene

SIZES = {"train": 8000, "validation": 500, "test": 1000, "test_unseen": 500}  # of the splits


def worn(picture: np.ndarray, sigma: float, noise: float, seed: int = 0) -> np.ndarray:
    """The picture, blurred by a Gaussian of so many pixels, with noise of so many of 255 levels."""
    pixels = picture.astype(float)
    if sigma:
        weights = np.exp(-0.5 * (np.arange(-4, 5) / sigma) ** 2)
        weights /= weights.sum()
        for axis in (0, 1):
            ends = [(4, 4) if a == axis else (0, 0) for a in range(3)]
            wide = np.pad(pixels, ends, mode="edge")
            pixels = sum(
                w * np.take(wide, range(i, i + picture.shape[axis]), axis)
                for i, w in enumerate(weights)
            )
    pixels += noise * np.random.default_rng(seed).normal(size=pixels.shape)
    return np.round(np.clip(pixels, 0, 255)).astype(np.uint8)


def judged(split: str, indices, sigma: float = 0.0, noise: float = 0.0) -> tuple[float, float]:
    """The share of scenes, times 100, of which their own first caption holds, and the first caption of another."""
    made = [example(0, split, index) for index in indices]
    seen = [
        read_scene(worn(render(generate(0, split, index)), sigma, noise, seed=index))
        for index in indices
    ]
    prompts = [each["captions"][0] for each in made]
    own = [judge(prompt, scene).right for prompt, scene in zip(prompts, seen)]
    order = np.random.default_rng(0).permutation(len(seen))
    others = np.roll(order, 1)  # nobody is given his own
    swapped = [judge(prompts[j], seen[i]).right for i, j in zip(order, others)]
    return 100 * float(np.mean(own)), 100 * float(np.mean(swapped))


def drawn(*objects: tuple) -> np.ndarray:
    """A picture of (shape, colour, x, y, radius)."""
    given = [
        SceneObject(shape=s, color=c, size="large" if r > 7 else "small", x=x, y=y, radius=r)
        for s, c, x, y, r in objects
    ]
    return render(Scene(objects=tuple(given), background=3))


def seen_in(picture: np.ndarray) -> list[tuple]:
    return [(o.shape, o.color, o.x, o.y, o.radius) for o in read_scene(picture).objects]


@pytest.mark.parametrize("split", SPLITS)
def test_every_object_of_a_drawn_scene_is_read_exactly(split):
    for index in range(25):
        scene = generate(0, split, index)
        found = read_scene(render(scene)).objects
        assert sorted(map(str, found)) == sorted(map(str, scene.objects)), (split, index)


def test_true_scenes_hold_and_shuffled_prompts_do_not():
    own, swapped = judged("test", range(60))
    assert own >= 99 and swapped <= 5
    own, swapped = judged("test_unseen", range(60), sigma=0.7, noise=5)
    assert own >= 97 and swapped <= 5


@pytest.mark.nightly
@pytest.mark.parametrize(
    "split, count", [("validation", 500), ("test", 1000), ("test_unseen", 500)]
)
def test_all_true_scenes_hold_and_shuffled_prompts_do_not(split, count, request):
    if "nightly" not in request.config.option.markexpr:
        pytest.skip("half a minute long; run with `make nightly`")
    own, swapped = judged(split, range(count))
    assert own >= 99 and swapped <= 5


def test_every_shape_in_every_colour_is_told_at_its_pixel():
    for i, shape in enumerate(SHAPES):
        for j, color in enumerate(COLORS):
            given = (shape, color, 20 + i, 40 - j, 5 + (i + j) % 7)
            assert seen_in(drawn(given)) == [given]


@pytest.mark.parametrize("colors", [("red", "red"), ("red", "blue")])
def test_objects_that_touch_are_told_apart(colors):
    given = [("square", colors[0], 22, 22, 11), ("square", colors[1], 40, 40, 11)]
    assert seen_in(drawn(*given)) == given


def test_nothing_is_seen_in_clouds():
    for background in range(20):
        assert read_scene(render(Scene(objects=(), background=background))).objects == ()


def test_what_is_no_shape_or_has_no_colour_is_an_object_all_the_same():
    picture = drawn(("circle", "red", 16, 16, 9))
    picture[40:44, 20:60] = (40, 90, 215)  # a blue bar
    (circle, bar) = read_scene(picture).objects
    assert circle.shape == "circle" and (bar.shape, bar.color) == (UNKNOWN, "blue")
    picture = drawn(("circle", "red", 16, 16, 9))
    picture[40:50, 40:50] = 60  # a dark square
    assert [each.color for each in read_scene(picture).objects] == ["red", UNKNOWN]
    assert not judge("a red circle", read_scene(picture)).right
    assert judge("a red circle", read_scene(drawn(("circle", "red", 16, 16, 9)))).right


def test_two_objects_grown_into_one_are_neither_of_them():
    picture = drawn(("circle", "green", 20, 32, 9), ("circle", "green", 44, 32, 9))
    picture[28:37, 20:44] = picture[32, 20]
    assert [each.shape for each in read_scene(picture).objects] == [UNKNOWN]


def test_pictures_of_any_content_are_read_without_an_error():
    rng = np.random.default_rng(0)
    for picture in (
        rng.integers(0, 256, (64, 64, 3), np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        np.full((64, 64, 3), (215, 35, 40), np.uint8),
        np.tile(np.arange(0, 256, 4, dtype=np.uint8)[:, None, None], (1, 64, 3)),
    ):
        assert not judge("a red circle", read_scene(picture)).right
    with pytest.raises(ValueError, match=r"uint8 \(28, 28, 1\) is no scene"):
        read_scene(np.zeros((28, 28, 1), np.uint8))


def test_areas_touch_at_corners():
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    assert sorted(int(area.sum()) for area in connected(mask)) == [1, 2, 2]
    assert (sum(connected(mask)) == mask).all()


if __name__ == "__main__":
    print(
        "| split | pictures | blur, pixels | noise, levels | own prompt holds | another's holds |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for name, size in SIZES.items():
        for blur, level in ((0.0, 0.0), (0.7, 5.0), (1.0, 8.0)):
            if name != "train" or not blur:
                right, wrong = judged(name, range(size), blur, level)
                print(f"| {name} | {size:,} | {blur} | {level} | {right:.1f} | {wrong:.1f} |")
