"""A tiny model that makes pictures of prompts, and an experiment with it: for tests of what all such models share."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from experiments import picture_data
from vlm_jax.metrics.base import Mean
from vlm_jax.tasks.base import Aux
from vlm_jax.tasks.painting import Painted, Painting
from vlm_jax.tasks.rectified_flow import noise
from vlm_jax.train.experiment import Experiment
from vlm_jax.train.optimizers import Adam, Constant
from vlm_jax.types import PAD, Features


class Blocks(nn.Module):
    """The mean of the words' vectors as a picture of 4x4 blocks, 64x64 in all."""

    vocab_size: int = 64

    @nn.compact
    def __call__(self, batch, *, train):
        return self.drawn(self.encode(batch, train=train))

    def setup(self):
        self.words = nn.Embed(self.vocab_size, 48, name="words")

    def encode(self, batch, *, train):
        return Features(values=self.words(batch["text"]), mask=batch["text"] != PAD)

    def drawn(self, memory):
        kept = memory.mask[..., None]
        mean = jnp.where(kept, memory.values, 0).sum(1) / kept.sum(1)
        blocks = jnp.tanh(4 * mean).reshape(-1, 4, 4, 3)
        return blocks.repeat(16, 1).repeat(16, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Averaging(Painting):
    """Minimises the squared error; a picture is the model's with noise."""

    def loss(self, model, variables, batch, *, rngs, train):
        if train:
            batch = self.with_dropped_prompts(batch, rngs["noise"])
        made = model.apply(variables, batch, train=train)
        loss = Mean.of(((made - batch["image"]) ** 2).mean((1, 2, 3)), batch["valid"])
        return loss.value(), Aux({"loss": loss}, {})

    def predict(self, model, variables, batch, key):
        memory = self.condition(model, variables, batch)
        image = model.apply(variables, memory, method="drawn")[:, None]  # [b 1 h w c]
        rows, samples = image.shape[0], self.num_samples
        drawn = noise(key, rows, samples, image.shape[2:]).reshape(rows, samples, *image.shape[2:])
        return Painted(self.shown(image + 0.05 * drawn))


def smoke() -> Experiment:
    """Two steps on the tiny scenes."""
    data = picture_data.scenes(batch_size=8, config="tiny", eval_batch_size=8)
    task = Averaging(metrics=data.metrics, num_samples=2)
    (first, *_) = data.evaluations(every=1, max_batches=1)
    return Experiment(
        model=Blocks(),
        task=task,
        train_data=data.train,
        num_steps=2,
        optimizer=Adam(learning_rate=Constant(value=1e-2)),
        evaluations=(first,),
        log_every=1,
        checkpoint_every=2,
    )
