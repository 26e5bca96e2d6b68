"""Classes that are unequally frequent: sets, sampling, weights, losses, scores."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from tests.invariants import long_tail_checks
from tests.seeded_bugs.harness import Room, bug
from vlm_jax.data import class_sampling, long_tail, pipeline
from vlm_jax.metrics import shots
from vlm_jax.models import classifier
from vlm_jax.tasks import classification, imbalance

ROOM = "long tail"
ORDER = (class_sampling, "sampled_order")
IN_PIPELINE = (pipeline, "sampled_order")
LABELS = (pipeline, "labels_of")
NORMALISED = (imbalance, "_mean_one")
ADJUSTMENT = (imbalance.LogitAdjustment, "__call__")
LDAM = (imbalance.Ldam, "__call__")
LOSS = (classification.Classification, "loss")
DEFERRED = (imbalance.Deferred, "at")
KEPT = (long_tail.LongTailed, "_kept")


# ---- sets and orders


@bug("counts are rounded up", ROOM, (long_tail, "exponential"))
def _(real):
    def exponential(**given):
        return tuple(c + (0 < i < given["num_classes"] - 1) for i, c in enumerate(real(**given)))

    return exponential


@bug("imbalance over all classes, not from first to last", ROOM, (long_tail, "exponential"))
def _(real):
    def exponential(*, largest, num_classes, imbalance):
        return real(largest=largest, num_classes=num_classes + 1, imbalance=imbalance)[:-1]

    return exponential


@bug("a long tail that is drawn anew each time", ROOM, KEPT)
def _(real):
    def kept(self):
        seed = int(np.random.default_rng().integers(1 << 30))
        return real.func(dataclasses.replace(self, seed=seed))

    return property(kept)


@bug("sampling by the labels of the whole set", ROOM, LABELS)
def _(real):
    return lambda source: real(source.source)[: len(source)]


@bug("sampled without rounding", ROOM, ORDER, IN_PIPELINE)
def _(real, _):
    def order(sampling, labels, epoch, random):
        counts = np.bincount(labels)
        each = (sampling.shares(counts, epoch) / counts)[labels]
        rng = np.random.default_rng(int(random(1)[0]))
        return rng.choice(len(labels), len(labels), p=each / each.sum())

    return order, order


@bug("rounding starts at zero each time", ROOM, ORDER, IN_PIPELINE)
def _(real, _):
    def order(sampling, labels, epoch, random):
        zero = np.zeros(1, np.uint64)
        return real(sampling, labels, epoch, lambda n: zero if n == 1 else random(n))

    return order, order


@bug("the classes of an epoch one after another", ROOM, IN_PIPELINE)
def _(real):
    return lambda sampling, labels, *rest: np.sort(real(sampling, labels, *rest))


@bug("always the first examples of a class", ROOM, IN_PIPELINE)
def _(real):
    def order(sampling, labels, epoch, random):
        drawn = labels[real(sampling, labels, epoch, random)]
        first = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
        return np.array([first[label][0] for label in drawn])

    return order


@bug("the power is of the share that is left", ROOM, (class_sampling.PowerSampling, "shares"))
def _(real):
    return lambda self, *given: real(dataclasses.replace(self, power=1 - self.power), *given)


@bug("progress the other way", ROOM, (class_sampling.ProgressiveSampling, "shares"))
def _(real):
    return lambda self, counts, epoch: real(self, counts, max(self.num_epochs - epoch, 0))


@bug("copies of an example share their random numbers", ROOM, (pipeline._MakeBatch, "_pick"))
def _(real):
    return lambda self, epoch, step: real(self, epoch, step)._replace(draw=None)


# ---- weights and losses


@bug("class weights are normalised twice", ROOM, NORMALISED)
def _(real):
    return lambda weights: real(weights) / len(weights)


@bug("class weights are not normalised", ROOM, NORMALISED)
def _(real):
    return lambda weights: weights


@bug("the frequency itself weighs", ROOM, (imbalance.InverseFrequency, "values"))
def _(real):
    return property(lambda self: real.fget(dataclasses.replace(self, power=-self.power)))


@bug("effective number with beta 1", ROOM, (imbalance.EffectiveNumber, "values"))
def _(real):
    return property(lambda self: imbalance.InverseFrequency(counts=self.counts).values)


@bug("weights by row, not by label", ROOM, (imbalance, "_of_labels"))
def _(real):
    return lambda values, labels: jnp.asarray(values, jnp.float32)[jnp.arange(len(labels))[::-1]]


@bug("divided by the sum of the weights", ROOM, (imbalance.Weighted, "__call__"))
def _(real):
    def call(self, logits, labels):
        weights = jnp.asarray(self.weights.values)[labels]
        return self.objective(logits, labels) * weights / weights.mean()

    return call


@bug("the prior is subtracted in training", ROOM, ADJUSTMENT)
def _(real):
    def call(self, logits, labels):
        return real(self, logits - 2 * self.log_prior, labels)

    return call


@bug("the prior is added in evaluation too", ROOM, (classification.Classification, "_answered"))
def _(real):
    def answered(self, logits):
        prior = getattr(self.objective, "log_prior", 0.0)
        return real(self, logits) + prior

    return answered


@bug("post hoc in training too", ROOM, LOSS)
def _(real):
    def loss(self, model, variables, batch, *, rngs, train):
        if train and self.post_hoc is not None:
            variables = {"params": self.post_hoc.removed(variables["params"])}
        return real(self, model, variables, batch, rngs=rngs, train=train)

    return loss


@bug("the objective in the report", ROOM, LOSS)
def _(real):
    def loss(self, model, variables, batch, *, rngs, train):
        objective, aux = real(self, model, variables, batch, rngs=rngs, train=train)
        mean = aux.metrics["loss"]
        metrics = {**aux.metrics, "loss": mean.replace(total=objective * mean.count)}
        return objective, aux._replace(metrics=metrics)

    return loss


@bug("the objective in evaluation", ROOM, LOSS)
def _(real):
    def loss(self, model, variables, batch, *, rngs, train):
        return real(self, model, variables, batch, rngs=rngs, train=True)

    return loss


@bug("counts in place of their logarithm", ROOM, (imbalance.LogitAdjustment, "log_prior"))
def _(real):
    return property(lambda self: np.float32(self.tau * np.divide(self.counts, sum(self.counts))))


@bug("focal by the probability of the label", ROOM, (imbalance.Focal, "__call__"))
def _(real):
    def call(self, logits, labels):
        nll = imbalance.softmax_cross_entropy(logits, labels)
        return jnp.exp(-nll) ** self.gamma * nll

    return call


@bug("focal whose slope is not bounded", ROOM, (imbalance.Focal, "__call__"))
def _(real):
    def call(self, logits, labels):
        p = jnp.take_along_axis(jax.nn.softmax(logits), labels[:, None], 1)[:, 0]
        return (1 - p) ** self.gamma * -jnp.log(p)

    return call


@bug("the margin on the class after the label", ROOM, LDAM)
def _(real):
    def call(self, logits, labels):
        after = jax.nn.one_hot((labels + 1) % logits.shape[-1], logits.shape[-1])
        margins = self.scale * jnp.asarray(self.margins)[labels]
        return imbalance.CrossEntropy()(logits - margins[:, None] * after, labels)

    return call


@bug("the margin is added", ROOM, LDAM)
def _(real):
    return lambda self, *given: real(dataclasses.replace(self, max_margin=-self.max_margin), *given)


@bug("the margin without the scale", ROOM, LDAM)
def _(real):
    return lambda self, *given: real(dataclasses.replace(self, scale=1.0), *given)


@bug("the largest margin where frequent", ROOM, (imbalance.Ldam, "margins"))
def _(real):
    return property(lambda self: real.fget(self)[::-1])


@bug("deferred weights from step 0", ROOM, DEFERRED)
def _(real):
    return lambda self, step: real(dataclasses.replace(self, start=0), step)


@bug("deferred weights one step late", ROOM, DEFERRED)
def _(real):
    return lambda self, step: real(self, step - 1)


@bug("a cosine head without the length of its classes", ROOM, (classifier, "_unit"))
def _(real):
    return lambda x, axis: real(x, axis=1) if axis == 1 else x


# ---- scores


@bug("few and many are swapped", ROOM, (shots.ShotAccuracy, "_group"))
def _(real):
    swap = {"many_shot": "few_shot", "few_shot": "many_shot"}
    return lambda self, count: swap.get(real(self, count), "medium_shot")


@bug("the thresholds belong to the classes above and below", ROOM, (shots.ShotAccuracy, "_group"))
def _(real):
    return lambda self, count: real(
        dataclasses.replace(self, many=self.many - 1, few=self.few + 1), count
    )


@bug("balanced accuracy over the examples", ROOM, (shots.ShotAccuracy, "result"))
def _(real):
    def result(self, stats):
        right = sum(n for (gold, guess), n in stats.counts.items() if gold == guess)
        return {**real(self, stats), "balanced_accuracy": 100 * right / stats.counts.total()}

    return result


ROOMS = {ROOM: Room(long_tail_checks.CHECKS)}
