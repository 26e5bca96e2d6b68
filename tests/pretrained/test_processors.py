"""Pictures come out as the reference processors make them: stored by make_pictures.py."""

import json

import numpy as np
import pytest

from tests.pretrained import processed, prompted
from tests.pretrained.published import STORED
from vlm_jax.data.image_transforms import CentreCrop, Decode, Normalise, Resize, ResizeShorter
from vlm_jax.pretrained.processors import CLIP_MEAN, CLIP_STD, transforms


@pytest.fixture(scope="module")
def reference():
    with np.load(STORED.parent / "pictures.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def through(steps, picture):
    example = {"image": picture, "id": 0}
    for step in steps:
        example = step(example, None)
    return example["image"]


@pytest.mark.parametrize("name", processed.CONFIGS)
def test_twenty_pictures_of_odd_sizes_are_the_reference_s(name, reference):
    steps = transforms(processed.CONFIGS[name])
    expected = reference[f"{name}_bytes"]
    assert len(expected) == 20
    differences = []
    for picture, theirs in zip(processed.pictures(), expected):
        ours = through(steps[:-1], picture)
        assert ours.dtype == np.uint8 and ours.shape == theirs.shape
        differences.append(np.abs(ours.astype(int) - theirs).max())
    assert max(differences) <= 1, differences
    normalised = through(steps, processed.pictures()[0])
    np.testing.assert_allclose(normalised, reference[f"{name}_normalised"], atol=2e-5, rtol=1e-5)


def test_twenty_pictures_of_every_shape_are_the_reference_s_patches(reference):
    steps = transforms(processed.PATCHES)
    for picture, theirs in zip(processed.pictures(), reference["patches"], strict=True):
        ours = processed.patches(through(steps[:-1], picture))
        assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("name", processed.CUT)
def test_twenty_pictures_of_every_shape_are_the_reference_s_squares(name, reference):
    processed.check_squares(name, reference)


def test_a_prompt_says_where_each_square_lies_as_the_reference_s_does(reference):
    processed.check_prompts(reference)


@pytest.mark.parametrize("name", prompted.TEMPLATES)
def test_prompts_are_the_reference_s_token_for_token(name):
    assert prompted.ours(name) == prompted.stored()[name]


@pytest.mark.parametrize("name", prompted.TEMPLATES)
def test_what_is_asked_is_text_and_never_a_special_token(name):
    words = json.loads(prompted.tokenizer(name))["added_tokens"]
    special = {word["id"] for word in words}
    plain, spelled = prompted.ours(name, ("", "".join(word["content"] for word in words)))
    assert len(spelled) > len(plain) + len(words)
    assert sum(i in special for i in spelled) == sum(i in special for i in plain) > 0


@pytest.mark.parametrize(
    ("config", "steps"),
    [
        # of before sizes were mappings
        (
            {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224},
            (
                ResizeShorter(size=224, method="bicubic", rounding="down"),
                CentreCrop(size=(224, 224)),
                Normalise(mean=CLIP_MEAN, std=CLIP_STD),
            ),
        ),
        (
            {
                "feature_extractor_type": "ViTFeatureExtractor",
                "size": 384,
                "image_mean": [0.5, 0.5, 0.5],
            },
            (Resize(size=(384, 384)), Normalise(mean=(0.5,) * 3, std=(0.5,) * 3)),
        ),
        # resnet-50's
        (
            {
                "feature_extractor_type": "ConvNextFeatureExtractor",
                "size": 224,
                "crop_pct": 0.875,
                "resample": 3,
            },
            (
                ResizeShorter(size=256, method="bicubic", rounding="down"),
                CentreCrop(size=224),
                Normalise(mean=(0.5,) * 3, std=(0.5,) * 3),
            ),
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}},
            (Resize(size=384, method="bicubic"), Normalise(mean=(0.5,) * 3, std=(0.5,) * 3)),
        ),
        (
            {
                "image_processor_type": "ViTImageProcessor",
                "do_resize": False,
                "do_normalize": False,
            },
            (Normalise(mean=(0.0,), std=(1.0,)),),
        ),
        # bytes stay bytes
        (
            {
                "image_processor_type": "ViTImageProcessor",
                "do_resize": False,
                "do_rescale": False,
                "image_mean": [51, 51, 51],
                "image_std": [255, 255, 255],
            },
            (Normalise(mean=(0.2,) * 3, std=(1.0,) * 3),),
        ),
    ],
)
def test_files_of_all_ages_say_what_they_mean(config, steps):
    assert transforms(config) == (Decode(), *steps)


def test_what_a_file_leaves_open_is_what_the_reference_takes_it_for():
    old = {"do_normalize": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    plain = (Normalise(mean=(0.5,) * 3, std=(0.5,) * 3),)
    found = transforms({**old, "size": 224}, "vit")
    assert found == (Decode(), Resize(size=(224, 224)), *plain)
    nulls = {"do_center_crop": None, "crop_size": None, "do_pad": None, "size": None}
    assert transforms({"image_processor_type": "ViTImageProcessorFast", **old, **nulls}) == found
    blip = transforms({"image_processor_type": "BlipImageProcessor", "do_pad": True, **old})
    assert blip == (Decode(), Resize(size=(384, 384), method="bicubic"), *plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image_processor_type": "EvilProcessor"},
            "image_processor_type is 'EvilProcessor', expected one of BlipF",
        ),
        ({"image_processor_type": None}, "has no 'image_processor_type'"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order is True, expected False"),
        (
            {"image_processor_type": "CLIPImageProcessor", "do_pad": True},
            "do_pad is True, expected False",
        ),
        ({"resample": 9}, "resample is 9, expected one of .*bicubic"),
        ({"size": {"longest_edge": 4}}, "size has no 'height'"),
        ({"size": "224"}, "size is '224', expected a whole number"),
        ({"image_mean": "0.5"}, "image_mean is '0.5', expected numbers"),
    ],
)
def test_what_we_have_no_transform_for_is_an_error(change, message):
    config = {"image_processor_type": "ViTImageProcessor", **change}
    with pytest.raises(ValueError, match=message):
        transforms(config)


def test_the_longer_side_is_rounded_down_where_that_is_asked():
    image = np.zeros((30, 45, 3), np.uint8)
    for rounding, width in (("nearest", 16), ("down", 15)):
        resized = ResizeShorter(size=11, rounding=rounding)({"image": image[:, :44]})["image"]
        assert resized.shape == (11, 16, 3)
        resized = ResizeShorter(size=11, rounding=rounding)({"image": image[:, :43]})["image"]
        assert resized.shape == (11, width, 3)
