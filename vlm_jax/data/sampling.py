"""Sources made of another source: which of its examples, and how often."""

import dataclasses
import functools
from typing import ClassVar

import numpy as np

from vlm_jax.data.source import Description, Source
from vlm_jax.types import Example, References


@dataclasses.dataclass(frozen=True)
class EachCaption(Description):
    """One example for every (picture, caption): `captions`, a tuple, becomes `caption`, one `str`.

    The id stays the picture's, so `references` are those of the pictures. `captions` is how many captions every
    picture has; None counts them, which reads the whole source once.
    """

    needs_texts: ClassVar[str] = "captions"

    source: Source
    _: dataclasses.KW_ONLY
    captions: int | None = None

    @property
    def references(self) -> References:
        return self.source.references

    def __len__(self) -> int:
        if self.captions is not None:
            return len(self.source) * self.captions
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} captions")
        if self.captions is not None:
            picture, which = divmod(index, self.captions)
        else:
            picture = int(np.searchsorted(self._ends, index, side="right")) - 1
            which = index - int(self._ends[picture])
        example = dict(self.source[picture])
        texts = example.pop("captions")
        if self.captions is not None and len(texts) != self.captions:
            raise ValueError(
                f"example id {int(example['id'])} has {len(texts)} captions, expected {self.captions}; "
                "leave `captions` out of EachCaption to count them"
            )
        return {**example, "caption": texts[which]}

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        """Int[pictures + 1]: how many captions the pictures before each one have: [0, 5, 10, 14, ...]."""
        references = self.source.references
        if len(references) == len(self.source):  # in the order of the examples
            texts = references.values()
        else:  # an id that comes twice
            texts = (self.source[index] for index in range(len(self.source)))
        counts = [len(text.get("captions", ())) for text in texts]
        return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


@dataclasses.dataclass(frozen=True)
class First(Description):
    """The first `count` examples of a source, or all of them where there are fewer."""

    source: Source
    count: int

    @functools.cached_property
    def references(self) -> References:
        kept = {int(self.source[index]["id"]) for index in range(len(self))}
        return {id: texts for id, texts in self.source.references.items() if id in kept}

    @property
    def fingerprint(self) -> str:
        return f"{self.source.fingerprint}[:{self.count}]"

    def __len__(self) -> int:
        return min(self.count, len(self.source))

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} examples")
        return self.source[index]
