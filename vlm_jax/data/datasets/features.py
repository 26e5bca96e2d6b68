"""Features that several datasets share."""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds


def texts() -> tfds.features.Tensor:
    """Any number of texts. Stored as Sequence(Text()) stores them, byte for byte; that encodes and decodes one text at a time
    (12,544 sentences of five columns of words: prepared and 1,000 of them read in 10.8 seconds against 4.7)."""
    return numbers(np.str_)


def numbers(dtype: Any = np.int64) -> tfds.features.Tensor:
    """Any number of numbers."""
    return tfds.features.Tensor(shape=(None,), dtype=dtype)
