"""Writing a caption for a picture: generation, with a look at where each word came from."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.tasks.generation import Generation
from vlm_jax.types import BOS, EOS, PAD, Array, Batch, Variables


@flax.struct.dataclass
class Captions:
    """What was written, best first, and where the best caption looked."""

    tokens: Array  # Int[b r l], without BOS, with EOS where it was reached, PAD after it
    scores: Array  # Float[b r]
    attention: (
        Array | None
    )  # Float[b l n] of the best caption; None where the model has no attention


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captioning(Generation):
    """`Generation` for models with an image encoder. `predict` also gives the attention over the picture,
    read from what the decoder sows as "attention" in a second, teacher-forced pass over the caption."""

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Captions:
        decoded = super().predict(model, variables, batch, key)
        best = decoded.tokens[:, 0]
        first = jnp.full_like(best[:, :1], BOS)
        inputs = jnp.concatenate([first, best[:, :-1]], axis=1)
        _, sown = model.apply(
            variables, {**batch, "target": inputs}, train=False, mutable=["intermediates"]
        )
        return Captions(
            tokens=decoded.tokens,
            scores=decoded.scores,
            attention=_last_attention(sown.get("intermediates", {}), best.shape),
        )

    def examples(self, predictions: Captions, batch: Batch) -> list[dict[str, Any]]:
        """Adds `words`, and where there is attention the weights `attention` [len(words) n]."""
        found = super().examples(predictions, batch)
        rows = np.flatnonzero(np.asarray(batch["valid"]))
        for row, example in zip(rows, found):
            tokens = [t for t in np.asarray(predictions.tokens)[row, 0].tolist() if t != PAD]
            kept = [position for position, token in enumerate(tokens) if token != EOS]
            example["words"] = [self.tokenizer.decode([tokens[position]]) for position in kept]
            if predictions.attention is not None:
                example["attention"] = np.asarray(predictions.attention)[row, kept]
        return found


def _last_attention(intermediates: Any, shape: tuple[int, int]) -> Array | None:
    """The last sown weights over the picture, heads averaged: [b l n]; a prefix decoder's own
    positions are cut away, since its weights are over picture and text [b i n+l n+l]."""
    found = None
    for path, leaf in jax.tree_util.tree_leaves_with_path(intermediates):
        names = [str(getattr(entry, "key", "")) for entry in path]
        if "attention" not in names:
            continue
        weights = leaf.mean(1) if leaf.ndim == 4 else leaf
        if weights.ndim != 3 or weights.shape[0] != shape[0]:
            continue
        if weights.shape[1] == shape[1] and weights.shape[2] != shape[1]:
            found = weights  # [b l n]
    return found
