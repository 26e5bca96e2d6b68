"""Pictures as they lie on disk -> arrays of one size: `Decode`, then sizes and crops, then `Normalise`.

Every transform is a frozen dataclass called with (example, rng) and changes `example["image"]` only. Between
`Decode` and `Normalise` a picture is uint8 [h w c]; sizes are an int (square) or (height, width).

    Decode(at_least=224), Resize(size=224), Normalise(mean=IMAGENET_MEAN, std=IMAGENET_STD)
"""

import dataclasses
import functools
import io
import math
import os
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vlm_jax.data.source import BadExample
from vlm_jax.types import Example

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FORMATS = (
    "JPEG",
    "PNG",
    "GIF",
    "WEBP",
    "BMP",
    "TIFF",
    "PPM",
)  # no EPS: that would start Ghostscript

Method = Literal["bilinear", "bicubic", "lanczos", "nearest", "box", "hamming"]
Size = int | tuple[int, int]


class BadImage(BadExample):
    """A picture that must be left out."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decode:
    """Encoded bytes, a path or an array -> uint8 [h w channels] in sRGB, or BadImage.

        picture                         becomes
        JPEG, PNG, GIF, WebP, BMP,      itself; recognised by content, whatever the file is called
          TIFF, PPM
        greyscale, bilevel, palette     three equal channels; the colours of the palette
        alpha, transparent palette      laid on white
        CMYK, YCbCr                     RGB, through the embedded profile where there is one
        ICC profile other than sRGB     converted to sRGB; a broken or unfitting profile is ignored
        EXIF orientation 1..8           turned upright; a broken EXIF block is ignored
        16-bit channels                 8 bits, value / 257
        floats (TIFF, arrays)           times 255 where all values are in [0, 1]
        animation, several frames       the first frame
        1 x 1, 1 x 10,000               itself
        more than max_pixels            JPEG: decoded at 1/2, 1/4 or 1/8 scale when that is enough
        --------------------------------------------------------------------------------------------
        more than max_pixels otherwise  BadImage, from the header, before any pixel is decoded
          (and progressive JPEG, whose coefficients need the memory of the full picture)
        truncated, damaged              BadImage with the decoder's words
        0 bytes, no such file           BadImage
        HTML named .jpg, other formats  BadImage with the first bytes
        NaN or values beyond [0, 1]     BadImage (floats); beyond 0..65535 (32-bit integers)

    The largest picture let through, 20 million pixels with alpha, needs less than 300 MB on the way.

    at_least: a JPEG whose shorter side has at least 2, 4 or 8 times so many pixels is decoded at 1/2, 1/4 or 1/8
    scale, which is exact box filtering in the frequency domain and several times faster. None: full size.
    channels: 3, or 1 for luminance.
    """

    max_pixels: int = 20_000_000
    channels: int = 3
    at_least: int | None = None

    def __post_init__(self):
        if self.channels not in (1, 3):
            raise ValueError(f"Decode: channels is {self.channels}, expected 1 or 3")
        if self.max_pixels < 1 or (self.at_least is not None and self.at_least < 1):
            raise ValueError(f"{self}: expected sizes of at least 1")

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        return {**example, "image": self.decode(example["image"], name_of(example))}

    def decode(self, image: Any, name: str = "image") -> np.ndarray:
        """uint8 [h w channels] of what `image` holds; `name` is for the error."""
        from PIL import Image

        if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3:
            if image.shape[2] == self.channels and image.size:
                return image  # it was decoded before
        try:
            if isinstance(image, np.ndarray) and image.dtype.kind not in "SO":
                picture = Image.fromarray(_bytes_of(_without_single_channel(image)))
                picture = _on_white(picture)
            else:
                picture = self._decode(_encoded(image))
            if self.channels == 1:
                return np.asarray(picture.convert("L"))[:, :, None]
            return np.asarray(picture.convert("RGB"))
        except MemoryError:
            raise
        except _Reason as error:
            raise BadImage(name, str(error)) from None
        except (
            Exception
        ) as error:  # the decoders raise whatever they like; all of it is a bad picture
            raise BadImage(name, f"cannot be decoded: {type(error).__name__}: {error}") from error

    def _decode(self, data: bytes):
        from PIL import Image

        if not data:
            raise _Reason("is empty (0 bytes)")
        try:
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.UnidentifiedImageError:
            raise _Reason(
                f"is not a picture of a known format ({', '.join(FORMATS)}): begins with {data[:40]!r}"
            ) from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _Reason(f"is larger than max_pixels {self.max_pixels}: {error}") from None
        width, height = picture.size
        if picture.format in ("JPEG", "MPO"):
            self._reduce(picture)
        if picture.size[0] * picture.size[1] > self.max_pixels:
            raise _Reason(
                f"has {width} x {height} = {width * height} pixels, more than max_pixels {self.max_pixels}"
            )
        profile = picture.info.get("icc_profile")
        picture.load()
        return _in_srgb(_on_white(_upright(picture)), profile)

    def _reduce(self, picture) -> None:
        """Asks the JPEG decoder for 1/2, 1/4 or 1/8 of the size, where that is wanted or needed."""
        width, height = picture.size
        pixels, scale = width * height, 1
        if self.at_least is not None:
            while scale < 8 and min(width, height) >= 2 * scale * self.at_least:
                scale *= 2
        if pixels > self.max_pixels:
            if picture.info.get("progressive"):
                return  # refused above, at its full size
            while scale < 8 and pixels > self.max_pixels * scale * scale:
                scale *= 2
        if scale > 1:
            picture.draft(None, (max(1, width // scale), max(1, height // scale)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resize:
    """Exactly `size`, whatever the proportions were. Pillow's filter, antialiased when shrinking."""

    size: Size
    method: Method = "bilinear"

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        return {**example, "image": _resized(example, _pair(self.size), self.method)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResizeShorter:
    """The shorter side becomes `size`, proportions kept: 640 x 480 at 256 -> 341 x 256. Antialiased, by Pillow.

    The other side is rounded to the nearest number, or down, as torchvision and the published processors do.
    A picture longer than `max_aspect` times its shorter side loses its ends first, as the crop that follows would
    take them anyway: a 1 x 10,000 picture would otherwise need 2 GB.
    """

    size: int
    method: Method = "bilinear"
    max_aspect: float = 16.0
    rounding: Literal["nearest", "down"] = "nearest"

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        image = picture_of(example, self)
        height, width = image.shape[:2]
        longest = max(1, int(self.max_aspect * min(height, width)))
        height, width = min(height, longest), min(width, longest)
        image = _centre(image, height, width)
        shorter = min(height, width)
        if self.rounding == "down":
            size = self.size * height // shorter, self.size * width // shorter
        else:
            scale = self.size / shorter
            size = max(self.size, round(height * scale)), max(self.size, round(width * scale))
        return {**example, "image": _resized({**example, "image": image}, size, self.method)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResizeToPatches:
    """As large as `max_patches` squares of `patch_size` pixels allow, in whole squares of nearly the same proportions
    (Tschannen et al. 2025, arXiv 2502.14786, section 2.4): 640 x 480 at 256 of 16 -> 288 x 224.

    A batch takes pictures that come out in one shape.
    """

    patch_size: int
    max_patches: int
    method: Method = "bilinear"

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        image = picture_of(example, self)
        return {**example, "image": _resized(example, self.size(*image.shape[:2]), self.method)}

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) for a picture of this one."""

        def squares(scale: float) -> tuple[int, int]:
            sides = (math.ceil(side * scale / self.patch_size) for side in (height, width))
            return tuple(max(1, side) for side in sides)

        # As the published processor looks for the scale, to the same precision: where two sizes are near, it decides.
        low, high = 1e-6, 100.0
        while high - low >= 1e-5:
            middle = (low + high) / 2
            if math.prod(squares(middle)) <= self.max_patches:
                low = middle
            else:
                high = middle
        rows, columns = squares(low)
        return rows * self.patch_size, columns * self.patch_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class CentreCrop:
    """The middle `size` of a picture that is at least so large."""

    size: Size

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        image = picture_of(example, self)
        height, width = _fits(example, image, _pair(self.size))
        return {**example, "image": _centre(image, height, width)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomCrop:
    """A random `size` of the picture with `padding` zeros on each side (He et al. 2015, 4.2: 32 with 4 on CIFAR-10).

    Zeros are black before Normalise, and the mean colour after it (the paper's order).
    """

    size: Size
    padding: int = 0

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        image = picture_of(example, self)
        if self.padding:
            image = np.pad(image, ((self.padding,) * 2, (self.padding,) * 2, (0, 0)))
        height, width = _fits(example, image, _pair(self.size))
        top = int(rng.integers(image.shape[0] - height + 1))
        left = int(rng.integers(image.shape[1] - width + 1))
        return {**example, "image": image[top : top + height, left : left + width]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomResizedCrop:
    """A random part of the picture at `size` (Szegedy et al. 2014, section 6).

    `scale`: the part of the area, uniform; `ratio`: width / height, log-uniform. After ten draws that do not fit,
    the largest centred part of an allowed ratio.
    """

    size: Size
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    method: Method = "bilinear"

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        image = picture_of(example, self)
        box = self._box(image.shape[0], image.shape[1], rng)
        return {**example, "image": _resized(example, _pair(self.size), self.method, box)}

    def _box(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """(left, top, right, bottom)"""
        box = random_box(height, width, rng, self.scale, self.ratio)
        if box is not None:
            return box
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
        w, h = max(1, w), max(1, h)
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h


@dataclasses.dataclass(frozen=True, kw_only=True)
class HorizontalFlip:
    """Mirrors the picture with probability `rate`, unless its texts speak of left or right.

    A mirrored picture no longer shows "a dog on the left". So an example stays as it is when its `caption` (or, before
    one is chosen, any of its `captions`) or another text of it, a question say, has a word that begins with "left" or
    "right"; `even_with_left_right=True` mirrors it all the same. It has to stand before `Drop`. Letters in a picture
    are mirrored too: leave this out where text is to be read.
    """

    rate: float = 0.5
    even_with_left_right: bool = False

    def __post_init__(self):
        if not 0 <= self.rate <= 1:
            raise ValueError(f"HorizontalFlip: rate is {self.rate}, expected 0 to 1")

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        image = picture_of(example, self)
        flip = (
            rng.random() < self.rate
        )  # drawn in any case: what follows does not depend on the texts
        if not flip or (not self.even_with_left_right and speaks_of_sides(example)):
            return dict(example)
        return {**example, "image": np.ascontiguousarray(image[:, ::-1])}


@dataclasses.dataclass(frozen=True)
class ToFloat:
    """uint8 0..255 -> float32 [0, 1]. Floats stay as they are."""

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        image = picture_of(example, self)
        result = _as_float32(image)
        if image.dtype == np.uint8:
            result /= np.float32(255)
        return {**example, "image": result}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normalise:
    """float32 (image in [0, 1] - mean) / std. uint8 is brought to [0, 1] first. One value a channel, or one for all."""

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self):
        if len(self.mean) != len(self.std) or not all(value > 0 for value in self.std):
            raise ValueError(f"{self}: expected as many means as stds, and stds above 0")

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        image = picture_of(example, self)
        height, width, channels = image.shape
        if len(self.mean) not in (1, channels):
            raise ValueError(
                f"Normalise: {name_of(example)} has {channels} channels, mean has {len(self.mean)}"
            )
        mean, std = np.asarray(self.mean, np.float64), np.asarray(self.std, np.float64)
        factor = 1 / (255 * std) if image.dtype == np.uint8 else 1 / std
        # In place on whole rows [h w*c]: six times faster than broadcasting along an axis of 3.
        result = _as_float32(image).reshape(height, width * channels)
        repeats = width * channels // len(mean)
        result *= np.tile(factor.astype(np.float32), repeats)
        result -= np.tile((mean / std).astype(np.float32), repeats)
        return {**example, "image": result.reshape(image.shape)}


def name_of(example: Example) -> str:
    """How a person finds this example again: its file name, else its id."""
    name = example.get("image_name")
    if isinstance(name, str) and name:
        return name
    image = example.get("image")
    if isinstance(image, str | Path):
        return str(image)
    return f"id {int(example['id'])}" if "id" in example else "image"


# ---- decoding


class _Reason(Exception):
    pass


def _encoded(image: Any) -> bytes:
    if isinstance(image, np.ndarray):
        image = image.item()
    if isinstance(image, str | os.PathLike):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise _Reason(f"cannot be read: {error}") from None
    if not isinstance(image, bytes | bytearray | memoryview):
        raise TypeError(f"given {type(image).__name__}, expected bytes, a path or an array")
    return bytes(image)


def _without_single_channel(image: np.ndarray) -> np.ndarray:
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if (
        image.ndim not in (2, 3)
        or (image.ndim == 3 and image.shape[2] not in (3, 4))
        or not image.size
    ):
        raise _Reason(
            f"is an array of shape {image.shape}; expected [h w], [h w 1], [h w 3] or [h w 4]"
        )
    return image


def _bytes_of(values: np.ndarray) -> np.ndarray:
    """8-bit values of wider ones, by the table of `Decode`."""
    kind = values.dtype.kind
    if values.dtype == np.uint8:
        return values
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    low, high = values.min(), values.max()  # NaN if there is one
    if kind == "f":
        if not (0 <= low and high <= 1):
            raise _Reason(
                f"has float values from {low} to {high}; expected finite ones from 0 to 1"
            )
        return np.round(values * 255).astype(np.uint8)
    if kind in "iu":
        if not (0 <= low and high <= 65535):
            raise _Reason(f"has integer values from {low} to {high}; expected 0 to 65535")
        return np.round(values / np.float32(257)).astype(np.uint8)
    raise _Reason(f"has values of type {values.dtype}; expected integers or floats")


def _upright(picture):
    from PIL import Image

    turns = Image.Transpose
    orders = (turns.FLIP_LEFT_RIGHT, turns.ROTATE_180, turns.FLIP_TOP_BOTTOM, turns.TRANSPOSE)
    orders += (turns.ROTATE_270, turns.TRANSVERSE, turns.ROTATE_90)
    try:  # after loading: the TIFF decoder turns its pictures itself, and then takes the tag away
        orientation = picture.getexif().get(0x0112, 1)
    except Exception:  # a damaged EXIF block says nothing about the pixels
        orientation = 1
    if orientation in range(2, 9):
        return picture.transpose(orders[orientation - 2])
    return picture


def _on_white(picture):
    """Modes L, RGB and CMYK as they are; everything else as L or RGB, with transparency laid on white."""
    from PIL import Image

    if picture.mode.startswith("I") or picture.mode == "F":
        return Image.fromarray(_bytes_of(np.asarray(picture)))
    clear = picture.has_transparency_data
    if clear:
        picture = picture.convert("RGBA")
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture.getchannel("A"))
        return white
    if picture.mode == "1":
        return picture.convert("L")
    return picture if picture.mode in ("L", "RGB", "CMYK") else picture.convert("RGB")


def _in_srgb(picture, profile: bytes | None):
    """The colours that `profile` means; a damaged profile, or one for other channels, is passed over."""
    if not profile:
        return picture
    from PIL import ImageCms

    try:
        transform = _to_srgb(bytes(profile), picture.mode)
        return picture if transform is None else ImageCms.applyTransform(picture, transform)
    except (ImageCms.PyCMSError, ValueError, OSError):
        return picture


@functools.lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str):
    """The transform to sRGB; None for a profile that is sRGB already."""
    from PIL import ImageCms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
        return None
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


# ---- sizes and values


def picture_of(example: Example, transform: Any) -> np.ndarray:
    """The picture as an array [h w c]; raises TypeError, naming the transform, where it is not decoded yet."""
    image = example["image"]
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        given = (
            f"an array of shape {image.shape}"
            if isinstance(image, np.ndarray)
            else type(image).__name__
        )
        raise TypeError(
            f"{type(transform).__name__}: the image of {name_of(example)} is {given}, expected [h w c]; "
            "put Decode() first"
        )
    return image


def random_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    area: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[int, int, int, int] | None:
    """(left, top, right, bottom) of a random part of a picture; None after ten draws that do not fit.

    area: the part of the picture's, uniform; ratio: width / height, log-uniform.
    """
    for _ in range(10):
        pixels = height * width * rng.uniform(*area)
        shape = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(pixels * shape)), round(math.sqrt(pixels / shape))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    return None


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _fits(example: Example, image: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    if image.shape[0] < size[0] or image.shape[1] < size[1]:
        raise ValueError(
            f"{name_of(example)} is {image.shape[0]} x {image.shape[1]}, smaller than the crop "
            f"{size[0]} x {size[1]}; put ResizeShorter(size={max(size)}) before it, or pad"
        )
    return size


def _centre(image: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _resized(
    example: Example, size: tuple[int, int], method: Method, box: tuple[int, ...] | None = None
) -> np.ndarray:
    from PIL import Image

    image = picture_of(example, Resize)
    if image.dtype != np.uint8:
        raise TypeError(
            f"{name_of(example)} is {image.dtype}, expected uint8; put resizing before ToFloat and Normalise"
        )
    filters = {name.lower(): found for name, found in Image.Resampling.__members__.items()}
    if method not in filters:
        raise ValueError(f"method is {method!r}, expected one of {sorted(filters)}")
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    result = np.asarray(picture.resize((size[1], size[0]), filters[method], box=box))
    return result[:, :, None] if image.shape[2] == 1 else result


def _as_float32(image: np.ndarray) -> np.ndarray:
    """A copy with the same values."""
    if image.dtype != np.uint8 and image.dtype.kind != "f":
        raise TypeError(f"the image is {image.dtype}, expected uint8 or a float in [0, 1]")
    return np.array(image, np.float32, order="C")


_SIDES = re.compile(r"\b(left|right)", re.IGNORECASE)


def speaks_of_sides(example: Example) -> bool:
    """Whether a text of the example has a word that begins with "left" or "right": then no side may change."""
    for key, value in example.items():
        if key == "image_name" or (key == "captions" and "caption" in example):
            continue
        texts = (value,) if isinstance(value, str) else value
        if isinstance(texts, tuple | list):
            if any(isinstance(text, str) and _SIDES.search(text) for text in texts):
                return True
    return False
