"""Several views of each picture through a frozen encoder: augmentation where the features are cached.

A mirrored picture, or a part of one, has other features. Computed once for each view, they give a frozen encoder the
augmentation that it would have if it ran in every step.

    Views(source=Encoded(...), transforms=((Decode(), Resize(size=224)), (Decode(), RandomResizedCrop(size=224))))
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from vlm_jax.data.encoded import Encoded
from vlm_jax.data.image_transforms import speaks_of_sides
from vlm_jax.data.pipeline import Transform
from vlm_jax.data.source import Description
from vlm_jax.types import Example, References


@dataclasses.dataclass(frozen=True, kw_only=True)
class Views(Description):
    """The examples of `source`, with `image` a sequence of features, one for each of `transforms`.

    View k is `source` with its transforms replaced by transforms[k] and its seed raised by k, so random transforms
    differ from view to view and are the same in every run. `ChooseView` or `MeanOfViews` makes one picture of them.
    """

    source: Encoded
    transforms: tuple[tuple[Transform, ...], ...]

    def __post_init__(self):
        if not isinstance(self.source, Encoded):
            raise TypeError(
                f"given Views(source={type(self.source).__name__}), expected an Encoded: views are of "
                "cached features; a picture that is encoded in every step is augmented by its transforms"
            )
        if not self.transforms:
            raise ValueError(
                "Views(transforms=()) has no view; give at least one tuple of transforms"
            )

    @functools.cached_property
    def references(self) -> References:
        return self.source.references

    def __len__(self) -> int:
        return len(self.views[0])

    def __getitem__(self, index: int) -> Example:
        example = self.views[0].example(index)
        return {**example, "image": _Lazy(self.views, index)}

    @functools.cached_property
    def views(self) -> tuple[Encoded, ...]:
        """One source for each of `transforms`."""
        views = tuple(
            dataclasses.replace(self.source, transforms=chain, seed=self.source.seed + k)
            for k, chain in enumerate(self.transforms)
        )
        if len({len(view) for view in views}) > 1:
            sizes = [len(view) for view in views]
            raise ValueError(
                f"the views have {sizes} pictures: one of them refuses pictures that another takes"
            )
        return views


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChooseView:
    """One view at random, drawn anew for each (epoch, index). For training.

    `mirrored` names the views that are mirror images: an example whose texts speak of left or right (as HorizontalFlip
    has it) gets one of the others.
    """

    mirrored: tuple[int, ...] = ()

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        views = example["image"]
        chosen, other = int(rng.integers(len(views))), rng.random()
        if chosen in self.mirrored and speaks_of_sides(example):
            kept = [k for k in range(len(views)) if k not in self.mirrored]
            if not kept:
                raise ValueError(
                    f"ChooseView(mirrored={self.mirrored}): all {len(views)} views are mirror images, and example id "
                    f"{example.get('id')} speaks of left or right; expected a view that is none"
                )
            chosen = kept[int(other * len(kept))]
        return {**example, "image": views[chosen]}


@dataclasses.dataclass(frozen=True)
class MeanOfViews:
    """The mean of all views. For evaluation, with views that are not drawn at random.

    Of a grid [height*width d], `mirrored` names the views that are mirror images: their columns are turned round, so
    that the mean is taken over what lies at the same place of the picture.
    """

    grid: tuple[int, int] | None = None
    mirrored: tuple[int, ...] = ()

    def __post_init__(self):
        if self.mirrored and self.grid is None:
            raise ValueError(
                f"MeanOfViews(mirrored={self.mirrored}) needs the grid (height, width) that lies mirrored; features "
                "pooled to one position need neither"
            )

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        views = example["image"]
        total = sum(self._upright(views[k], k) for k in range(len(views)))
        return {**example, "image": total / np.float32(len(views))}

    def _upright(self, features: np.ndarray, k: int) -> np.ndarray:
        if k not in self.mirrored:
            return features
        height, width = self.grid
        if len(features) != height * width:
            raise ValueError(
                f"MeanOfViews(grid={self.grid}): given features of {len(features)} places, expected {height * width}"
            )
        return features.reshape(height, width, -1)[:, ::-1].reshape(features.shape)


class _Lazy(Sequence):
    """The features of one picture in each view, read when asked for."""

    def __init__(self, views: tuple[Encoded, ...], index: int):
        self._views, self._index = views, index

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, k: int) -> np.ndarray:
        return self._views[k][self._index]["image"]
