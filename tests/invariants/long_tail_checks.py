"""What must hold where classes are unequally frequent: the sets, the order they are drawn in, the losses, the scores."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vlm_jax.data import class_sampling, long_tail
from vlm_jax.data.class_sampling import PowerSampling, ProgressiveSampling, WeightedSampling
from vlm_jax.data.long_tail import LongTailed
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import InMemory
from vlm_jax.metrics.base import total
from vlm_jax.metrics.shots import ShotAccuracy
from vlm_jax.models.classifier import Classifier
from vlm_jax.tasks import imbalance
from vlm_jax.tasks.classification import Classification
from vlm_jax.tasks.imbalance import (
    CrossEntropy,
    Deferred,
    EffectiveNumber,
    Focal,
    InverseFrequency,
    Ldam,
    LogitAdjustment,
    Weighted,
)
from vlm_jax.train.state import init_state
from vlm_jax.train.steps import train_step
from vlm_jax.types import Features

COUNTS = (16, 4, 1)
CLASSES = ("common", "seen", "rare")
LOGITS = np.array([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3], [3.0, 2.0, 1.0]], np.float32)
LABELS = np.array([0, 1, 2])
BATCH = {"label": LABELS, "valid": np.ones(3, bool), "id": np.arange(3)}
SHARES = np.array(COUNTS) / 21
LOG_P = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
NLL = -LOG_P[np.arange(3), LABELS]


def log_softmax_of_label(logits):
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -log_p[np.arange(3), LABELS]


def equal(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-6)


# ---- sets


def balanced(size=60):
    """Labels 0 1 2 0 1 2 ...; an id is a place."""
    return InMemory([{"id": np.int64(i), "label": np.int64(i % 3)} for i in range(size)])


def check_the_counts_are_the_published_ones():
    """CIFAR-10 with imbalance 100 (Cui 2019, Cao 2019): 12,406 pictures; and the smaller imbalances' last class."""
    counts = long_tail.exponential(largest=5000, num_classes=10, imbalance=100)
    assert counts == (5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50)
    assert sum(counts) == 12_406
    for imbalance_, last in ((50, 100), (10, 500), (1, 5000)):
        counts = long_tail.exponential(largest=5000, num_classes=10, imbalance=imbalance_)
        assert counts[0] == 5000 and counts[-1] == last
    assert long_tail.step(largest=500, num_classes=4, imbalance=10) == (500, 500, 50, 50)


def check_a_long_tail_has_its_counts_and_is_the_same_again():
    source, counts = balanced(), (20, 7, 2)
    tailed = LongTailed(source, counts=counts)
    ids = [int(tailed[i]["id"]) for i in range(len(tailed))]
    assert np.bincount([i % 3 for i in ids]).tolist() == list(counts) and len(set(ids)) == len(ids)
    assert tailed.labels.tolist() == [i % 3 for i in ids]
    again = LongTailed(source, counts=counts)
    assert [int(again[i]["id"]) for i in range(len(again))] == ids
    kept = [set(_ids(LongTailed(source, counts=(20, few, few)))) for few in (1, 3, 5)]
    assert kept[0] < kept[1] < kept[2], "more examples are not those of before and others"
    other = LongTailed(source, counts=counts, seed=1)
    assert set(_ids(other)) != set(ids), "the seed is ignored"


def _ids(source):
    return [int(source[i]["id"]) for i in range(len(source))]


# ---- orders


def tailed_pipeline(sampling, **fields):
    source = LongTailed(balanced(), counts=COUNTS)

    def jitter(example, rng):
        return {**example, "noise": rng.random(2)}

    return Pipeline(
        source=source, transforms=(jitter,), batch_size=7, train=True, sampling=sampling, **fields
    )


def epochs(sampling, count=4, **fields):
    """The batches of so many epochs of 21 examples, put together: {"id": [epochs 21], ...}"""
    batches = tailed_pipeline(sampling, **fields).batches()
    rows = [batch for (_, batch), _ in zip(batches, range(3 * count))]
    joined = {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
    return {key: value.reshape(count, 21, *value.shape[1:]) for key, value in joined.items()}


def check_an_epoch_has_each_class_by_its_share():
    """Rounded up or down, as often as each: so is every example within its class."""
    weights = InverseFrequency(counts=COUNTS, power=0.75)
    for sampling, powers in (
        (PowerSampling(power=0.0), (0, 0, 0)),
        (PowerSampling(power=0.5), (0.5, 0.5, 0.5)),
        (WeightedSampling(weights=weights), (0.25, 0.25, 0.25)),
    ):
        shares = np.array(COUNTS, float) ** powers
        expected = 21 * shares / shares.sum()
        for labels, ids in zip(*(epochs(sampling)[key] for key in ("label", "id"))):
            found = np.bincount(labels, minlength=3)
            assert (abs(found - expected) < 1).all(), (sampling, found, expected)
            for label in range(3):
                times = np.unique(ids[labels == label], return_counts=True)[1]
                each = expected[label] / COUNTS[label]
                assert np.floor(each) <= times.min() and times.max() <= np.ceil(each)


def check_shares_are_right_on_average():
    """Of 400 epochs: what rounding adds to one it takes from another."""
    labels = np.repeat(np.arange(3), COUNTS)
    random = np.random.Philox(key=0).random_raw
    found = np.zeros(3)
    for epoch in range(400):
        order = class_sampling.sampled_order(PowerSampling(power=0.25), labels, epoch, random)
        found += np.bincount(labels[order], minlength=3)
    shares = np.array([2, np.sqrt(2), 1]) / (3 + np.sqrt(2))
    np.testing.assert_allclose(found / 400, 21 * shares, atol=0.1)


def check_power_one_is_every_example_once():
    found = epochs(PowerSampling(power=1.0))["id"]
    everything = sorted(_ids(LongTailed(balanced(), counts=COUNTS)))
    assert all(sorted(ids) == everything for ids in found.tolist())
    assert len({tuple(ids) for ids in found.tolist()}) == 4, "epochs share their order"


def check_progress_is_from_examples_to_classes():
    labels = epochs(ProgressiveSampling(num_epochs=2), count=3)["label"]
    found = [np.bincount(row, minlength=3) for row in labels]
    assert found[0].tolist() == list(COUNTS)
    np.testing.assert_array_less(abs(found[1] - (np.array(COUNTS) + 7) / 2), 1)
    assert found[2].tolist() == [7, 7, 7]


def check_a_sampled_order_goes_on_where_it_was():
    """From every position, on every host, with the same seed; another seed has another order."""
    sampling = PowerSampling(power=0.0)
    run = [item for item, _ in zip(tailed_pipeline(sampling).batches(), range(7))]
    for i, (position, _) in enumerate(run[:-1]):
        _, batch = next(tailed_pipeline(sampling).batches(position))
        for key, value in run[i + 1][1].items():
            np.testing.assert_array_equal(batch[key], value)
    shards = [tailed_pipeline(sampling).batches(shard=(i, 7)) for i in range(7)]
    for _, batch in run:
        joined = np.concatenate([next(shard)[1]["id"] for shard in shards])
        np.testing.assert_array_equal(joined, batch["id"])
    other = next(tailed_pipeline(sampling, seed=1).batches())[1]
    assert (other["id"] != run[0][1]["id"]).any()
    labels = np.concatenate([batch["label"] for _, batch in run[:3]])
    assert (np.sort(labels) != labels).any(), "the classes come one after another"


def check_an_example_drawn_again_has_new_random_numbers():
    noise = epochs(PowerSampling(power=0.0))["noise"]
    assert len(np.unique(noise)) == noise.size


# ---- weights and losses


def check_weights_by_hand():
    equal(InverseFrequency(counts=COUNTS).values, 3 * np.array([1, 4, 16]) / 21)
    equal(InverseFrequency(counts=COUNTS, power=0.5).values, 3 * np.array([1, 2, 4]) / 7)
    # beta 1/2: the effective numbers of 1 and 2 are 1 and 1.5
    equal(EffectiveNumber(counts=(1, 2), beta=0.5).values, [1.2, 0.8])
    assert (EffectiveNumber(counts=COUNTS, beta=0.0).values == 1).all()
    almost = EffectiveNumber(counts=COUNTS, beta=1 - 1e-9).values
    np.testing.assert_allclose(almost, InverseFrequency(counts=COUNTS).values, rtol=1e-6)


def check_the_mean_weight_of_the_classes_is_one():
    for weights in (InverseFrequency(counts=COUNTS), EffectiveNumber(counts=COUNTS, beta=0.9)):
        equal(weights.values.sum(), 3)
        equal(Weighted(weights=weights)(LOGITS, LABELS), weights.values * NLL)
        one = Weighted(weights=weights)(LOGITS[2:], LABELS[2:])  # whatever is beside it
        equal(one, weights.values[2:] * NLL[2:])


def check_losses_by_hand():
    p = np.exp(-NLL)
    equal(CrossEntropy()(LOGITS, LABELS), NLL)
    equal(Focal(gamma=2.0)(LOGITS, LABELS), (1 - p) ** 2 * NLL)
    equal(Focal(gamma=0.5)(LOGITS, LABELS), np.sqrt(1 - p) * NLL)
    adjusted = LOGITS + np.log(SHARES)
    equal(LogitAdjustment(counts=COUNTS)(LOGITS, LABELS), log_softmax_of_label(adjusted))
    balanced_ = -np.log(
        np.array(COUNTS) * np.exp(LOGITS) / (COUNTS * np.exp(LOGITS)).sum(1, keepdims=True)
    )
    equal(imbalance.balanced_softmax(COUNTS)(LOGITS, LABELS), balanced_[np.arange(3), LABELS])
    half = LogitAdjustment(counts=COUNTS, tau=0.5)
    equal(half(LOGITS, LABELS), log_softmax_of_label(LOGITS + 0.5 * np.log(SHARES)))


def check_the_margin_is_on_the_label_and_largest_where_rare():
    """n^-1/4 is 1/2, 1/sqrt 2, 1: margins of a quarter of the largest, 0.5, and so on, of cosines times 10."""
    margins = np.array([0.25, 0.5 / np.sqrt(2), 0.5])
    loss = Ldam(counts=COUNTS, max_margin=0.5, scale=10.0)
    equal(loss.margins, margins)
    equal(loss(LOGITS, LABELS), log_softmax_of_label(LOGITS - np.diag(10 * margins)))


def check_what_is_switched_off_is_cross_entropy():
    ones = InverseFrequency(counts=COUNTS, power=0.0)
    plain = np.asarray(CrossEntropy()(LOGITS, LABELS))
    for objective in (
        Focal(gamma=0.0),
        Ldam(counts=COUNTS, max_margin=0.0),
        LogitAdjustment(counts=COUNTS, tau=0.0),
        Weighted(weights=ones),
        Deferred(weights=ones, start=0).at(5),
    ):
        np.testing.assert_array_equal(objective(LOGITS, LABELS), plain)
    uniform = imbalance.balanced_softmax((7, 7, 7))
    equal(uniform(LOGITS, LABELS), plain)
    for objective in (None, Weighted(weights=ones)):  # and so is the whole objective
        task = Classification(classes=CLASSES, objective=objective)
        assert loss_of(task)[0] == loss_of(Classification(classes=CLASSES))[0]


class Table:
    """A model whose only variable is what it answers."""

    num_classes = 3

    @staticmethod
    def init(key, batch, train):
        return {"params": jnp.asarray(LOGITS)}

    @staticmethod
    def apply(variables, batch, **options):
        logits = variables["params"]
        return (logits, {}) if "mutable" in options else logits


def loss_of(task, train=True, batch=BATCH):
    objective, aux = task.loss(Table, {"params": LOGITS}, batch, rngs={}, train=train)
    return float(objective), aux.metrics


def check_the_objective_is_minimised_and_the_nll_is_reported():
    """In training the mean over the valid rows; in evaluation -log p, of the logits as they are."""
    objective = LogitAdjustment(counts=COUNTS)
    task = Classification(classes=CLASSES, objective=objective)
    batch = {**BATCH, "valid": np.array([True, True, False])}
    minimised, metrics = loss_of(task, batch=batch)
    equal(minimised, np.asarray(objective(LOGITS, LABELS))[:2].mean())
    equal(metrics["loss"].value(), NLL[:2].mean())
    minimised, metrics = loss_of(task, train=False)
    equal(minimised, NLL.mean())
    equal(metrics["loss"].value(), NLL.mean())
    chosen = task.predict(Table, {"params": LOGITS}, BATCH, None)
    equal(chosen.probabilities, np.exp(LOG_P))


def check_post_hoc_is_for_answers_only():
    prior = LogitAdjustment(counts=COUNTS)
    task = Classification(classes=CLASSES, post_hoc=prior)
    assert loss_of(task)[0] == loss_of(Classification(classes=CLASSES))[0]
    taken = LOGITS - np.log(SHARES)
    p = np.exp(taken) / np.exp(taken).sum(-1, keepdims=True)
    equal(task.predict(Table, {"params": LOGITS}, BATCH, None).probabilities, p)
    equal(loss_of(task, train=False)[1]["loss"].value(), log_softmax_of_label(taken).mean())
    # Of a model that answers the prior itself, nothing is left but equal classes.
    equal(np.asarray(jax.nn.softmax(prior.removed(np.log(SHARES)))), 1 / 3)


def check_deferred_weights_begin_at_their_step():
    """By the gradients of a training step at steps 0, 1 and 2: weights from 2 on."""
    weights = InverseFrequency(counts=COUNTS)
    task = Classification(classes=CLASSES, objective=Deferred(weights=weights, start=2))
    tx = optax.sgd(1.0)
    step = jax.jit(train_step(Table, task, tx))
    state = init_state(Table, tx, BATCH, jax.random.key(0))
    plain = np.exp(LOG_P) - np.eye(3)
    for number in range(4):
        at = state.replace(step=jnp.int32(number), params=jnp.asarray(LOGITS))
        found = LOGITS - np.asarray(step(at, BATCH, jax.random.key(0))[0].params)
        each = weights.values[:, None] if number >= 2 else 1.0
        np.testing.assert_allclose(3 * found, each * plain, atol=2e-6)


def check_the_gradient_is_finite_where_the_answer_is_sure():
    sure = jnp.array([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0], [0.0, 0.0, 200.0]])
    for loss in (Focal(gamma=0.0), Focal(gamma=0.5), Focal(gamma=1.0), Focal(gamma=2.0)):
        gradient = jax.grad(lambda x, loss=loss: loss(x, LABELS).sum())
        assert np.isfinite(gradient(sure)).all() and np.isfinite(gradient(-sure)).all(), loss


class First:
    """The first position of a picture that is a table of vectors."""

    def __call__(self, image, *, train):
        return Features(values=image, mask=jnp.ones(image.shape[:2], bool))


def check_a_cosine_head_knows_no_length():
    x = np.array([[3.0, 4.0], [1.0, 0.0]], np.float32)
    kernel = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    model = Classifier(
        num_classes=2, pooling=lambda f: f.values[:, 0], image_encoder=First(), cosine_scale=30.0
    )

    def logits(x, kernel):
        params = {"params": {"linear": {"kernel": jnp.asarray(kernel)}}}
        return model.apply(params, {"image": jnp.asarray(x)[:, None]}, train=False)

    equal(logits(x, kernel), 30 * np.array([[0.6, 0.8], [1.0, 0.0]]))
    equal(logits(7 * x, 5 * kernel), logits(x, kernel))
    gradient = jax.grad(lambda x: logits(x, kernel).sum())(jnp.zeros_like(x))
    assert np.isfinite(gradient).all()


# ---- scores


def check_shots_by_hand():
    metric = ShotAccuracy(classes=tuple("abcd"), counts=(101, 100, 20, 19))
    pairs = [*(("a", "a"),) * 3, ("a", "b"), ("b", "b"), ("b", "a"), ("c", "c"), ("d", "a")]
    found = metric.result(total([metric.stats(guess, (gold,)) for gold, guess in pairs]))
    assert found.pop("balanced_accuracy") == 100 * (0.75 + 0.5 + 1 + 0) / 4
    assert found == {"many_shot": 75.0, "medium_shot": 75.0, "few_shot": 0.0}


CHECKS = (
    check_the_counts_are_the_published_ones,
    check_a_long_tail_has_its_counts_and_is_the_same_again,
    check_an_epoch_has_each_class_by_its_share,
    check_shares_are_right_on_average,
    check_power_one_is_every_example_once,
    check_progress_is_from_examples_to_classes,
    check_a_sampled_order_goes_on_where_it_was,
    check_an_example_drawn_again_has_new_random_numbers,
    check_weights_by_hand,
    check_the_mean_weight_of_the_classes_is_one,
    check_losses_by_hand,
    check_the_margin_is_on_the_label_and_largest_where_rare,
    check_what_is_switched_off_is_cross_entropy,
    check_the_objective_is_minimised_and_the_nll_is_reported,
    check_post_hoc_is_for_answers_only,
    check_deferred_weights_begin_at_their_step,
    check_the_gradient_is_finite_where_the_answer_is_sure,
    check_a_cosine_head_knows_no_length,
    check_shots_by_hand,
)
