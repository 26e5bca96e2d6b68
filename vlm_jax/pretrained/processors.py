"""What a published model's pictures go through, preprocessor_config.json, as our transforms.

    transforms(load(...).folder.preprocessor) -> (Decode(), Resize(size=(224, 224), method="bicubic"), Normalise(...))

Sizes are made by Pillow's filters, antialiased, on bytes, as the reference processors do it that need Pillow alone;
those built on torchvision give bytes that differ by one at most.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from vlm_jax.data.image_transforms import (
    CentreCrop,
    Decode,
    Normalise,
    Resize,
    ResizeShorter,
    ResizeToPatches,
)
from vlm_jax.data.pipeline import Transform
from vlm_jax.data.tiles import StackTiles, Tiles
from vlm_jax.pretrained.settings import Settings

Triple = tuple[float, ...]
HALF: Triple = (0.5, 0.5, 0.5)
CLIP_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Triple = (0.26862954, 0.26130258, 0.27577711)
# Pillow's numbers of its filters.
METHODS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


@dataclasses.dataclass(frozen=True)
class _Kind:
    """What a processor does where its file does not say."""

    size: int
    resample: int
    resize: Literal["exact", "shorter", "crop_pct", "patches", "tiles"]  # what the size means
    crop: int | None = None
    mean: Triple = HALF
    std: Triple = HALF


KINDS: Mapping[str, _Kind] = {
    "ViT": _Kind(224, 2, "exact"),
    "Siglip": _Kind(224, 3, "exact"),
    "Siglip2": _Kind(256, 2, "patches"),
    "Blip": _Kind(384, 3, "exact", mean=CLIP_MEAN, std=CLIP_STD),
    "CLIP": _Kind(224, 3, "shorter", crop=224, mean=CLIP_MEAN, std=CLIP_STD),
    "MobileNetV2": _Kind(256, 2, "shorter", crop=224),
    "ConvNext": _Kind(384, 3, "crop_pct"),
    "Idefics3": _Kind(364, 1, "tiles"),
    "SmolVLM": _Kind(364, 1, "tiles"),
}


# The model_type of config.json where the file does not name its processor.
OF_MODELS: Mapping[str, str] = {
    "vit": "ViT",
    "vision-encoder-decoder": "ViT",
    "clip": "CLIP",
    "git": "CLIP",
    "llava": "CLIP",
    "siglip": "Siglip",
    "paligemma": "Siglip",
    "siglip2": "Siglip2",
    "blip": "Blip",
    "mobilenet_v2": "MobileNetV2",
    "convnext": "ConvNext",
    "resnet": "ConvNext",
    "idefics3": "Idefics3",
    "smolvlm": "SmolVLM",
}


def transforms(
    preprocessor: Mapping[str, Any], model_type: str | None = None
) -> tuple[Transform, ...]:
    """From encoded bytes, a path or an array to float32 [h w c]. ValueError for what we have no transform for.

    `model_type` is config.json's, which says whose processor it is where the file does not.
    """
    said = {key: value for key, value in preprocessor.items() if value is not None}
    settings = Settings(said, name="preprocessor_config.json")
    kind = _kind(settings, model_type)
    settings.expect("do_flip_channel_order", False)
    if kind.resize == "tiles":
        tiles = _tiles(settings, kind)
        return (Decode(), tiles, _normalise(settings, kind), StackTiles(tiles=tiles))
    if kind.resize != "exact":  # all have one size, there is nothing to fill
        settings.expect("do_pad", False)
    return (Decode(), *_sizes(settings, kind), *_crop(settings, kind), _normalise(settings, kind))


def _kind(settings: Settings, model_type: str | None) -> _Kind:
    names = {f"{name}{end}": kind for name, kind in KINDS.items() for end in _ENDS}
    key, older = "image_processor_type", "feature_extractor_type"
    if settings.has(older) and not settings.has(key):
        return settings.choice(older, names)
    if model_type in OF_MODELS:
        return settings.choice(key, names, f"{OF_MODELS[model_type]}ImageProcessor")
    return settings.choice(key, names)


_ENDS = ("ImageProcessor", "ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor")


def _tiles(settings: Settings, kind: _Kind) -> Tiles:
    settings.expect("do_resize", True)
    size, longest = kind.size, 4 * kind.size
    if settings.has("max_image_size"):
        size = settings.inner("max_image_size").integer("longest_edge")
    if settings.has("size"):
        longest = settings.inner("size").integer("longest_edge")
    split = settings.flag("do_image_splitting", True)
    return Tiles(size=size, longest=longest, method=_method(settings, kind), split=split)


def _method(settings: Settings, kind: _Kind) -> str:
    number = settings.integer("resample", kind.resample)
    if number not in METHODS:
        raise ValueError(
            f"preprocessor_config.json: resample is {number}, expected one of {METHODS}"
        )
    return METHODS[number]


def _sizes(settings: Settings, kind: _Kind) -> tuple[Transform, ...]:
    if not settings.flag("do_resize", True):
        return ()
    method = _method(settings, kind)
    if kind.resize == "patches":
        patch_size = settings.integer("patch_size", 16)
        most = settings.integer("max_num_patches", kind.size)
        return (ResizeToPatches(patch_size=patch_size, max_patches=most, method=method),)
    size = _size(settings, "size", kind.size, kind.resize)
    if not isinstance(size, int):
        return (Resize(size=size, method=method),)
    if kind.resize != "crop_pct":
        return (ResizeShorter(size=size, method=method, rounding="down"),)
    # Liu et al. 2022: below 384 the middle of a larger picture, from there on all of it.
    if size >= 384:
        return (Resize(size=size, method=method),)
    larger = int(size / settings.number("crop_pct", 224 / 256))
    return (
        ResizeShorter(size=larger, method=method, rounding="down"),
        CentreCrop(size=size),
    )


def _crop(settings: Settings, kind: _Kind) -> tuple[Transform, ...]:
    if not settings.flag("do_center_crop", kind.crop is not None):
        return ()
    size = _size(settings, "crop_size", kind.crop or kind.size, "exact")
    return (CentreCrop(size=size),)


def _size(settings: Settings, key: str, default: int, one: str) -> int | tuple[int, int]:
    """(height, width), or an int: that of the shorter side."""
    found = settings.inner(key) if settings.is_mapping(key) else None
    if found is None:  # files of before 2023 have a number
        size = settings.integer(key, default)
        return (size, size) if one == "exact" else size
    if found.has("shortest_edge"):
        return found.integer("shortest_edge")
    return found.integer("height"), found.integer("width")


def _normalise(settings: Settings, kind: _Kind) -> Normalise:
    """(bytes * factor - mean) / std as ours, whose pictures are bytes / 255."""
    factor = settings.number("rescale_factor", 1 / 255)
    scale = 255 * (factor if settings.flag("do_rescale", True) else 1.0)
    if abs(scale - 1) < 1e-6:  # 0.00392156862745098 is meant to be 1 / 255
        scale = 1.0
    mean = settings.numbers("image_mean", kind.mean)
    std = settings.numbers("image_std", kind.std)
    if not settings.flag("do_normalize", True):
        mean, std = (0.0,), (1.0,)
    return Normalise(mean=tuple(x / scale for x in mean), std=tuple(x / scale for x in std))
