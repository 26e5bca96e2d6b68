"""Sources made of another source: which of its examples, and how often."""

import dataclasses
import functools
from typing import ClassVar

import numpy as np

from vlm_jax.data.source import Source
from vlm_jax.types import Example, References


@dataclasses.dataclass(frozen=True)
class EachCaption:
    """One example for every (picture, caption): `captions`, a tuple, becomes `caption`, one `str`.

    The id stays the picture's, so `references` are those of the pictures. `captions` is how many captions every
    picture has; None counts them, which reads the whole source once.
    """

    needs_captions: ClassVar[bool] = True

    source: Source
    _: dataclasses.KW_ONLY
    captions: int | None = None

    @property
    def references(self) -> References:
        return self.source.references

    def __len__(self) -> int:
        if self.captions is not None:
            return len(self.source) * self.captions
        return int(_caption_ends(self.source)[-1])

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} captions")
        if self.captions is not None:
            picture, which = divmod(index, self.captions)
        else:
            ends = _caption_ends(self.source)
            picture = int(np.searchsorted(ends, index, side="right")) - 1
            which = index - int(ends[picture])
        example = dict(self.source[picture])
        texts = example.pop("captions")
        if self.captions is not None and len(texts) != self.captions:
            raise ValueError(
                f"example id {int(example['id'])} has {len(texts)} captions, expected {self.captions}; "
                "leave `captions` out of EachCaption to count them"
            )
        return {**example, "caption": texts[which]}


@dataclasses.dataclass(frozen=True)
class First:
    """The first `count` examples of a source, or all of them where there are fewer."""

    source: Source
    count: int

    @property
    def references(self) -> References:
        kept = {int(self.source[index]["id"]) for index in range(len(self))}
        return {id: texts for id, texts in self.source.references.items() if id in kept}

    def __len__(self) -> int:
        return min(self.count, len(self.source))

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} examples")
        return self.source[index]


@functools.lru_cache(maxsize=32)
def _caption_ends(source: Source) -> np.ndarray:
    """Int[pictures + 1]: how many captions the pictures before each one have: [0, 5, 10, 14, ...]."""
    references = source.references
    if len(references) == len(source):  # in the order of the examples
        counts = [len(texts.get("captions", ())) for texts in references.values()]
    else:  # an id that comes twice
        counts = [len(source[index].get("captions", ())) for index in range(len(source))]
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
