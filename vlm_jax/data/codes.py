"""The codes of a picture, and what stands where in it, as tokens to generate."""

import dataclasses
from typing import Any

import numpy as np

from vlm_jax.data.text_transforms import text_at
from vlm_jax.text.scene_judge import Scene
from vlm_jax.types import BOS, EOS, NUM_SPECIAL, Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodesToTarget:
    """The codes at `key`, Int[n 1] as `Encoded(dtype="int32")` gives them -> Int32[n+2] at `output`; `key` is taken away.

    [[0], [7], [2]] -> [BOS, 4, 11, 6, EOS]

    With a `plan` (text.scene_plan.ScenePlan) that of example["scene"] stands before the codes, in tokens that follow
    those of the codes: Int32[m+n+2].
    """

    num_codes: int
    plan: Any = None
    key: str = "image"
    output: str = "target"

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        codes = np.asarray(example[self.key])
        rest = {key: value for key, value in example.items() if key != self.key}
        if codes.dtype.kind not in "iu" or codes.ndim != 2 or codes.shape[1] != 1:
            raise ValueError(
                f"CodesToTarget: {self.key!r} of example {int(example['id'])} is {codes.dtype} {codes.shape}, expected "
                "whole numbers [n 1]; try Encoded(encoder=CodesOf(...), dtype='int32')"
            )
        if codes.size and not (0 <= codes.min() and codes.max() < self.num_codes):
            raise ValueError(
                f"CodesToTarget: {self.key!r} of example {int(example['id'])} has codes from {codes.min()} to "
                f"{codes.max()}, expected 0 to {self.num_codes - 1}"
            )
        numbers = codes[:, 0]
        if self.plan is not None:
            planned = _planned(self.plan, example, self)
            numbers = np.concatenate([planned + self.num_codes, numbers])
        tokens = np.concatenate([[BOS], numbers + NUM_SPECIAL, [EOS]])
        return {**rest, self.output: tokens.astype(np.int32)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToPlan:
    """The numbers of `plan` (text.scene_plan.ScenePlan) of example["scene"], Int32[m], at `output`."""

    plan: Any
    output: str = "plan"

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        return {**example, self.output: _planned(self.plan, example, self)}


def _planned(plan: Any, example: Example, transform: Any) -> np.ndarray:
    try:
        return plan.encode(Scene.from_json(text_at(example, "scene", transform)))
    except ValueError as error:
        name = type(transform).__name__
        raise ValueError(f"{name}: example {int(example['id'])}: {error}") from error
