"""The base of tasks that make pictures: what metrics are given, scales, and prompts that are dropped or mixed."""

import dataclasses
from collections import Counter

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.metrics.base import Stats, total
from vlm_jax.tasks.painting import Painted, Painting, between, no_prompt
from vlm_jax.tasks.ranking import CaptionLikelihood
from vlm_jax.train.from_run import VariablesFromRun
from vlm_jax.types import BOS, EOS, PAD, Features

IMAGES = np.array([[[0.0, 0.5], [1.0, 0.25]], [[0.1, 0.2], [2.0, -1.0]]], np.float32)
IMAGES = IMAGES.reshape(2, 2, 1, 2, 1)  # two prompts, two samples each, pictures of 1x2
BATCH = {
    "id": np.array([7, -1]),
    "valid": np.array([True, False]),
    "text": np.array([[BOS, 5, 6, EOS, PAD], [BOS, 5, EOS, PAD, PAD]], np.int32),
    "image": np.array([[[[-1.0], [1.0]]], [[[0.0], [0.0]]]], np.float32),
}


@dataclasses.dataclass(frozen=True)
class Counts(Stats):
    seen: Counter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs:
    """Keeps what it was given."""

    reference: str

    def stats(self, picture, references):
        assert picture.dtype == np.uint8 and picture.shape == (1, 2, 1)
        gold = [r if isinstance(r, str) else tuple(r.ravel()) for r in references]
        return Counts(seen=Counter({(tuple(picture.ravel()), *gold): 1}))

    def result(self, stats):
        return {self.reference: stats.seen}


def test_metrics_are_given_every_sample_as_bytes_with_the_prompt_or_the_real_picture():
    task = Painting(metrics=(Pairs(reference="prompt"), Pairs(reference="picture")))
    stats = task.score(Painted(IMAGES), BATCH, {7: {"prompt": ("a red circle",)}})
    numbers = task.report(stats)
    assert numbers["prompt"] == {((0, 128), "a red circle"): 1, ((255, 64), "a red circle"): 1}
    assert numbers["picture"] == {((0, 128), (0, 255)): 1, ((255, 64), (0, 255)): 1}
    twice = {name: total([value, value]) for name, value in stats.items()}
    assert task.report(twice)["prompt"][(0, 128), "a red circle"] == 2


def test_examples_have_the_pictures_of_valid_rows_and_the_real_one_where_it_is_known():
    (example,) = Painting().examples(Painted(IMAGES), BATCH)
    assert example["id"] == 7 and example["pictures"].shape == (2, 1, 2, 1)
    np.testing.assert_array_equal(example["picture"].ravel(), [0, 255])
    alone = {name: value for name, value in BATCH.items() if name != "image"}
    (example,) = Painting().examples(Painted(IMAGES), alone)
    assert "picture" not in example
    assert Painting().score(Painted(IMAGES), alone, {}) == {}


def test_the_scale_is_undone_exactly_and_what_lies_beyond_is_cut_off():
    task = Painting(mean=0.25, std=0.5)
    image = jnp.linspace(0, 1, 256)
    np.testing.assert_allclose(task.shown(task.scaled(image)), image, atol=1e-6)
    assert task.shown(jnp.float32(9)) == 1 and task.shown(jnp.float32(-9)) == 0


def test_prompts_are_dropped_as_often_as_the_task_says_and_whole():
    task = Painting(prompt_dropout=0.3)
    text = np.tile(BATCH["text"][:1], (4000, 1))
    dropped = np.asarray(task.with_dropped_prompts({"text": text}, jax.random.key(0))["text"])
    empty = (dropped == [BOS, EOS, PAD, PAD, PAD]).all(1)
    assert 0.27 < empty.mean() < 0.33
    assert (dropped[~empty] == text[0]).all() and dropped.dtype == text.dtype
    never = Painting(prompt_dropout=0.0).with_dropped_prompts({"text": text}, jax.random.key(0))
    np.testing.assert_array_equal(never["text"], text)


def test_half_way_between_two_prompts_is_their_mean_and_the_ends_are_the_prompts():
    one = Features(values=jnp.float32([[[2.0], [4.0], [9.0]]]), mask=jnp.bool_([[1, 1, 0]]))
    two = Features(values=jnp.float32([[[6.0], [0.0], [8.0]]]), mask=jnp.bool_([[1, 1, 1]]))
    ends = {0.0: ([2, 4], 2), 0.5: ([4, 2, 8], 3), 1.0: ([6, 0, 8], 3)}
    for share, (values, places) in ends.items():
        found = between(one, two, jnp.float32([share]))
        assert found.mask.sum() == places
        np.testing.assert_allclose(found.values[0, :places, 0], values)
    shorter = between(two, one, jnp.float32([1.0]))
    np.testing.assert_array_equal(shorter.mask, one.mask)


def test_condition_encodes_both_prompts_of_a_batch_that_has_two():
    class Model:
        def apply(self, variables, batch, *, train, method):
            assert method == "encode" and not train
            values = jnp.float32(batch["text"])[..., None]
            return Features(values=values, mask=batch["text"] != PAD)

    task, text = Painting(), jnp.int32([[BOS, 4, EOS]])
    batch = {"text": text, "text_to": jnp.int32([[BOS, 8, EOS]]), "share": jnp.float32([0.25])}
    assert task.condition(Model(), {}, batch).values[0, 1, 0] == 5
    assert task.condition(Model(), {}, {"text": text}).values[0, 1, 0] == 4
    assert task.condition(Model(), {}, {"text": no_prompt(text)}).mask.sum() == 2


def test_a_batch_that_contradicts_the_task_is_refused():
    Painting().check(None, BATCH)
    with pytest.raises(ValueError, match="reach from -0.5 to 1.5, expected 0 to 1"):
        Painting(std=1.0).check(None, BATCH)
    unfinished = {**BATCH, "text": np.array([[BOS, 5, 6, 5, 6], [BOS, EOS, 0, 0, 0]])}
    with pytest.raises(ValueError, match="id 7: its prompt has not exactly one EOS"):
        Painting().check(None, unfinished)
    with pytest.raises(ValueError, match="prompt_dropout is 1"):
        Painting(prompt_dropout=1)


def brightness(image, text):
    """A ranking: the brighter the better, where the prompt is long; else the darker."""
    return image.mean((1, 2, 3)) * jnp.where(text[:, 3] == EOS, 1, -1)


def test_of_several_candidates_the_best_for_each_prompt_is_shown():
    images = np.arange(12, dtype=np.float32).reshape(2, 6, 1, 1, 1) / 12
    task = Painting(num_samples=2, candidates=3, ranking=brightness)
    assert task.num_made == 6
    plans = np.arange(24).reshape(2, 6, 2)
    made = Painted(images=jnp.asarray(images), plans=jnp.asarray(plans))
    best = task.best(made, BATCH)
    np.testing.assert_allclose(12 * best.images.ravel(), [2, 5, 6, 9], rtol=1e-6)
    np.testing.assert_array_equal(best.plans, [[[4, 5], [10, 11]], [[12, 13], [18, 19]]])
    one = Painting(num_samples=6, ranking=brightness)
    assert one.best(made, BATCH) is made


def test_a_ranking_says_whose_eyes_it_has():
    run = VariablesFromRun(workdir="runs/demo")
    assert CaptionLikelihood(captioner=None, init_params=run).signature() == "ranking:demo"
    assert CaptionLikelihood(captioner=None).signature() == "ranking:drawn"


def test_candidates_without_a_ranking_are_refused():
    with pytest.raises(ValueError, match="candidates is 2 with ranking None; expected 1, or more"):
        Painting(candidates=2)


class Speller(nn.Module):
    """Writes 5 of dark pictures and 6 of bright ones, then EOS."""

    @nn.compact
    def __call__(self, batch, *, train):
        bright = batch["image"].mean((1, 2, 3)) > self.param("edge", nn.initializers.ones, ())
        first = jax.nn.one_hot(jnp.where(bright, 6, 5), 8)
        then = jnp.broadcast_to(jax.nn.one_hot(EOS, 8), first.shape)
        return 10 * jnp.stack([first, then, then], axis=1)


def test_the_likelihood_is_that_of_words_and_eos_with_the_weights_that_are_given():
    text = np.array([[BOS, 6, EOS, PAD], [BOS, 5, EOS, PAD]], np.int32)
    image = np.stack([np.full((2, 2, 1), 0.5), np.full((2, 2, 1), 0.2)]).astype(np.float32)
    log = 10 - np.log(np.exp(10) + 7)  # of each right word
    drawn = CaptionLikelihood(captioner=Speller())(image, text)
    np.testing.assert_allclose(drawn, [2 * log - 10, 2 * log], atol=1e-5)

    def quarter(variables):
        return jax.tree.map(lambda x: 0.25 * jnp.ones_like(x), variables)

    given = CaptionLikelihood(captioner=Speller(), init_params=quarter)
    np.testing.assert_allclose(jax.jit(given)(image, text), [2 * log, 2 * log], atol=1e-5)
