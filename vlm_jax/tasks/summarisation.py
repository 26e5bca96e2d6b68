"""Writing a short text for a long one, some of its words copied: generation in an extended vocabulary."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.tasks.attention import leaves_named, look_again
from vlm_jax.tasks.generation import Generation
from vlm_jax.types import EOS, PAD, Array, Batch, Variables


@flax.struct.dataclass
class Summaries:
    """What was written, best first, and how much of each word of the best was copied."""

    tokens: Array  # Int[b r l], without BOS, with EOS where it was reached, PAD after it
    scores: Array  # Float[b r], what the search ranks by
    log_probs: Array  # Float[b r], in nats
    copied: Array | None  # Float[b l], 0 to 1; None where the model does not copy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summarisation(Generation):
    """`Generation` of whole words, whose rows beyond the vocabulary are words of batch["text"] (see ExtendedText).

    `predict` also gives the share of each word's probability that came from copying it (See et al. 2017, eq. 9),
    read from what such a decoder sows in a second, teacher-forced pass over the text. A model that does not copy
    is served as well.
    """

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Summaries:
        decoded = super().predict(model, variables, batch, key)
        copied = None
        if hasattr(model.decoder, "num_slots"):
            best = decoded.tokens[:, 0]
            log_probs, sown = look_again(model, variables, batch, best)
            (copying,) = leaves_named(sown, "copying")
            copying = copying[:, -best.shape[1] :]  # [b l n], without the prompt's
            same = batch["text"][:, None, :] == best[:, :, None]
            mass = jnp.where(same, copying, 0).sum(-1)
            chosen = jnp.take_along_axis(log_probs, best[..., None], axis=-1)[..., 0]
            copied = jnp.where(best == PAD, 0, mass / jnp.maximum(jnp.exp(chosen), 1e-37))
        return Summaries(
            tokens=decoded.tokens,
            scores=decoded.scores,
            log_probs=decoded.log_probs,
            copied=copied,
        )

    def texts(self, predictions: Summaries, batch: Batch) -> list[str]:
        return [" ".join(words) for words in self._words(predictions, batch)]

    def examples(self, predictions: Summaries, batch: Batch) -> list[dict[str, Any]]:
        """Adds `words`, and where the model copies `copied`, the share of each."""
        found = super().examples(predictions, batch)
        words = self._words(predictions, batch)
        for row, example in zip(np.flatnonzero(np.asarray(batch["valid"])), found):
            example["words"] = words[row]
            if predictions.copied is not None:
                shares = np.asarray(predictions.copied)[row, : len(words[row])]
                example["copied"] = [round(float(share), 3) for share in shares]
        return found

    def _words(self, predictions: Summaries, batch: Batch) -> list[list[str]]:
        """The words of the best text of each row; one for each of its tokens up to EOS."""
        vocab_size, found = self.tokenizer.vocab_size, []
        for row, tokens in enumerate(np.asarray(predictions.tokens)[:, 0].tolist()):
            end = next((i for i, t in enumerate(tokens) if t in (EOS, PAD)), len(tokens))
            found.append(
                [
                    self.tokenizer.decode([token])
                    if token < vocab_size
                    else _spelled(batch["spelling"][row, token - vocab_size])
                    for token in tokens[:end]
                ]
            )
        return found


def _spelled(letters: Array) -> str:
    return bytes(np.asarray(letters, np.uint8)).rstrip(b"\0").decode("utf-8", "replace")
