import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from tests.data.test_encoded import TRANSFORMS, Patches
from vlm_jax import config
from vlm_jax.data.encoded import Encoded
from vlm_jax.data.image_transforms import Decode, HorizontalFlip, Normalise, RandomResizedCrop
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import InMemory, Pictures, replace_source
from vlm_jax.data.views import ChooseView, MeanOfViews, Views

MIRRORED = (Decode(), HorizontalFlip(rate=1.0, even_with_left_right=True), *TRANSFORMS[1:])
PARTS = (Decode(), RandomResizedCrop(size=8, scale=(0.2, 1.0)), Normalise(mean=(0.5,), std=(0.5,)))
CHAINS = (TRANSFORMS, MIRRORED, PARTS, PARTS)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures():
    generator = np.random.default_rng(0)
    return InMemory(
        [
            {
                "id": i,
                "image": png(generator.integers(0, 256, (8, 8, 3), np.uint8)),
                "captions": ("a", "b"),
            }
            for i in range(5)
        ]
    )


@pytest.fixture(scope="module")
def views(pictures):
    return Views(source=Encoded(source=pictures, encoder=Patches(), pool=True), transforms=CHAINS)


def test_each_view_is_the_source_with_its_own_transforms(views):
    example = views[3]
    seen = [example["image"][k] for k in range(4)]
    for k in (0, 1):
        alone = dataclasses.replace(views.source, transforms=CHAINS[k], seed=k)
        np.testing.assert_array_equal(seen[k], alone[3]["image"])
    assert example["captions"] == ("a", "b") and len(views) == 5
    assert views.references == views.source.references


def test_random_views_differ_from_each_other_and_not_from_run_to_run(views):
    again = dataclasses.replace(views)
    first, second = views[2]["image"][2], views[2]["image"][3]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, again[2]["image"][2])


def test_a_view_is_drawn_anew_in_each_epoch_and_the_mean_is_over_all(views):
    drawn = Pipeline(source=views, transforms=(ChooseView(),), batch_size=5, train=True)
    batches = drawn.batches()
    seen = {}
    for _ in range(20):
        batch = next(batches)[1]
        for i, image in zip(batch["id"], batch["image"]):
            seen.setdefault(int(i), set()).add(image.tobytes())
    assert all(len(found) == 4 for found in seen.values())
    mean = Pipeline(source=views, transforms=(MeanOfViews(),), batch_size=5, train=False)
    batch = next(mean.batches())[1]
    expected = np.mean([views[1]["image"][k] for k in range(4)], axis=0)
    np.testing.assert_allclose(batch["image"][1], expected, rtol=1e-5)


def test_the_mean_over_a_grid_turns_mirrored_views_round():
    grid = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    views = [grid.reshape(6, 4), grid[:, ::-1].reshape(6, 4)]
    mean = MeanOfViews(grid=(2, 3), mirrored=(1,))
    found = mean({"image": views}, np.random.default_rng(0))["image"]
    np.testing.assert_array_equal(found, grid.reshape(6, 4))
    assert not np.array_equal(MeanOfViews()({"image": views}, None)["image"], found)
    with pytest.raises(ValueError, match=r"given features of 6 places, expected 12"):
        MeanOfViews(grid=(3, 4), mirrored=(1,))({"image": views}, None)
    with pytest.raises(ValueError, match="needs the grid"):
        MeanOfViews(mirrored=(1,))


def test_other_pictures_go_through_the_same_views(views, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(png(np.full((8, 8, 3), 99, np.uint8)))
    replaced = replace_source(views, Pictures(paths=(str(path),)))
    assert len(replaced) == 1 and len(replaced[0]["image"]) == 4


def test_the_description_survives_json_and_bad_ones_are_refused(views):
    described = Views(
        source=Encoded(source=Pictures(paths=("a.jpg",)), encoder=Patches()), transforms=CHAINS
    )
    node = config.to_json(described)
    assert config.from_json(node, packages=(*config.KNOWN_PACKAGES, "tests")) == described
    with pytest.raises(TypeError, match="expected an Encoded"):
        Views(source=Pictures(paths=("a.jpg",)), transforms=CHAINS)
    with pytest.raises(ValueError, match="no view"):
        Views(source=views.source, transforms=())
