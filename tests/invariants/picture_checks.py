"""What must hold of pictures with labels: mixed, augmented, left out of blocks, frozen, and shown as mistakes."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import finetune_classifier, image_data
from vlm_jax.data import augmentation, image_transforms
from vlm_jax.data.pipeline import Pipeline
from vlm_jax.data.source import InMemory
from vlm_jax.data.views import ChooseView
from vlm_jax.layers.stochastic_depth import StochasticDepth
from vlm_jax.report import classes
from vlm_jax.tasks.classification import Classification
from vlm_jax.tasks.mixing import Mixing
from vlm_jax.train.optimizers import Adam
from vlm_jax.vision.mobilenet import mobilenet_v2_folded

CLASSES = ("a", "b", "c")
ROWS = 32
LABELS = np.arange(ROWS) % 3
# A picture is its label: channel k is one everywhere where the label is k. So the mean of a mixed one is its target.
IMAGES = np.broadcast_to(np.eye(3, dtype=np.float32)[LABELS][:, None, None], (ROWS, 6, 4, 3))
VALID = np.arange(ROWS) < ROWS - 4
BATCH = {"image": IMAGES, "label": LABELS, "valid": VALID, "id": np.arange(ROWS)}


class Mean:
    """A model whose logits are the mean colour, times three. It keeps what it saw."""

    seen = None

    @classmethod
    def apply(cls, variables, batch, **options):
        cls.seen = np.asarray(batch["image"].mean((1, 2)))
        logits = 3.0 * batch["image"].mean((1, 2))
        return (logits, {}) if "mutable" in options else logits


def _loss(train=True, **fields):
    task = Classification(classes=CLASSES, **fields)
    rngs = {"noise": jax.random.key(0)} if train else {}
    objective, aux = task.loss(Mean, {"params": {}}, BATCH, rngs=rngs, train=train)
    return float(objective), float(aux.metrics["loss"].value()), Mean.seen


def _cross_entropy(target, logits):
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -(target * log_p).sum(-1)[VALID].mean()


def check_labels_are_mixed_as_the_pictures_are():
    """Zhang et al. 2018, eq. 1; Yun et al. 2019, eq. 1: the loss is that of the target that the picture shows."""
    for mixing in (Mixing(mixup=1.0), Mixing(cutmix=1.0), Mixing(mixup=0.4, cutmix=1.0)):
        objective, reported, target = _loss(mixing=mixing)
        assert (np.abs(target - IMAGES[:, 0, 0])[VALID].max(-1) > 0.01).sum() > 8, (
            "nothing is mixed"
        )
        expected = _cross_entropy(target, 3.0 * target)
        np.testing.assert_allclose([objective, reported], expected, rtol=1e-5)
        smoothed = 0.8 * target + 0.2 / 3
        objective, reported, _ = _loss(mixing=mixing, label_smoothing=0.2)
        np.testing.assert_allclose(objective, _cross_entropy(smoothed, 3.0 * target), rtol=1e-5)
        np.testing.assert_allclose(reported, expected, rtol=1e-5)


def check_a_row_that_is_not_valid_is_mixed_into_none():
    image = np.where(VALID[:, None, None, None], IMAGES, 100.0)
    for mixing in (Mixing(mixup=1.0), Mixing(cutmix=1.0)):
        mixed = mixing(jax.random.key(1), {**BATCH, "image": jnp.asarray(image)})
        assert np.asarray(mixed.batch["image"])[VALID].max() <= 1.0


def check_rows_have_shares_and_boxes_of_their_own():
    for mixing in (Mixing(mixup=1.0), Mixing(cutmix=1.0)):
        shares = np.asarray(mixing(jax.random.key(2), BATCH).share)
        assert len(np.unique(shares.round(4))) > 8
        again = np.asarray(mixing(jax.random.key(2), BATCH).share)
        other = np.asarray(mixing(jax.random.key(3), BATCH).share)
        assert (shares == again).all() and (shares != other).any()


def check_an_evaluation_neither_mixes_nor_smooths():
    plain = _loss(train=False)
    for fields in ({"mixing": Mixing(mixup=1.0)}, {"label_smoothing": 0.2}):
        found = _loss(train=False, **fields)
        assert found[:2] == plain[:2]
        np.testing.assert_array_equal(found[2], IMAGES[:, 0, 0])


# ---- on the host

SOURCE = InMemory(
    [
        {
            "id": np.int64(i),
            "image": np.full((12, 12, 1), 100, np.uint8),
            "label": np.int64(i % 2),
        }
        for i in range(16)
    ]
)


def _erased(pipeline):
    """id -> where something was erased, as bytes."""
    found = {}
    for (_, batch), _ in zip(pipeline.batches(), range(16 // pipeline.batch_size)):
        for id, image in zip(batch["id"], batch["image"]):
            found[int(id)] = (image != 100).tobytes()
    return found


def check_draws_are_of_the_example_and_the_epoch():
    """C2b.37"""
    fields = {"source": SOURCE, "transforms": (augmentation.RandomErasing(rate=1.0),)}
    one = _erased(Pipeline(batch_size=4, train=True, **fields))
    other = _erased(Pipeline(batch_size=8, train=True, **fields))
    assert one == other, "a draw depends on the batch"
    assert len(set(one.values())) > 12, "examples share their box"
    pipeline = Pipeline(batch_size=16, train=True, **fields)
    second = {
        int(id): (image != 100).tobytes()
        for id, image in zip(*(pipeline_batch(pipeline, 1)[key] for key in ("id", "image")))
    }
    assert sum(one[id] == second[id] for id in one) < 4, "an example has one box in all epochs"


def pipeline_batch(pipeline, position):
    return next(pipeline.batches(position))[1]


def check_an_evaluation_sees_the_pictures_as_they_are():
    """C2b.38"""
    shift = image_transforms.RandomCrop(size=12, padding=4)
    data = image_data.pipelines(
        {"train": SOURCE, "test": SOURCE},
        ("even", "odd"),
        augment=(shift, augmentation.RandomErasing(rate=1.0)),
        normalise=image_transforms.ToFloat(),
        batch_size=16,
        eval_batch_size=16,
    )
    assert (pipeline_batch(data.held_out["test"], 0)["image"] == np.float32(100 / 255)).all()
    changed = pipeline_batch(data.train, 0)["image"] != np.float32(100 / 255)
    assert changed.any((1, 2, 3)).sum() > 12


def check_nothing_changes_sides_where_a_text_names_them():
    """C2b.38"""
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    one = {"id": 1, "image": image, "caption": "A dog on the LEFT ."}
    two = {"id": 2, "image": image, "caption": "A dog ."}
    flip = image_transforms.HorizontalFlip(rate=1.0)
    assert (flip(one, np.random.default_rng(0))["image"] == image).all()
    assert (flip(two, np.random.default_rng(0))["image"] == image[:, ::-1]).all()
    choose, views = ChooseView(mirrored=(1, 3)), np.arange(4)[:, None]
    drawn = [
        {
            int(choose({**e, "image": views}, np.random.default_rng(i))["image"][0])
            for i in range(60)
        }
        for e in (one, two)
    ]
    assert drawn == [{0, 2}, {0, 1, 2, 3}]
    used = {}
    real = augmentation._through_pillow
    for example in (one, two):
        seen = used.setdefault(example["id"], set())
        augmentation._through_pillow = lambda image, op, strength, seen=seen: (seen.add(op), image)[
            1
        ]
        try:
            augmentation.RandAugment(num_ops=200)(example, np.random.default_rng(0))
        finally:
            augmentation._through_pillow = real
    assert used[2] == set(augmentation.OPS)
    assert used[1] == set(augmentation.OPS) - set(augmentation.GEOMETRIC)


# ---- parts of a network


def check_stochastic_depth_keeps_the_expectation():
    """Huang et al. 2016, eq. 2 and 5: each row is left out or not, and what is kept makes up for it."""
    x = jnp.ones((2000, 3))
    layer = StochasticDepth(rate=0.3)
    rngs = {"dropout": jax.random.key(0)}
    y = np.asarray(layer.apply({}, x, train=True, rngs=rngs))
    assert (y == y[:, :1]).all()
    np.testing.assert_allclose(np.unique(y), [0.0, 1 / 0.7], rtol=1e-6)
    np.testing.assert_allclose(y.mean(), 1.0, atol=4 * (0.3 / 0.7 / 2000) ** 0.5)
    assert (layer.apply({}, x, train=False) == x).all()


def check_frozen_rules_find_the_first_blocks_and_no_others():
    """C2.22: the two sets share the tree; a rule that finds nothing is an error."""
    params = _names_of_mobilenet()
    trained = Adam(learning_rate=1.0, frozen=finetune_classifier.EARLY).trainable(params)
    found = {name: all(jax.tree.leaves(part)) for name, part in trained["image_encoder"].items()}
    assert all(
        all(jax.tree.leaves(part)) == found[n] for n, part in trained["image_encoder"].items()
    )
    assert found == {
        "stem": False,
        **{f"block_{i}": i > 13 for i in range(17)},
        "last": True,
    }
    assert all(jax.tree.leaves(trained["linear"]))
    for rules in ((r"image_encoder/blocks_0/",), (*finetune_classifier.EARLY, r"imageencoder/")):
        try:
            Adam(learning_rate=1.0, frozen=rules).trainable(params)
        except ValueError as error:
            assert "matches no parameter" in str(error)
        else:
            raise AssertionError(f"{rules} froze nothing, and nobody said so")


def _names_of_mobilenet():
    global _PARAMS
    if _PARAMS is None:
        network, image = mobilenet_v2_folded(), jnp.zeros((1, 32, 32, 3))
        shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), image, train=False))
        _PARAMS = {"image_encoder": shapes["params"], "linear": {"kernel": 0, "bias": 0}}
    return _PARAMS


_PARAMS = None


# ---- the page

EXAMPLES = [
    {"id": i, "label": gold, "prediction": said, "probabilities": dict(zip(CLASSES, p))}
    for i, (gold, said, p) in enumerate(
        [
            ("a", "a", (0.8, 0.1, 0.1)),
            ("a", "b", (0.3, 0.6, 0.1)),
            ("a", "b", (0.1, 0.9, 0.0)),
            ("b", "b", (0.0, 1.0, 0.0)),
            ("b", "c", (0.2, 0.1, 0.7)),
        ]
    )
]


def check_the_matrix_and_the_scores_by_hand():
    counts = classes.confusion(EXAMPLES)
    assert {gold: dict(row) for gold, row in counts.items()} == {
        "a": {"a": 1, "b": 2},
        "b": {"b": 1, "c": 1},
        "c": {},
    }
    found = classes.scores(counts)
    np.testing.assert_allclose(found["a"], (100, 100 / 3, 50, 3))
    np.testing.assert_allclose(found["b"], (100 / 3, 50, 40, 2))
    assert found["c"] == (0, 0, 0, 0)


def check_the_most_confident_mistake_comes_first():
    assert [e["id"] for e in classes.most_confident_mistakes(EXAMPLES)] == [2, 4, 1]


CHECKS = (
    check_labels_are_mixed_as_the_pictures_are,
    check_a_row_that_is_not_valid_is_mixed_into_none,
    check_rows_have_shares_and_boxes_of_their_own,
    check_an_evaluation_neither_mixes_nor_smooths,
    check_draws_are_of_the_example_and_the_epoch,
    check_an_evaluation_sees_the_pictures_as_they_are,
    check_nothing_changes_sides_where_a_text_names_them,
    check_stochastic_depth_keeps_the_expectation,
    check_frozen_rules_find_the_first_blocks_and_no_others,
    check_the_matrix_and_the_scores_by_hand,
    check_the_most_confident_mistake_comes_first,
)
