"""Captions trained on their score: what is rewarded, by which references, and whose gradient is taken."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from experiments import self_critical as experiment
from tests.invariants import self_critical_checks
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.data.source import Tfds
from vlm_jax.metrics import cider, cider_reward
from vlm_jax.tasks import self_critical
from vlm_jax.types import BOS, EOS, PAD

ROOM = "self-critical training"
LOSS = (self_critical.SelfCritical, "loss")
JUDGED = (self_critical.SelfCritical, "_judged")
NLL = (self_critical, "softmax_cross_entropy")
WRITE = (self_critical, "write")
REWARD = (cider_reward.CiderReward, "__call__")
TABLE = cider_reward._Table
COUNTED = (self_critical, "counted")


@bug("the sign is turned round", ROOM, LOSS)
def _(real):
    def loss(self, *given, **options):
        objective, aux = real(self, *given, **options)
        return -objective, aux

    return loss


@bug("divided by the pictures, not the tokens", ROOM, LOSS)
def _(real):
    def loss(self, model, variables, batch, **options):
        objective, aux = real(self, model, variables, batch, **options)
        return objective * aux.metrics["loss"].count / batch["valid"].shape[0], aux

    return loss


@bug("rewards of the row before", ROOM, JUDGED)
def _(real):
    return lambda self, tokens, ids: jnp.roll(real(self, tokens, ids), 1, axis=0)


@bug("judged by the references of the row before", ROOM, JUDGED)
def _(real):
    return lambda self, tokens, ids: real(self, tokens, jnp.roll(ids, 1))


@bug("rewards of a picture's captions in another order", ROOM, JUDGED)
def _(real):
    return lambda self, tokens, ids: real(self, tokens, ids)[:, ::-1]


@bug("no baseline", ROOM, (self_critical, "leave_one_out"))
def _(real):
    return lambda rewards: rewards


@bug("a caption is part of its own baseline", ROOM, (self_critical, "leave_one_out"))
def _(real):
    return lambda rewards: rewards - rewards.mean(1, keepdims=True)


@bug("the baseline is the mean of the batch", ROOM, (self_critical, "leave_one_out"))
def _(real):
    return lambda rewards: rewards - rewards.mean()


@bug("the baseline is another draw", ROOM, WRITE)
def _(real):
    def write(model, variables, memory, strategy, **options):
        found = real(model, variables, memory, strategy, **options)
        if strategy.num_results > 1:
            write.drawn = found.tokens[:, :1]
            return found
        return found.replace(tokens=write.drawn)

    return write


@bug("all captions of a picture are drawn with the same noise", ROOM, WRITE)
def _(real):
    def write(*given, **options):
        found = real(*given, **options)
        return found.replace(tokens=jnp.repeat(found.tokens[:, :1], found.tokens.shape[1], 1))

    return write


@bug("drawn at another temperature", ROOM, WRITE)
def _(real):
    def write(model, variables, memory, strategy, **options):
        if strategy.num_results > 1:
            strategy = dataclasses.replace(strategy, temperature=1.0)
        return real(model, variables, memory, strategy, **options)

    return write


@bug("log p at another temperature", ROOM, NLL)
def _(real):
    return lambda logits, labels: real(logits * self_critical_checks.TEMPERATURE, labels)


@bug("captions are given the memory of another picture", ROOM, (self_critical, "tile"))
def _(real):
    def tile(tree, times, batch_size):
        order = jnp.arange(times * batch_size).reshape(batch_size, times).T.reshape(-1)
        return {name: leaf[order] for name, leaf in real(tree, times, batch_size).items()}

    return tile


@bug("log p of the word after", ROOM, NLL)
def _(real):
    return lambda logits, labels: real(logits, jnp.roll(labels, -1, axis=1))


@bug("a word is told itself", ROOM, (self_critical, "read_for"))
def _(real):
    return lambda tokens, prompt: tokens


@bug("BOS before every word", ROOM, (self_critical, "read_for"))
def _(real):
    return lambda tokens, prompt: jnp.full_like(tokens, BOS)


@bug("EOS left out of log p", ROOM, COUNTED)
def _(real):
    return lambda tokens, valid: real(tokens, valid) & (tokens != EOS)


@bug("PAD counted in log p", ROOM, COUNTED)
def _(real):
    return lambda tokens, valid: jnp.broadcast_to(valid[:, None], tokens.shape)


@bug("rows that fill the batch are taught", ROOM, COUNTED)
def _(real):
    return lambda tokens, valid: tokens != PAD


@bug("log p over tokens that are never drawn", ROOM, (self_critical, "without"))
def _(real):
    return lambda logits, banned: logits


@bug("document frequencies from the batch", ROOM, REWARD)
def _(real):
    def call(self, tokens, ids):
        table = cider_reward._table(self)
        seen = {i: table._texts[i] for i in ids.tolist()}
        kept = table._weights, table._vectors
        table._weights = cider.NgramWeights(
            [cider.count_ngrams(words, 4) for words in texts] for texts in seen.values()
        )
        table._vectors = {}
        try:
            return real(self, tokens, ids)
        finally:
            table._weights, table._vectors = kept

    return call


@bug("a reward remembered for a text of another picture", ROOM, REWARD)
def _(real):
    def call(self, tokens, ids):
        return real(self, tokens, np.full_like(ids, ids[0]))

    return call


@bug("the end is counted where a text was cut off", ROOM, (TABLE, "vector"))
def _(real):
    return lambda self, tokens: real(self, tuple(t for t in tokens if t != PAD) + (EOS,))


@bug("the end is counted in what is written, not in the references", ROOM, (TABLE, "__init__"))
def _(real):
    def init(self, reward):
        real(self, dataclasses.replace(reward, count_end=False))
        self.reward = reward

    return init


@bug("repeating a word pays", ROOM, (cider, "_clipped_similarity"))
def _(real):
    return cider._cosine


@bug("judged by the references of validation", ROOM, (experiment, "CiderReward"))
def _(real):
    return lambda *, corpus, **fields: real(corpus=Tfds("flickr8k", "validation"), **fields)


ROOMS = {
    ROOM: Room(
        self_critical_checks.CHECKS,
        self_critical_checks.Policy,
        forget=cider_reward._table.cache_clear,
    )
}
