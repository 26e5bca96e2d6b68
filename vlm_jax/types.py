"""The shapes that travel between rooms, and the alphabet they are written in.

Axes, everywhere in this package:

    b batch         l text length    n image positions (or memory positions)
    h w c image     d features       v vocabulary
    k classes, or beams              q queries          i heads
"""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import numpy as np

PAD, BOS, EOS, UNK = 0, 1, 2, 3  # every tokenizer of ours uses these, so mask = tokens != PAD
NUM_SPECIAL = 4
BASE = "base"  # the Linen collection of parameters that a run never changes
CARRY = "carry"  # the Linen collection of what goes on from batch to batch, leading axis b

Array = jax.Array
Example = Mapping[str, np.ndarray]  # one item on the host; no batch axis
Batch = Mapping[str, Array]  # leading axis b; always has 'valid': Bool[b] and 'id': Int[b]
Variables = Mapping[str, Any]  # Linen collections, 'params' among them
Cache = Any  # a pytree of arrays, every one with leading axis b, so that beams can be reordered
References = Mapping[int, Mapping[str, tuple[str, ...]]]  # id -> {'captions': gold texts, ...}


@flax.struct.dataclass
class Features:
    """A sequence of vectors and which of them are real.

    `tokens` is what a decoder that copies would write for each of them; None where nothing can be copied.
    """

    values: Array  # Float[b n d]
    mask: Array  # Bool[b n], False where padded
    tokens: Array | None = None  # Int[b n]
