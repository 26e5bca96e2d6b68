"""Answering questions: where the model looked, and what must hold of every model that answers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.decoding.toys import compiled
from tests.invariants import question_checks
from tests.model_zoo import filled
from vlm_jax.fusion.stacked_attention import StackedAttention
from vlm_jax.language.recurrent import RecurrentEncoder
from vlm_jax.layers.pooling import last_pool, pool
from vlm_jax.layers.recurrent import GRU
from vlm_jax.models.classifier import Classifier
from vlm_jax.tasks.imbalance import LogitAdjustment
from vlm_jax.tasks.vqa import QuestionAnswering
from vlm_jax.types import PAD
from vlm_jax.vision.precomputed import Precomputed


@pytest.fixture(scope="module", params=[question_checks.Answerers, question_checks.Fused])
def answerers(request):
    return request.param()


@pytest.mark.parametrize("check", question_checks.ANSWER_CHECKS, ids=lambda c: c.__name__[6:])
def test_answerers(check, answerers):
    check(answerers)


class Sows:
    """A model that has sown these."""

    def __init__(self, **sown):
        self.sown = sown

    def apply(self, variables, batch, **_):
        return jnp.zeros((2, 3)), {"intermediates": self.sown}


def predicted(text=None, **sown):
    task = QuestionAnswering(classes=("a", "b", "c"), metrics=())
    batch = {"id": np.array([5, 6]), "valid": np.array([False, True])}
    if text is not None:
        batch["text"] = np.array(text)
    chosen = task.predict(Sows(**sown), {}, batch, jax.random.key(0))
    return task.examples(chosen, batch)


PLACES = np.ones((2, 4), bool)
LOOK = np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]], np.float32)


def test_every_look_has_its_map():
    (example,) = predicted(
        places=(PLACES,), sizes=(LOOK,), fusion={"attention": (LOOK, LOOK[:, ::-1])}
    )
    assert example["id"] == 6 and example["words"] == ["look 1", "look 2"]
    np.testing.assert_allclose(example["attention"], [LOOK[1], LOOK[1, ::-1]])


def test_of_heads_and_words_that_look_the_mean_is_shown_and_what_looks_at_words_is_not():
    heads = np.stack([LOOK, LOOK[:, ::-1]], axis=1)[:, :, None]  # [b i q n]
    at_words = np.ones((2, 1, 3), np.float32)
    (example,) = predicted(places=(PLACES,), fusion={"attention": (heads, at_words)})
    assert example["words"] == ["look"]
    np.testing.assert_allclose(example["attention"], [[0.25, 0.25, 0.25, 0.25]])


def test_padding_has_no_part_in_the_mean_over_the_words():
    words = np.stack([LOOK, LOOK[:, ::-1], LOOK[:, ::-1]], axis=1)[:, None]  # [b i l n]
    text = [[4, 5, 6], [4, 5, PAD]]
    (example,) = predicted(text=text, places=(PLACES,), fusion={"attention": (words,)})
    np.testing.assert_allclose(example["attention"], [[0.25, 0.25, 0.25, 0.25]])
    # Three looks of another kind, at a question of two words.
    (example,) = predicted(text=[[4, 5]] * 2, places=(PLACES,), fusion={"attention": (words,)})
    np.testing.assert_allclose(example["attention"], [(LOOK[1] + 2 * LOOK[1, ::-1]) / 3])


def test_where_places_and_words_are_one_row_the_words_looks_at_places_are_shown():
    """Four places before two words; the second word of a row is padding in the first row only."""
    row = np.zeros((2, 1, 6, 6), np.float32)
    row[:, :, :4] = 1 / 6  # what the places look at is not shown
    row[1, 0, 4] = [0.1, 0.0, 0.3, 0.0, 0.6, 0.0]
    row[1, 0, 5] = [0.0, 0.2, 0.0, 0.0, 0.0, 0.8]
    layers = {"layer_0": {"attention": (row,)}}
    (example,) = predicted(text=[[4, PAD], [4, 5]], places=(PLACES,), fusion=layers)
    np.testing.assert_allclose(example["attention"], [[1 / 6, 2 / 6, 3 / 6, 0]], rtol=1e-5)
    (example,) = predicted(text=[[4, PAD]] * 2, places=(PLACES,), fusion=layers)
    np.testing.assert_allclose(example["attention"], [[1 / 4, 0, 3 / 4, 0]], rtol=1e-5)


def test_of_vectors_that_looked_at_the_places_what_they_saw_is_shown():
    """Two vectors before two words: the words look at the first three times as much."""
    looked = np.zeros((2, 1, 2, 6), np.float32)
    looked[:, 0, 0] = [0.5, 0.5, 0, 0, 0, 0]
    looked[:, 0, 1] = [0, 0, 0, 0.5, 0, 0.5]
    row = np.zeros((2, 1, 4, 4), np.float32)
    row[:, 0, 2:] = [0.6, 0.2, 0.1, 0.1]
    layers = {"resampler": {"attention": (looked,)}, "layer_0": {"attention": (row,)}}
    (example,) = predicted(text=[[4, 5]] * 2, places=(PLACES,), fusion=layers)
    np.testing.assert_allclose(example["attention"], [[3 / 7, 3 / 7, 0, 1 / 7]], rtol=1e-5)


def test_what_an_encoder_looks_at_within_itself_is_not_shown():
    inside = {"attention": {"weights": (LOOK[:, None],)}}
    sown = {"places": (PLACES,), "image_encoder": {"block_0": inside, "attention": (LOOK,)}}
    (example,) = predicted(**sown, fusion={**inside, "layer_0": {"attention": (LOOK,)}})
    np.testing.assert_allclose(example["attention"], LOOK[1:])
    (example,) = predicted(**sown, fusion=inside)
    assert "attention" not in example


def test_without_attention_the_sizes_of_the_places_are_shown_and_of_words_nothing():
    (example,) = predicted(places=(PLACES,), sizes=(3 * LOOK,))
    np.testing.assert_allclose(example["attention"], 3 * LOOK[1:])
    for sown in (
        {"sizes": (LOOK,)},  # no picture
        {"places": (PLACES,), "sizes": (LOOK[:, :3],)},  # sizes of words
        {"places": (PLACES[:, :1],), "sizes": (LOOK[:, :1],)},  # one place
    ):
        (example,) = predicted(**sown)
        assert "attention" not in example


def test_the_shares_of_the_answers_are_taken_out_of_what_is_predicted():
    task = QuestionAnswering(classes=("a", "b", "c"), post_hoc=LogitAdjustment(counts=(6, 3, 1)))
    chosen = task.predict(Sows(), {}, {}, jax.random.key(0))  # its logits are all zero
    np.testing.assert_allclose(chosen.probabilities[0], np.array([5, 10, 30]) / 45, rtol=1e-5)


def test_eight_questions_are_learned_by_heart_of_which_the_pictures_decide():
    """Four wordings, each about two pictures with different answers."""
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.normal(size=(8, 4, 6)).astype(np.float32),
        "text": np.array([[1, 4 + k // 2, 9, 2, 0] for k in range(8)], np.int32),
        "label": np.array([0, 1, 1, 2, 2, 0, 0, 2]),
        "valid": np.ones(8, bool),
        "id": np.arange(8),
    }
    model = Classifier(
        num_classes=3,
        image_encoder=Precomputed(),
        text_encoder=RecurrentEncoder(
            cell=GRU(), vocab_size=10, width=8, embedding_width=8, bidirectional=False
        ),
        fusion=StackedAttention(attention_width=8, text_pooling=last_pool),
        pooling=pool,
    )
    task = QuestionAnswering(classes=("a", "b", "c"))
    tx = optax.adam(0.02)

    @compiled
    def fit(params):
        def step(carry, _):
            params, state = carry

            def loss(params):
                return task.loss(model, {"params": params}, batch, rngs={}, train=True)[0]

            value, gradients = jax.value_and_grad(loss)(params)
            updates, state = tx.update(gradients, state)
            return (optax.apply_updates(params, updates), state), value

        (params, _), losses = jax.lax.scan(step, (params, tx.init(params)), length=150)
        return losses, task.predict(model, {"params": params}, batch, None)

    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))
    losses, chosen = fit(filled(shapes)["params"])
    assert losses[-1] < 0.05
    assert chosen.probabilities.argmax(-1).tolist() == batch["label"].tolist()
