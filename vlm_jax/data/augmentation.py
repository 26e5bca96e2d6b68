"""What is done to training pictures besides crops and flips: colours, erased boxes, RandAugment.

Transforms as in image_transforms, between `Decode` and `Normalise`: uint8 [h w c]. With a rate or strength of 0 they
leave the picture as it is. Where an example is asked for its colours, leave those that change colours out.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from vlm_jax.data.image_transforms import picture_of, random_box, speaks_of_sides
from vlm_jax.types import Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColourJitter:
    """Brightness, contrast and saturation, in this order, each by a factor drawn from 1 - strength to 1 + strength.

    Brightness scales towards black, contrast towards the picture's mean grey, saturation towards its own grey.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        image = _bytes(example, self)
        strengths = (self.brightness, self.contrast, self.saturation)
        factors = [rng.uniform(1 - strength, 1 + strength) for strength in strengths]
        if not any(strengths):
            return dict(example)
        x = image.astype(np.float32) * factors[0]
        x = _grey(x).mean() + factors[1] * (x - _grey(x).mean())
        grey = _grey(x)
        x = grey + factors[2] * (x - grey)
        return {**example, "image": np.clip(np.rint(x), 0, 255).astype(np.uint8)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomErasing:
    """With probability `rate`, random bytes in a random box (Zhong et al. 2020, arXiv 1708.04896, algorithm 1).

    area: of the box, as a part of the picture; ratio: its width / height. Ten draws that do not fit leave it whole.
    """

    rate: float = 0.5
    area: tuple[float, float] = (0.02, 0.4)
    ratio: tuple[float, float] = (0.3, 1 / 0.3)

    def __post_init__(self):
        if not 0 <= self.rate <= 1:
            raise ValueError(f"RandomErasing: rate is {self.rate}, expected 0 to 1")

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        image = _bytes(example, self)
        height, width, channels = image.shape
        if rng.random() >= self.rate:
            return dict(example)
        box = random_box(height, width, rng, self.area, self.ratio)
        if box is None:
            return dict(example)
        left, top, right, bottom = box
        image = image.copy()
        size = (bottom - top, right - left, channels)
        image[top:bottom, left:right] = rng.integers(0, 256, size, np.uint8)
        return {**example, "image": image}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandAugment:
    """`num_ops` of fourteen changes, drawn one after another, each at `magnitude` (Cubuk et al. 2020, arXiv 1909.13719).

    The magnitude goes from 0 to 10, as in the paper; its ranges are those of AutoAugment (Cubuk et al. 2019, table 6),
    with moves as parts of the picture: rotate 30 degrees, shear 0.3, move 0.45, enhance by 0.9, posterise to 4 bits,
    solarise above 0. The sign of each is drawn. What leaves the picture is black.

    An example whose texts speak of left or right, as for `HorizontalFlip`, is not turned, sheared or moved:
    a change of that kind is drawn and left out.
    """

    num_ops: int = 2
    magnitude: float = 5.0

    def __post_init__(self):
        if self.num_ops < 0 or not 0 <= self.magnitude <= 10:
            raise ValueError(f"{self}: expected num_ops >= 0 and 0 <= magnitude <= 10")

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        image = _bytes(example, self)
        drawn = [(int(rng.integers(len(OPS))), rng.random() < 0.5) for _ in range(self.num_ops)]
        sides = self.num_ops and speaks_of_sides(example)
        for number, negative in drawn:
            op = OPS[number]
            if not (sides and op in GEOMETRIC):
                strength = self.magnitude / 10
                image = _through_pillow(image, op, -strength if negative else strength)
        return {**example, "image": image}


# ---- the changes: (Pillow picture, strength from -1 to 1) -> Pillow picture


def identity(picture: Any, strength: float) -> Any:
    return picture


def auto_contrast(picture: Any, strength: float) -> Any:
    from PIL import ImageOps

    return ImageOps.autocontrast(picture)


def equalise(picture: Any, strength: float) -> Any:
    from PIL import ImageOps

    return ImageOps.equalize(picture)


def solarise(picture: Any, strength: float) -> Any:
    """What is above the threshold is inverted."""
    from PIL import ImageOps

    return ImageOps.solarize(picture, round(256 * (1 - abs(strength))))


def posterise(picture: Any, strength: float) -> Any:
    from PIL import ImageOps

    return ImageOps.posterize(picture, 8 - round(4 * abs(strength)))


def saturation(picture: Any, strength: float) -> Any:
    return _enhanced("Color", picture, strength)


def contrast(picture: Any, strength: float) -> Any:
    return _enhanced("Contrast", picture, strength)


def brightness(picture: Any, strength: float) -> Any:
    return _enhanced("Brightness", picture, strength)


def sharpness(picture: Any, strength: float) -> Any:
    return _enhanced("Sharpness", picture, strength)


def rotate(picture: Any, strength: float) -> Any:
    from PIL import Image

    return picture.rotate(30 * strength, Image.Resampling.BILINEAR)


def shear_x(picture: Any, strength: float) -> Any:
    slope = 0.3 * strength
    return _affine(picture, (1, slope, -slope * picture.height / 2, 0, 1, 0))


def shear_y(picture: Any, strength: float) -> Any:
    slope = 0.3 * strength
    return _affine(picture, (1, 0, 0, slope, 1, -slope * picture.width / 2))


def move_x(picture: Any, strength: float) -> Any:
    return _affine(picture, (1, 0, 0.45 * strength * picture.width, 0, 1, 0))


def move_y(picture: Any, strength: float) -> Any:
    return _affine(picture, (1, 0, 0, 0, 1, 0.45 * strength * picture.height))


GEOMETRIC = (rotate, shear_x, shear_y, move_x, move_y)
OPS: tuple[Callable[[Any, float], Any], ...] = (
    identity,
    auto_contrast,
    equalise,
    solarise,
    posterise,
    saturation,
    contrast,
    brightness,
    sharpness,
    *GEOMETRIC,
)


def _enhanced(what: str, picture: Any, strength: float) -> Any:
    from PIL import ImageEnhance

    return getattr(ImageEnhance, what)(picture).enhance(1 + 0.9 * strength)


def _affine(picture: Any, coefficients: tuple[float, ...]) -> Any:
    """What stands at (x, y) is what stood at (a x + b y + c, d x + e y + f)."""
    from PIL import Image

    return picture.transform(
        picture.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )


def _through_pillow(image: np.ndarray, op: Callable[[Any, float], Any], strength: float):
    from PIL import Image

    grey = image.shape[2] == 1
    changed = np.asarray(op(Image.fromarray(image[:, :, 0] if grey else image), strength))
    return changed[:, :, None] if grey else changed


def _bytes(example: Example, transform: Any) -> np.ndarray:
    image = picture_of(example, transform)
    if image.dtype != np.uint8:
        raise TypeError(
            f"{type(transform).__name__}: the image is {image.dtype}, expected uint8; put it before ToFloat and Normalise"
        )
    return image


def _grey(image: np.ndarray) -> np.ndarray:
    """[h w 1] of float [h w c]: luminance as Pillow weighs it."""
    if image.shape[2] == 1:
        return image
    return (image @ np.array([0.299, 0.587, 0.114], np.float32))[:, :, None]
