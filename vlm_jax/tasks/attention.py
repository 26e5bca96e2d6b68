"""Writing tokens, with a look at where each of them came from."""

import dataclasses
import re
from typing import Any

import flax.struct
import jax
import numpy as np

from vlm_jax.tasks.generation import Generation, read_for
from vlm_jax.types import BOS, EOS, PAD, Array, Batch, Variables


@flax.struct.dataclass
class Written:
    """What was written, best first, and where the best looked."""

    tokens: Array  # Int[b r l], without BOS, with EOS where it was reached, PAD after it
    scores: Array  # Float[b r], what the search ranks by
    log_probs: Array  # Float[b r], of the whole text, in nats
    attention: Array | None  # Float[b l n] of the best; None where the model has no attention


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationWithAttention(Generation):
    """`Generation` for models that look at a memory. `predict` also gives the attention over it, read from what the
    decoder sows as "attention" in a second, teacher-forced pass over the best text."""

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Written:
        decoded = super().predict(model, variables, batch, key)
        best = decoded.tokens[:, 0]
        _, sown = look_again(model, variables, batch, best)
        return Written(
            tokens=decoded.tokens,
            scores=decoded.scores,
            log_probs=decoded.log_probs,
            attention=_last_attention(sown, best.shape[1], batch.get("prompt")),
        )

    def examples(self, predictions: Written, batch: Batch) -> list[dict[str, Any]]:
        """Adds `words`, and where there is attention the weights `attention` [len(words) n]."""
        found = super().examples(predictions, batch)
        rows = np.flatnonzero(np.asarray(batch["valid"]))
        for row, example in zip(rows, found):
            tokens = np.asarray(predictions.tokens)[row, 0]
            example["words"], kept = words_of(self.tokenizer, tokens)
            if predictions.attention is not None:
                example["attention"] = np.asarray(predictions.attention)[row, kept]
        return found


def look_again(
    model: Any, variables: Variables, batch: Batch, tokens: Array
) -> tuple[Array, Variables]:
    """Logits [b l v] and what is sown in "intermediates" when the model is told the `tokens` [b l] that it wrote, after
    BOS or the prompt; what is sown is also of the prompt."""
    inputs = read_for(tokens, batch.get("prompt"))
    alone = {name: value for name, value in batch.items() if name != "segment"}
    logits, sown = model.apply(
        variables, {**alone, "target": inputs}, train=False, mutable=["intermediates"]
    )
    return logits[:, -tokens.shape[1] :], sown.get("intermediates", {})


def words_of(tokenizer: Any, tokens: np.ndarray) -> tuple[list[str], list[int]]:
    """Each token of a text by itself, and where it stands; without the special ones around it."""
    kept = [place for place, token in enumerate(tokens.tolist()) if token not in (PAD, BOS, EOS)]
    return [tokenizer.decode([int(tokens[place])]) for place in kept], kept


def leaves_named(tree: Any, name: str) -> list[Array]:
    """What was sown under this name, by whatever module, the tenth of a kind after the ninth; not what a module of this name
    has sown."""
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
        if names[-1:] == [name]:
            found.append(([_counted(each) for each in names], leaf))
    return [leaf for _, leaf in sorted(found, key=lambda pair: pair[0])]


def _counted(name: str) -> list[tuple[int, str]]:
    """By which "block_10" comes after "block_9": [(0, "block_"), (10, "")]."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _last_attention(intermediates: Any, length: int, prompt: Array | None) -> Array | None:
    """The last sown weights of the decoder over its memory, of the last `length` tokens, heads averaged: [b l n]."""
    before, found = 0 if prompt is None else prompt.shape[1] - 1, None
    for leaf in leaves_named(intermediates.get("decoder", {}), "attention"):
        weights = leaf.mean(1) if leaf.ndim == 4 else leaf
        if weights.ndim == 3 and weights.shape[1] == before + length:
            found = weights[:, before:]
    return found
