"""What must hold of two towers, from the vectors of a pair to recall over a split."""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.language.embeddings import Embedding
from vlm_jax.layers import pooling
from vlm_jax.metrics import clip_score, retrieval
from vlm_jax.metrics.base import total
from vlm_jax.models import two_tower
from vlm_jax.tasks import contrastive, zero_shot
from vlm_jax.tasks.imbalance import LogitAdjustment
from vlm_jax.train.state import named_leaves
from vlm_jax.types import PAD, Features
from vlm_jax.vision.precomputed import Precomputed

RNG = np.random.default_rng(0)
DEVICES, ROWS = 4, 8
BATCH = {  # pairs 2 and 5 are of one picture, and the last row is none
    "image": RNG.normal(size=(ROWS, 1, 6)).astype(np.float32),
    "text": np.array(
        [[4, 5, 6, 0], [5, 0, 0, 0], [7, 4, 0, 0], [8, 9, 10, 4], [9, 9, 0, 0], [6, 8, 5, 0], [10, 0, 0, 0], [4, 0, 0, 0]],
        np.int32,
    ),
    "id": np.array([3, 4, 9, 1, 0, 9, 6, -1], np.int32),
    "valid": np.arange(ROWS) < ROWS - 1,
}  # fmt: skip
BATCH["image"][5] = BATCH["image"][2]
OBJECTIVES = (contrastive.softmax_pairs, contrastive.sigmoid_pairs)


class Words(nn.Module):
    """Word vectors as they are."""

    @nn.compact
    def __call__(self, tokens, *, train):
        embedding = Embedding(vocab_size=16, width=5, stddev=1.0, name="embedding")
        return Features(values=embedding(tokens), mask=tokens != PAD)


def model(**choices):
    return two_tower.TwoTower(
        image_encoder=Precomputed(),
        text_encoder=Words(),
        width=4,
        image_pooling=pooling.pool,
        text_pooling=pooling.pool,
        init_bias=-1.0,
        **choices,
    )


@functools.cache
def variables(seed: int = 0):
    return model().init(jax.random.key(seed), BATCH, train=False)


@functools.cache
def sums_of(objective):
    """f(params, batch) -> the loss times the number of its pairs, that number, and the gradient of the former."""

    def loss_sum(params, batch):
        task = contrastive.Contrastive(objective=objective)
        found, aux = task.loss(model(), {"params": params}, batch, rngs={}, train=True)
        count = aux.metrics["loss"].count
        return found * count, count

    def sums(params, batch):
        (found, count), gradient = jax.value_and_grad(loss_sum, has_aux=True)(params, batch)
        return {"loss": found, "gradient": gradient, "count": count}

    return sums


@functools.cache
def compiled(objective):
    return jax.jit(sums_of(objective))


def forget():
    sums_of.cache_clear()
    compiled.cache_clear()


def equal(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), one, other)


# ---- the losses


@dataclasses.dataclass
class Given:
    """A model that answers with these vectors."""

    image: np.ndarray
    text: np.ndarray
    scale: float = 2.0
    bias: float | None = None

    def apply(self, variables, batch, **options):
        scale = jnp.float32(self.scale)
        bias = None if self.bias is None else jnp.float32(self.bias)
        found = two_tower.Embedded(
            image=jnp.asarray(self.image), text=jnp.asarray(self.text), scale=scale, bias=bias
        )
        return (found, {}) if "mutable" in options else found


IMAGES = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], np.float32)
TEXTS = np.array([[0.8, 0.6], [0.0, 1.0], [0.6, 0.8]], np.float32)
THREE = {"id": np.array([5, 6, 7]), "valid": np.ones(3, bool)}


def _loss_of_given(objective, batch, **choices):
    task = contrastive.Contrastive(objective=objective)
    return task.loss(Given(IMAGES, TEXTS, **choices), {}, batch, rngs={}, train=True)


def check_softmax_closed_form():
    """-log p of the pair among all texts, and among all pictures, half of each; scores are twice the cosines."""
    scores = 2 * np.array([[0.8, 0.0, 0.6], [0.96, 0.8, 1.0], [0.6, 1.0, 0.8]])
    rows = np.log(np.exp(scores).sum(1)) - np.diag(scores)
    columns = np.log(np.exp(scores).sum(0)) - np.diag(scores)
    found, aux = _loss_of_given(contrastive.softmax_pairs, THREE)
    np.testing.assert_allclose(found, (rows + columns).mean() / 2, rtol=1e-5)
    assert float(aux.metrics["loss"].count) == 3
    np.testing.assert_allclose(aux.metrics["in_batch_r1"].value(), 100 / 3, rtol=1e-6)


def check_sigmoid_closed_form():
    """The sum over all nine questions, divided by the three pictures."""
    scores = 2 * np.array([[0.8, 0.0, 0.6], [0.96, 0.8, 1.0], [0.6, 1.0, 0.8]]) - 1.5
    sign = 2 * np.eye(3) - 1
    expected = np.log1p(np.exp(-sign * scores)).sum() / 3
    found, _ = _loss_of_given(contrastive.sigmoid_pairs, THREE, bias=-1.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def check_permuting_pairs_changes_nothing():
    order = RNG.permutation(ROWS)
    permuted = {name: x[order] for name, x in BATCH.items()}
    for objective in OBJECTIVES:
        found, params = compiled(objective), variables()["params"]
        equal(found(params, BATCH), found(params, permuted))


def check_two_captions_of_a_picture_are_not_wrong_for_each_other():
    """With pictures 5, 5 and 7 the first two pairs have one wrong answer each, the last has two."""
    batch = {**THREE, "id": np.array([5, 5, 7])}
    scores = 2 * np.array([[0.8, 0.0, 0.6], [0.96, 0.8, 1.0], [0.6, 1.0, 0.8]])
    kept = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 1]])
    each = np.exp(scores) * kept
    expected = (np.log(each.sum(1)) + np.log(each.sum(0))).mean() / 2 - np.diag(scores).mean()
    found, _ = _loss_of_given(contrastive.softmax_pairs, batch)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    questions = np.log1p(np.exp(-(2 * np.eye(3) - 1) * scores)) * kept
    found, _ = _loss_of_given(contrastive.sigmoid_pairs, batch)
    np.testing.assert_allclose(found, questions.sum() / 3, rtol=1e-5)


def check_rows_that_are_not_valid_count_nowhere():
    other = {name: x.copy() for name, x in BATCH.items()}
    other["image"][-1], other["text"][-1] = 3.0, 9
    for objective in OBJECTIVES:
        found, params = compiled(objective), variables()["params"]
        equal(found(params, BATCH), found(params, other))


def check_split_over_devices_the_loss_and_its_gradient_are_those_of_the_whole_batch():
    """Each device differentiates the sum over its own pairs, also by the vectors that the others sent."""
    split = jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), BATCH)
    for objective in OBJECTIVES:
        on_device = jax.vmap(sums_of(objective), in_axes=(None, 0), axis_name="data")
        parts = jax.jit(on_device)(variables()["params"], split)
        whole = compiled(objective)(variables()["params"], BATCH)
        equal(jax.tree.map(lambda x: x.sum(0), parts), whole)


# ---- the model


def check_the_temperature_learns_and_has_its_limit():
    params = variables()["params"]
    found = model().apply(variables(), BATCH, train=False)
    np.testing.assert_allclose(found.scale, 1 / 0.07, rtol=1e-5)
    for log_scale in (params["log_scale"], jnp.float32(9.0)):
        at = {**params, "log_scale": log_scale}
        gradient = compiled(contrastive.softmax_pairs)(at, BATCH)["gradient"]
        assert abs(float(gradient["log_scale"])) > 1e-3
    found = model().apply({"params": at}, BATCH, train=False)
    np.testing.assert_allclose(found.scale, 100.0, rtol=1e-5)


def check_gradients_reach_every_parameter():
    gradient = compiled(contrastive.sigmoid_pairs)(variables()["params"], BATCH)["gradient"]
    for name, leaf in named_leaves(gradient).items():
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 1e-4, name


def check_vectors_have_length_one():
    found = model().apply(variables(), BATCH, train=False)
    for vectors in (found.image, found.text):
        np.testing.assert_allclose(jnp.linalg.norm(vectors, axis=-1), 1.0, rtol=1e-5)
    nothing = {"text": np.zeros((1, 3), np.int32)}
    assert np.isfinite(model().apply(variables(), nothing, train=False).text).all()


def check_padding_of_the_text_changes_nothing():
    longer = np.pad(BATCH["text"], ((0, 0), (0, 3)))
    one, other = (model().apply(variables(), {"text": t}, train=False).text for t in (BATCH["text"], longer))  # fmt: skip
    np.testing.assert_allclose(one, other, rtol=1e-5)


def check_pictures_and_texts_alone_have_the_vectors_of_the_pair():
    both = model().apply(variables(), BATCH, train=False)
    alone = model().apply(variables(), {"image": BATCH["image"]}, train=False)
    assert alone.text is None
    np.testing.assert_allclose(alone.image, both.image, rtol=1e-5)


# ---- the numbers


def measure(pairs, metric=None):
    """The numbers of (picture's id, its vector, the text's vector)."""
    metric = metric or retrieval.Retrieval(recalls=(1, 2))
    return metric.result(total(metric.stats((image, text), (id,)) for id, image, text in pairs))


# Two captions a picture; the score of a caption with a picture is read from its vector.
EYE = np.eye(3)
SCORED = (
    (7, EYE[0], (0.9, 0.1, 0.2)),  # its picture is first
    (7, EYE[0], (0.1, 0.3, 0.2)),  # its picture is last
    (8, EYE[1], (0.2, 0.6, 0.7)),  # second
    (8, EYE[1], (0.3, 0.4, 0.1)),  # first
    (9, EYE[2], (0.1, 0.7, 0.6)),  # second
    (9, EYE[2], (0.5, 0.8, 0.1)),  # last
)


def check_recall_by_hand():
    """Pictures: 7 finds its first caption before all others; 8 has its best, .6, behind .7 and .8 of picture 9; 9 has
    its best, .6, behind .7 of picture 8. Texts: ranks 1, 3, 2, 1, 2, 3."""
    found = measure(SCORED)
    expected = {
        "image_to_text_r1": 100 / 3,
        "image_to_text_r2": 200 / 3,
        "image_to_text_median_rank": 2.0,
        "text_to_image_r1": 200 / 6,
        "text_to_image_r2": 400 / 6,
        "text_to_image_median_rank": 2.0,
        "mean_recall": 50.0,
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, err_msg=name)


def check_any_of_five_captions_counts_and_the_others_are_not_in_the_way():
    """Picture 0 has five captions that all fit it better than those of picture 1, and the best is the last."""
    pairs = [(0, (1.0, 0.0), (0.5 + i / 10, 0.0)) for i in range(5)]
    pairs += [(1, (0.0, 1.0), (0.85, 0.1 + i / 10)) for i in range(5)]
    found = measure(pairs)
    assert found["image_to_text_r1"] == 100.0
    assert found["text_to_image_r1"] == 50.0


def check_directions_keep_their_names():
    """Every text finds its picture; the pictures, all nearest to one text, mostly do not find theirs."""
    pairs = [(i, EYE[i], 0.1 * (i + 1) * EYE[i] + (i == 2) * 0.9) for i in range(3)]
    found = measure(pairs)
    assert found["text_to_image_r1"] == 100.0
    np.testing.assert_allclose(found["image_to_text_r1"], 100 / 3)


def check_the_same_score_for_all_finds_nothing():
    pairs = [(i // 2, np.ones(2), np.ones(2)) for i in range(40)]
    found = measure(pairs, retrieval.Retrieval())
    assert found["mean_recall"] == 0.0
    assert found["text_to_image_median_rank"] == 20.0
    found = measure([(i, np.full(2, np.nan), np.ones(2)) for i in range(20)], retrieval.Retrieval())
    assert found["mean_recall"] == 0.0


def check_equal_vectors_are_equal_wherever_they_stand_in_the_product():
    """700 pictures and texts in all, so that there are whole blocks and remainders of them."""
    vector = RNG.normal(size=193)
    vector /= np.linalg.norm(vector)
    found = measure([(i, vector, vector) for i in range(700)], retrieval.Retrieval())
    assert found["mean_recall"] == 0.0
    assert found["text_to_image_median_rank"] == found["image_to_text_median_rank"] == 700.0
    # What is nearer by more than that is nearer.
    nearer = [(i, vector, vector * (1 + 1e-5 * (i == 0))) for i in range(700)]
    assert measure(nearer, retrieval.Retrieval())["image_to_text_r1"] == 100 / 700


def check_random_vectors_find_k_of_n():
    pictures, texts, captions = RNG.normal(size=(300, 8)), RNG.normal(size=(1500, 8)), 5
    found = measure(
        [(i // captions, pictures[i // captions], text) for i, text in enumerate(texts)],
        retrieval.Retrieval(),
    )
    for k in (1, 5, 10):
        p = k / len(pictures)
        spread = 3 * 100 * math.sqrt(p / len(pictures))  # captions of a picture are not independent
        assert abs(found[f"text_to_image_r{k}"] - 100 * p) <= spread
    by_text = [found[f"image_to_text_r{k}"] for k in (1, 5, 10)]
    assert by_text == sorted(by_text) and by_text[-1] < 12


def check_batches_and_their_order_change_no_bit():
    metric = retrieval.Retrieval(recalls=(1, 2))
    parts = [metric.stats((image, text), (id,)) for id, image, text in SCORED]
    whole = metric.result(total(parts))
    assert metric.result(total([total(parts[3:]), total(parts[2::-1])])) == whole


def check_prompts_of_a_class_stay_together():
    """Four words with vectors of their own; the classes have two prompts each."""

    class Prompts:
        key, output = "caption", "text"

        def __call__(self, example):
            words = {"red": 0, "a red": 1, "blue": 2, "a blue": 3}
            return {"text": np.array([words[example["caption"]]])}

    class Towers:
        @staticmethod
        def apply(variables, batch, train):
            vectors = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0.6, 0.8]], np.float32)
            text = jnp.asarray(vectors)[batch["text"][:, 0]] if "text" in batch else None
            image = jnp.asarray(batch.get("image", 0.0))
            return two_tower.Embedded(image=image, text=text, scale=10.0, bias=None)

    task = zero_shot.ZeroShot(
        classes=("red", "blue"), templates=("{}", "a {}"), tokenize=Prompts(), label="color", name="by_color"
    )  # fmt: skip
    image = np.array([[1, 0, 0], [0, 0.6, 0.8]], np.float32)
    batch = {"image": image, "color": [0, 0], "id": [4, 5], "valid": [True, True]}
    predictions = task.predict(Towers, {}, batch, None)
    red, blue = np.array([1, 1, 0]) / 2**0.5, np.array([0, 0.6, 1.8]) / 3.6**0.5
    logits = 10 * image @ np.stack([red, blue]).T
    np.testing.assert_allclose(predictions.probabilities, jax.nn.softmax(logits), rtol=1e-5)
    assert task.report(task.score(predictions, batch, {}))["by_color_accuracy"] == 50.0
    adjusted = dataclasses.replace(task, post_hoc=LogitAdjustment(counts=(3, 1)))
    predictions = adjusted.predict(Towers, {}, batch, None)
    logits -= np.log([0.75, 0.25])
    np.testing.assert_allclose(predictions.probabilities, jax.nn.softmax(logits), rtol=1e-5)


def check_clip_score_by_hand():
    metric = clip_score.ClipScore()
    stats = total([metric.stats(0.4, (0.2, 0.5)), metric.stats(-0.3, (0.9,))])
    found = metric.result(stats)
    np.testing.assert_allclose(metric.scores(stats), [100.0, 0.0])
    np.testing.assert_allclose(found["clip_score"], 50.0)
    np.testing.assert_allclose(found["ref_clip_score"], 100 * (2 * 0.5 / 1.5) / 2)
    assert metric.result(metric.stats(0.4)).keys() == {"clip_score"}


CHECKS = (
    check_softmax_closed_form,
    check_sigmoid_closed_form,
    check_permuting_pairs_changes_nothing,
    check_two_captions_of_a_picture_are_not_wrong_for_each_other,
    check_rows_that_are_not_valid_count_nowhere,
    check_split_over_devices_the_loss_and_its_gradient_are_those_of_the_whole_batch,
    check_the_temperature_learns_and_has_its_limit,
    check_gradients_reach_every_parameter,
    check_vectors_have_length_one,
    check_padding_of_the_text_changes_nothing,
    check_pictures_and_texts_alone_have_the_vectors_of_the_pair,
    check_recall_by_hand,
    check_any_of_five_captions_counts_and_the_others_are_not_in_the_way,
    check_directions_keep_their_names,
    check_the_same_score_for_all_finds_nothing,
    check_equal_vectors_are_equal_wherever_they_stand_in_the_product,
    check_random_vectors_find_k_of_n,
    check_batches_and_their_order_change_no_bit,
    check_prompts_of_a_class_stay_together,
    check_clip_score_by_hand,
)
