"""Language modelling: how probable a text is, and how it might go on."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.metrics.base import Mean
from vlm_jax.tasks.base import Aux
from vlm_jax.tasks.generation import Generation
from vlm_jax.types import BOS, EOS, PAD, Array, Batch, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageModelling(Generation):
    """`Generation` of the windows of a long text (data/streams.py), in nats per token.

    In evaluation, where the batch says how many `bytes` [b] its texts have, also "bits_per_byte", which does not depend
    on how the text is cut into tokens. `predict` goes on from batch["prompt"] [b l] = BOS, words, EOS or not, PAD ...: as in
    a stream, a sentence follows the EOS of the one before, so the prompt's BOS is read as EOS.
    """

    def loss(
        self, model: Any, variables: Variables, batch: Batch, *, rngs: dict, train: bool
    ) -> tuple[Array, Aux]:
        objective, aux = super().loss(model, variables, batch, rngs=rngs, train=train)
        metrics = dict(aux.metrics)
        if "bytes" in batch and not train:  # of a few windows it says nothing
            size = jnp.where(batch["valid"], batch["bytes"], 0).sum().astype(jnp.float32)
            bits = metrics["loss"].total / math.log(2)
            metrics["bits_per_byte"] = Mean(total=bits, count=size)
        return objective, aux._replace(metrics=metrics)

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Any:
        """`Decoded`: what follows the prompt, without it."""
        prompt = batch["prompt"]
        prompt = jnp.where(prompt == EOS, PAD, prompt)
        prompt = jnp.where(prompt == BOS, EOS, prompt)
        size, length = prompt.shape
        last = (prompt != PAD).sum(1) - 1  # [b], where the last word of each prompt stands
        read = jnp.where(jnp.arange(length)[None] < last[:, None], prompt, PAD)
        cache = model.apply(
            variables, None, size, length + self.decoding.max_length, method="initial_cache"
        )

        def step(token, cache):
            return model.apply(variables, token, cache, None, method="step")

        cache, _ = jax.lax.scan(lambda c, token: (step(token, c)[1], None), cache, read.T)
        prompted = {
            "model": cache,
            "next": jnp.take_along_axis(prompt, last[:, None], axis=1)[:, 0],
        }

        def prompted_step(token, cache, memory):
            # The search begins with BOS; here it begins with the last word of the prompt.
            token = jnp.where(token == BOS, cache["next"], token)
            logits, after = step(token, cache["model"])
            return logits, {**cache, "model": after}

        return self.decoding(prompted_step, prompted, None, batch_size=size, key=key)

    def check(self, model: Any, batch: Batch) -> None:
        """A window need not end with EOS; its tokens must be the vocabulary's."""
        target, vocab_size = np.asarray(batch["target"]), model.decoder.vocab_size
        if self.tokenizer.vocab_size != vocab_size:
            raise ValueError(
                f"the tokenizer declares vocab_size {self.tokenizer.vocab_size}, the decoder {vocab_size}; "
                "give both the same number"
            )
        if target.min() < 0 or target.max() >= vocab_size:
            raise ValueError(
                f"a window has the tokens {target.min()} to {target.max()}, expected 0 <= token < {vocab_size} (the "
                "decoder's vocab_size)"
            )
