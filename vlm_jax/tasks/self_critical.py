"""Captions trained on their own score: self-critical sequence training (Rennie et al. 2017, arXiv 1612.00563)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.decoding.base import tile
from vlm_jax.decoding.sampling import Greedy, Sampling
from vlm_jax.metrics.base import Mean
from vlm_jax.tasks.base import Aux, softmax_cross_entropy
from vlm_jax.tasks.captioning import Captioning
from vlm_jax.tasks.generation import check_length, read_for, write
from vlm_jax.types import EOS, PAD, Array, Batch, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfCritical(Captioning):
    """Minimises -(reward - baseline) log p(caption) of captions that the model itself draws (eq. 5 to 8).

    `sampling` draws num_results captions a picture from the whole distribution, `reward(tokens [b r l], ids [b])`
    judges them on the host, and the gradient is that of their log probability. The baseline is the reward of what
    `baseline` writes for the picture (the paper's is greedy), or without one the mean reward of the other captions of
    the same picture (Luo 2020, arXiv 2003.09971). Both leave the expected gradient as it is. All follow batch["prompt"],
    where there is one.

    Captions are drawn without dropout. Without `dropout`, what draws, what is differentiated and what is evaluated are
    one network, and the gradient is that of its expected reward; with it, the gradient is taken through a network in
    which units drop out as they did under cross-entropy: no longer exact, and less inclined to learn the training
    pictures by heart. Batch statistics stand still. The encoder runs once.

    Tokens that the sampling bans have no probability here either, and its `temperature` is one of the network: below 1,
    what is drawn lies nearer to what a search finds, so that less of the training goes into becoming sure. Every word and EOS counts, PAD after it does not. The
    divisor is the number of tokens drawn. "loss" in the metrics is -log p per token of what was drawn, which estimates
    the entropy.

    In evaluation the loss is the cross-entropy of batch["target"], as in `Captioning`. In training that target is not
    read, and a row is a picture, not a pair. It starts from a captioner that cross-entropy has trained.
    """

    reward: Callable[[np.ndarray, np.ndarray], np.ndarray]
    sampling: Sampling
    baseline: Greedy | None = None
    dropout: bool = False

    def __post_init__(self):
        plain = Sampling(
            max_length=self.sampling.max_length,
            temperature=self.sampling.temperature,
            num_results=self.sampling.num_results,
            banned=self.sampling.banned,
        )
        if self.sampling != plain:
            raise ValueError(
                f"SelfCritical(sampling={self.sampling}): a caption has to be drawn from the distribution whose gradient "
                f"is taken; expected no filter, min_length or block_ngram, as {plain}"
            )
        if self.sampling.temperature == 0:
            raise ValueError(
                "SelfCritical(sampling=Sampling(temperature=0)) draws nothing; try 1.0"
            )
        if self.baseline is None and self.sampling.num_results < 2:
            raise ValueError(
                "SelfCritical without a baseline compares a caption with the others of its picture; expected "
                "sampling.num_results of at least 2, or baseline=Greedy(...)"
            )
        if self.baseline is not None and self.baseline.max_length > self.sampling.max_length:
            raise ValueError(
                f"SelfCritical: given a baseline with max_length {self.baseline.max_length}, expected no more than the "
                f"sampling's {self.sampling.max_length}; give both the same"
            )

    def loss(
        self, model: Any, variables: Variables, batch: Batch, *, rngs: dict, train: bool
    ) -> tuple[Array, Aux]:
        if not train:
            return super().loss(model, variables, batch, rngs=rngs, train=False)
        rows, samples = batch["valid"].shape[0], self.sampling.num_results
        memory = model.apply(variables, batch, train=False, method="encode")
        tokens, advantage, judged = self._drawn(model, variables, memory, batch, rngs["sampling"])

        told, prompt = tile(memory, samples, rows), None
        if "prompt" in batch:
            prompt = jnp.repeat(batch["prompt"], samples, axis=0)
        read = read_for(tokens, prompt)
        logits = model.apply(variables, read, told, train=self.dropout, rngs=rngs, method="read")
        valid = jnp.repeat(batch["valid"], samples)
        mask = counted(tokens, valid)
        labels = jnp.where(mask, tokens, EOS)
        logits = logits[:, -tokens.shape[1] :]
        logits = without(logits, self.sampling.banned) / self.sampling.temperature
        nll = softmax_cross_entropy(logits, labels)
        count = jnp.maximum(mask.sum(), 1).astype(jnp.float32)
        objective = jnp.where(mask, advantage[:, None] * nll, 0.0).sum() / count
        metrics = {
            "loss": Mean.of(jax.lax.stop_gradient(nll), mask),
            "reward": Mean.of(judged[:, :samples], batch["valid"][:, None]),
            "tokens_drawn": Mean.of(mask.sum(1), valid),
        }
        if self.baseline is not None:
            metrics["baseline_reward"] = Mean.of(judged[:, samples], batch["valid"])
        return objective, Aux(metrics, {})

    def _drawn(
        self, model: Any, variables: Variables, memory: Any, batch: Batch, key: jax.Array
    ) -> tuple[Array, Array, Array]:
        """Without a gradient: captions [b*r l], their advantage [b*r], and the rewards [b r], the baseline's last."""
        variables, memory = jax.lax.stop_gradient((variables, memory))
        rows = batch["valid"].shape[0]

        def tokens_of(strategy):
            given = {"batch_size": rows, "key": key, "prompt": batch.get("prompt")}
            return write(model, variables, memory, strategy, **given).tokens

        written = [tokens_of(self.sampling)]
        if self.baseline is not None:
            found = tokens_of(self.baseline)
            room = self.sampling.max_length - self.baseline.max_length
            written.append(jnp.pad(found, ((0, 0), (0, 0), (0, room)), constant_values=PAD))
        judged = self._judged(jnp.concatenate(written, axis=1), batch["id"])
        if self.baseline is None:
            advantage = leave_one_out(judged)
        else:
            advantage = judged[:, :-1] - judged[:, -1:]
        return written[0].reshape(-1, written[0].shape[-1]), advantage.reshape(-1), judged

    def _judged(self, tokens: Array, ids: Array) -> Array:
        """Float[b r]: the reward of tokens [b r l]. All on one host, whatever devices the batch lies on."""

        def on_host(tokens, ids):
            return np.asarray(self.reward(np.asarray(tokens), np.asarray(ids)), np.float32)

        shape = jax.ShapeDtypeStruct(tokens.shape[:2], jnp.float32)
        return jax.lax.stop_gradient(jax.pure_callback(on_host, shape, tokens, ids))

    def check(self, model: Any, batch: Batch) -> None:
        super().check(model, batch)
        for strategy in (self.sampling, self.baseline):
            check_length(model, strategy, batch)
        rate = getattr(model.decoder, "sampling_rate", 0.0)
        if self.dropout and rate:
            raise ValueError(
                f"SelfCritical(dropout=True) of a decoder with sampling_rate {rate}: it would read other words than those "
                "whose gradient is taken; try replace(decoder, sampling_rate=0.0)"
            )
        self.reward.check(np.asarray(batch["id"]))


def counted(tokens: Array, valid: Array) -> Array:
    """Bool[b l]: the words and the EOS of valid rows."""
    return (tokens != PAD) & valid[:, None]


def without(logits: Array, banned: tuple[int, ...]) -> Array:
    """The logits where `banned` tokens have no probability, as when they are drawn."""
    ids = jnp.arange(logits.shape[-1])
    return jnp.where(jnp.isin(ids, jnp.array(banned, jnp.int32)), -jnp.inf, logits)


def leave_one_out(rewards: Array) -> Array:
    """Rewards [b r] minus the mean of the other r - 1 of the row: [1, 4, 4] -> [-3, 1.5, 1.5]."""
    others = rewards.sum(1, keepdims=True) - rewards
    return rewards - others / (rewards.shape[1] - 1)
