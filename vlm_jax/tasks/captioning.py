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
    scores: Array  # Float[b r], what the search ranks by
    log_probs: Array  # Float[b r], of the whole caption, in nats
    attention: (
        Array | None
    )  # Float[b l n] of the best caption; None where the model has no attention


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captioning(Generation):
    """`Generation` for models with an image encoder. `predict` also gives the attention over the picture,
    read from what the decoder sows as "attention" in a second, teacher-forced pass over the caption.

    A decoder with hard attention sows the log probability of the places that it drew; they are trained by
    REINFORCE (Xu et al. 2015, eq. 12): `policy_weight` is the paper's lambda_r, `entropy_weight` its lambda_e. The
    reward of a row is the log probability of its caption. The baseline is the mean log probability of a token in
    the other rows of the batch, times the row's tokens; the paper has a moving average over batches.
    """

    policy_weight: float = 1.0
    entropy_weight: float = 0.002

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
            log_probs=decoded.log_probs,
            attention=_last_attention(sown.get("intermediates", {}), best.shape),
        )

    def policy_loss(self, sown: Variables, nll: Array, mask: Array) -> Array:
        if not sown:
            return jnp.zeros((), jnp.float32)
        (log_prob,) = _leaves_named(sown, "log_prob")
        (entropy,) = _leaves_named(sown, "entropy")
        cost = jax.lax.stop_gradient(jnp.where(mask, nll, 0.0).sum(1))  # [b]
        count = mask.sum(1)
        others = (cost.sum() - cost) / jnp.maximum(count.sum() - count, 1)
        advantage = others * count - cost
        surrogate = self.policy_weight * advantage[:, None] * log_prob
        return -jnp.where(mask, surrogate + self.entropy_weight * entropy, 0.0).sum()

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


def _leaves_named(tree: Any, name: str) -> list[Array]:
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    return [leaf for path, leaf in pairs if name in [getattr(k, "key", None) for k in path]]


def _last_attention(intermediates: Any, shape: tuple[int, int]) -> Array | None:
    """The last sown weights over the picture, heads averaged: [b l n]; a prefix decoder's own
    positions are cut away, since its weights are over picture and text [b i n+l n+l]."""
    found = None
    for leaf in _leaves_named(intermediates, "attention"):
        weights = leaf.mean(1) if leaf.ndim == 4 else leaf
        if weights.ndim != 3 or weights.shape[0] != shape[0]:
            continue
        if weights.shape[1] == shape[1] and weights.shape[2] != shape[1]:
            found = weights  # [b l n]
    return found
