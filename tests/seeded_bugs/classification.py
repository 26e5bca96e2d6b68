"""Pictures with labels: mixing, augmentation, stochastic depth, frozen parameters, and the page of mistakes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from experiments import image_data
from tests.invariants import picture_checks
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.data import augmentation, image_transforms, views
from vlm_jax.layers.stochastic_depth import StochasticDepth
from vlm_jax.report import classes
from vlm_jax.tasks import classification, mixing
from vlm_jax.train import optimizers

MIX = (mixing.Mixing, "__call__")
LOSS = (classification.Classification, "loss")
DEPTH = (StochasticDepth, "__call__")
ERASE = (augmentation.RandomErasing, "__call__")


@bug("pictures are mixed and labels are not", "pictures", MIX)
def _(real):
    def mix(self, key, batch):
        mixed = real(self, key, batch)
        return mixed._replace(other=jnp.asarray(batch["label"]))

    return mix


@bug("labels are mixed and pictures are not", "pictures", MIX)
def _(real):
    return lambda self, key, batch: real(self, key, batch)._replace(batch=batch)


@bug("the share is that of the other picture", "pictures", MIX)
def _(real):
    def mix(self, key, batch):
        mixed = real(self, key, batch)
        return mixed._replace(share=1 - mixed.share)

    return mix


@bug(
    "the share of a box that the border cuts off is that of the whole box",
    "pictures",
    (mixing, "cutmix"),
)
def _(real):
    def cutmix(key, image, others, alpha):
        shares = jax.random.beta(jax.random.split(key)[0], alpha, alpha, image.shape[:1])
        return real(key, image, others, alpha)[0], shares

    return cutmix


@bug("all pairs share one box and one share", "pictures", MIX)
def _(real):
    def mix(self, key, batch):
        mixed = real(self, key, batch)
        return mixed._replace(share=jnp.full_like(mixed.share, mixed.share[0]))

    return mix


@bug("rows that are not valid are mixed in", "pictures", MIX)
def _(real):
    def mix(self, key, batch):
        mixed = real(self, key, {**batch, "valid": np.ones_like(batch["valid"])})
        return mixed._replace(batch={**mixed.batch, "valid": batch["valid"]})

    return mix


@bug("an evaluation mixes and smooths", "pictures", LOSS)
def _(real):
    def loss(self, *given, rngs, train):
        return real(self, *given, rngs={"noise": jax.random.key(5), **rngs}, train=True)

    return loss


@bug("the reported loss is smoothed", "pictures", LOSS)
def _(real):
    def loss(self, *given, train, **options):
        objective, aux = real(self, *given, train=train, **options)
        count = aux.metrics["loss"].count
        reported = dataclasses.replace(aux.metrics["loss"], total=objective * count)
        return objective, aux._replace(metrics={**aux.metrics, "loss": reported})

    return loss


@bug("an evaluation sees augmented pictures", "pictures", (image_data, "pipelines"))
def _(real):
    def pipelines(*given, **fields):
        data = real(*given, **fields)
        transforms = data.train.transforms
        held_out = {
            split: dataclasses.replace(pipeline, transforms=transforms)
            for split, pipeline in data.held_out.items()
        }
        return dataclasses.replace(data, held_out=held_out)

    return pipelines


@bug("a flip swaps left and right", "pictures", (image_transforms, "speaks_of_sides"))
def _(real):
    return lambda example: False


@bug(
    "RandAugment moves what a text says is on the left",
    "pictures",
    (augmentation, "speaks_of_sides"),
)
def _(real):
    return lambda example: False


@bug(
    "a mirrored view goes with what a text says is on the left",
    "pictures",
    (views, "speaks_of_sides"),
)
def _(real):
    return lambda example: False


@bug("the same box is erased in all", "pictures", ERASE)
def _(real):
    return lambda self, example, rng: real(self, example, np.random.default_rng(0))


@bug("an example has the same box in every epoch", "pictures", ERASE)
def _(real):
    return lambda self, example, rng: real(self, example, np.random.default_rng(example["id"]))


@bug("what stochastic depth keeps is not scaled", "pictures", DEPTH)
def _(real):
    return lambda self, x, *, train: real(self, x, train=train) * (1 - self.rate if train else 1)


@bug("blocks are left out in evaluation", "pictures", DEPTH)
def _(real):
    return lambda self, x, *, train: x * (1.0 if train else 1 - self.rate)


@bug("a block is left out for all rows or none", "pictures", DEPTH)
def _(real):
    def depth(self, x, *, train):
        return x * real(self, jnp.ones((1, 1)), train=train)

    return depth


@bug("a frozen rule that matches nothing is let pass", "pictures", (optimizers, "matches"))
def _(real):
    return lambda rules, tree, *, what: real(rules, tree, what=None)


@bug("the matrix is transposed", "pictures", (classes, "confusion"))
def _(real):
    def confusion(examples):
        swapped = [{**e, "label": e["prediction"], "prediction": e["label"]} for e in examples]
        return real(swapped)

    return confusion


@bug("precision and recall are swapped", "pictures", (classes, "scores"))
def _(real):
    def scores(counts):
        return {
            n: s._replace(precision=s.recall, recall=s.precision) for n, s in real(counts).items()
        }

    return scores


@bug("the least confident mistakes are shown", "pictures", (classes, "most_confident_mistakes"))
def _(real):
    return lambda examples: real(examples)[::-1]


ROOMS = {"pictures": Room(picture_checks.CHECKS)}
