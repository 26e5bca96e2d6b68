"""Sources whose examples have a `prompt`: the text that a picture is to be made of.

    Prompted(Tfds("scenes", "test"))                 the first caption of each picture
    ClassPrompted(Tfds("fashion_mnist", "test"), classes=("T-shirt/top", ...))     the name of its class

Metrics and pages read it as `references[id]["prompt"]`. They are for evaluation, where a picture keeps its prompt; in
training `ChooseCaption(output="prompt")` draws another caption each epoch.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar

from vlm_jax.data.source import Description, Source
from vlm_jax.types import Example, References


@dataclasses.dataclass(frozen=True)
class Prompted(Description):
    """The examples of `source`, with the first of their `captions` as `prompt`, and so in the references."""

    needs_texts: ClassVar[str] = "captions"

    source: Source
    _: dataclasses.KW_ONLY
    key: str = "captions"

    @functools.cached_property
    def references(self) -> References:
        return {
            id: {**texts, "prompt": (self._first(id, texts),)}
            for id, texts in self.source.references.items()
        }

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        return {**example, "prompt": self._first(int(example["id"]), example)}

    def _first(self, id: int, texts: Mapping) -> str:
        if not len(texts.get(self.key, ())):
            raise ValueError(
                f"Prompted: example {id} has no {self.key!r} to take a prompt from, only {sorted(texts)}"
            )
        return texts[self.key][0]


@dataclasses.dataclass(frozen=True)
class ClassPrompted(Description):
    """The examples of `source`, with the name of their class, `classes[label]`, as `prompt`."""

    needs_texts: ClassVar[str] = "label"

    source: Source
    _: dataclasses.KW_ONLY
    classes: tuple[str, ...]
    key: str = "label"

    @functools.cached_property
    def references(self) -> References:
        """Reads the source once."""
        texts = self.source.references
        prompts = (self[index] for index in range(len(self)))
        return {
            int(each["id"]): {**texts[int(each["id"])], "prompt": (each["prompt"],)}
            for each in prompts
        }

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        label = int(example[self.key])
        if not 0 <= label < len(self.classes):
            raise ValueError(
                f"ClassPrompted: {self.key!r} of example {int(example['id'])} is {label}, expected 0 to "
                f"{len(self.classes) - 1}, a place in {self.classes}"
            )
        return {**example, "prompt": self.classes[label]}
