"""Long-tailed training sets: a source with fewer examples of each class than of the one before.

counts = exponential(largest=5000, num_classes=10, imbalance=100)    (5000, 2997, 1796, 1077, 645, ..., 50)
LongTailed(Tfds("cifar10", "train"), counts=counts)                  12,406 examples
"""

import dataclasses
import functools

import numpy as np

from vlm_jax.data.class_sampling import labels_of
from vlm_jax.data.source import Description, Source
from vlm_jax.types import Example, References


def exponential(*, largest: int, num_classes: int, imbalance: float) -> tuple[int, ...]:
    """`largest` imbalance^(-i / (num_classes - 1)), rounded down, for class i.

    `imbalance` is the largest over the smallest (Cui et al. 2019, arXiv 1901.05555, section 5.1; `exp` of Cao et al.
    2019, arXiv 1906.07413).
    """
    _check(largest, num_classes, imbalance)
    powers = [-index / (num_classes - 1) for index in range(num_classes)]
    return tuple(int(largest * imbalance**power + 1e-6) for power in powers)


def step(*, largest: int, num_classes: int, imbalance: float) -> tuple[int, ...]:
    """`largest` for the first half of the classes, and a part of one in `imbalance` for the others (Cao et al. 2019)."""
    _check(largest, num_classes, imbalance)
    few = num_classes - num_classes // 2
    return (largest,) * (num_classes // 2) + (int(largest / imbalance + 1e-6),) * few


def _check(largest: int, num_classes: int, imbalance: float) -> None:
    if num_classes < 2 or not 1.0 <= imbalance <= largest:
        raise ValueError(
            f"given largest {largest}, num_classes {num_classes}, imbalance {imbalance}; expected two classes or more, "
            "and 1 <= imbalance <= largest, so that every class has an example"
        )


@dataclasses.dataclass(frozen=True)
class LongTailed(Description):
    """`counts[c]` of the examples of class c, in the order of the source.

    Which ones depends on `seed` and the order of the source; those of smaller counts are among those of larger ones.
    """

    source: Source
    _: dataclasses.KW_ONLY
    counts: tuple[int, ...]
    seed: int = 0

    @functools.cached_property
    def references(self) -> References:
        kept = {int(self[index]["id"]) for index in range(len(self))}
        return {id: texts for id, texts in self.source.references.items() if id in kept}

    @property
    def labels(self) -> np.ndarray:
        """Int[size]"""
        return labels_of(self.source)[self._kept]

    @property
    def fingerprint(self) -> str:
        return f"{self.source.fingerprint}{list(self.counts)}.{self.seed}"

    def __len__(self) -> int:
        return sum(self.counts)

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} examples")
        return self.source[int(self._kept[index])]

    @functools.cached_property
    def _kept(self) -> np.ndarray:
        """Int[size], the places in the source."""
        labels = labels_of(self.source)
        found = np.bincount(labels, minlength=len(self.counts))
        for label, (has, wanted) in enumerate(zip(found, self.counts)):
            if has < wanted:
                raise ValueError(
                    f"LongTailed: {self.source} has {has} examples of class {label}, counts ask for {wanted}; "
                    f"make `largest` at most {has}"
                )
        if len(found) > len(self.counts):
            raise ValueError(
                f"LongTailed: given counts of {len(self.counts)} classes, the source has {len(found)}"
            )
        order = np.argsort(np.random.Philox(key=self.seed).random_raw(len(labels)), kind="stable")
        kept = [order[labels[order] == c][:count] for c, count in enumerate(self.counts)]
        return np.sort(np.concatenate(kept))
