"""Writing in one language what a text says in another."""

import dataclasses
from typing import Any

import numpy as np

from vlm_jax.tasks.attention import GenerationWithAttention, Written, words_of
from vlm_jax.types import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translation(GenerationWithAttention):
    """`Generation` of batch["target"] from batch["text"] [b n], tokens of the same vocabulary."""

    def examples(self, predictions: Written, batch: Batch) -> list[dict[str, Any]]:
        """Adds `source_words`, each of which has a column of `attention` [len(words) len(source_words)]."""
        found = super().examples(predictions, batch)
        rows = np.flatnonzero(np.asarray(batch["valid"]))
        for row, example in zip(rows, found):
            example["source_words"], kept = words_of(self.tokenizer, np.asarray(batch["text"])[row])
            if "attention" in example:
                example["attention"] = example["attention"][:, kept]
        return found

    def check(self, model: Any, batch: Batch) -> None:
        super().check(model, batch)
        text, ids = np.asarray(batch["text"]), np.asarray(batch["id"])
        vocab_size = model.text_encoder.vocab_size
        outside = np.argwhere((text < 0) | (text >= vocab_size))
        if len(outside):
            row, column = outside[0]
            raise ValueError(
                f"example id {ids[row]}: text[{column}] is {text[row, column]}, expected 0 <= token < {vocab_size} "
                "(the text encoder's vocab_size)"
            )
