"""The smallest experiment with every kind of state: dropout, batch statistics, moments, an average, a position."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.metrics.base import Mean, Stats
from vlm_jax.train.evaluation import Evaluation
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.optimizers import AdamW, WarmupCosine

HOOKS: dict[str, Callable] = {}  # what a test wants to happen at 'loss', 'score' or 'batch'


def hook(name, *arguments):
    HOOKS.get(name, lambda *_: None)(*arguments)


class Model(nn.Module):
    """batch['text'] [b l] -> logits [b l v]."""

    vocab_size: int = 16
    width: int = 8
    dropout_rate: float = 0.25
    batch_norm: bool = True

    @nn.compact
    def __call__(self, batch, *, train):
        x = nn.Embed(self.vocab_size, self.width, name="embed")(batch["text"])
        # Before a normalisation a bias has no gradient but rounding, which Adam blows up to full steps.
        x = nn.Dense(self.width, use_bias=not self.batch_norm, name="hidden")(x)
        if self.batch_norm:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(nn.tanh(x))
        return nn.Dense(self.vocab_size, name="head")(x)


class Aux(NamedTuple):
    metrics: dict[str, Mean]
    collections: Any


@dataclasses.dataclass(frozen=True)
class Count(Stats):
    right: int
    seen: int
    ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Cross-entropy per real token, each row times batch['weight'], by which a test poisons it."""

    def loss(self, model, variables, batch, *, rngs, train):
        hook("loss", train)
        mutable = [name for name in variables if name != "params"] if train else []
        logits, updated = model.apply(variables, batch, train=train, rngs=rngs, mutable=mutable)
        logp = jax.nn.log_softmax(logits)
        nll = -jnp.take_along_axis(logp, batch["target"][..., None], -1)[..., 0]
        mask = (batch["target"] != 0) & batch["valid"][:, None]
        mean = Mean.of(nll * batch["weight"][:, None], mask)
        return mean.total / jnp.maximum(mean.count, 1), Aux({"loss": mean}, updated)

    def predict(self, model, variables, batch, key):
        return model.apply(variables, batch, train=False).argmax(-1)

    def score(self, predictions, batch, references):
        hook("score")
        valid = np.asarray(batch["valid"])
        right = (predictions == np.asarray(batch["target"]))[valid]
        ids = tuple(np.asarray(batch["id"])[valid].tolist())
        return {"tokens": Count(int(right.sum()), right.size, ids)}

    def report(self, stats):
        return {"accuracy": 100 * stats["tokens"].right / stats["tokens"].seen}

    def examples(self, predictions, batch):
        rows = zip(np.asarray(batch["id"]), np.asarray(batch["valid"]), predictions)
        return [{"id": int(i), "prediction": row.tolist()} for i, valid, row in rows if valid]

    def check(self, model, batch):
        outside = (batch["target"] < 0) | (batch["target"] >= model.vocab_size)
        if outside.any():
            row = int(np.argwhere(outside)[0][0])
            raise ValueError(f"example id {batch['id'][row]}: target out of range")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """A source that the pipeline below draws from."""

    size: int = 20
    length: int = 5
    vocab_size: int = 16
    nan_at: int | None = None  # the position whose batch holds a nan

    @property
    def references(self):
        return {}

    def rows(self, ids, position=None):
        target = np.zeros((len(ids), self.length), np.int32)
        for row, i in enumerate(ids):
            length = 1 + int(i) % self.length  # ragged
            words = np.random.default_rng(int(i)).integers(1, self.vocab_size, length)
            target[row, :length] = words
        weight = np.ones(len(ids), np.float32)
        if position is not None and position == self.nan_at:
            weight[1] = np.nan
        return {"text": np.roll(target, 1, 1), "target": target, "weight": weight}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pipeline:
    source: Rows = Rows()
    batch_size: int = 8
    train: bool = True
    seed: int = 0
    pause_seconds: float = 0.0
    trace: str | None = None  # a file that gets 'position id id ...' for each batch handed out

    def batches(self, position=0, shard=(0, 1)):
        size, b = self.source.size, self.batch_size
        while self.train or position * b < size:
            start = position * b
            if self.train:
                numbers = range(start, start + b)
                orders = {n // size: None for n in numbers}
                for epoch in orders:
                    orders[epoch] = np.random.default_rng((self.seed, epoch)).permutation(size)
                ids = np.array([orders[n // size][n % size] for n in numbers])
                valid = np.ones(b, bool)
            else:
                ids = np.arange(start, start + b)
                valid = ids < size
                ids = np.where(valid, ids, 0)
            hook("batch", position, self.train)
            if self.pause_seconds:
                time.sleep(self.pause_seconds)
            if self.trace and self.train:
                with open(self.trace, "a") as file:
                    file.write(f"{position} {' '.join(map(str, ids))}\n")
            batch = {
                **self.source.rows(ids, position if self.train else None),
                "id": ids,
                "valid": valid,
            }
            yield position + 1, batch
            position += 1


def experiment(**changes) -> Experiment:
    values = dict(
        model=Model(),
        task=Task(),
        train_data=Pipeline(),
        num_steps=20,
        optimizer=AdamW(
            learning_rate=WarmupCosine(peak=0.05, warmup_steps=5, num_steps=20),
            clip_norm=1.0,
            weight_decay=0.1,
            ema_decay=0.9,
        ),
        evaluations=(Evaluation(name="validation", data=Pipeline(train=False), every=5),),
        log_every=4,
        checkpoint_every=5,
        seed=3,
    )
    return Experiment(**{**values, **changes})


class Deeper(Model):
    """Model with one layer more."""

    @nn.compact
    def __call__(self, batch, *, train):
        x = nn.Embed(self.vocab_size, self.width, name="embed")(batch["text"])
        for i in range(2):
            x = nn.Dense(self.width, name=f"hidden_{i}")(x)
        return nn.Dense(self.vocab_size, name="head")(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guess(Task):
    """Predicts at random, so that the keys of an evaluation, one a row, show."""

    def predict(self, model, variables, batch, key):
        shape = batch["target"].shape[1:]
        return jax.vmap(lambda key: jax.random.randint(key, shape, 0, model.vocab_size))(key)
