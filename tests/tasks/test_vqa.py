"""Answering questions: where the model looked, and what must hold of every model that answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.invariants import question_checks
from vlm_jax.tasks.vqa import QuestionAnswering


@pytest.fixture(scope="module")
def answerers():
    return question_checks.Answerers()


@pytest.mark.parametrize("check", question_checks.ANSWER_CHECKS, ids=lambda c: c.__name__[6:])
def test_answerers(check, answerers):
    check(answerers)


class Sows:
    """A model that has sown these."""

    def __init__(self, **sown):
        self.sown = sown

    def apply(self, variables, batch, **_):
        return jnp.zeros((2, 3)), {"intermediates": self.sown}


def predicted(**sown):
    task = QuestionAnswering(classes=("a", "b", "c"), metrics=())
    batch = {"id": np.array([5, 6]), "valid": np.array([False, True])}
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
