"""Positions resized while loading: nothing at the same size, and what the encoder itself would do at another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import model_zoo
from tests.train import toys
from vlm_jax.pretrained.positions import ResizedPositions
from vlm_jax.train import checkpoints
from vlm_jax.train.from_run import FromRun
from vlm_jax.train.loop import train
from vlm_jax.vision.vit import Vit

OLD, NEW = (2, 3), (4, 3)


def vit(grid):
    size = (4 * grid[0], 4 * grid[1])
    return Vit(width=8, num_layers=1, num_heads=2, hidden=8, patch_size=4, image_size=size)


def shapes_of(grid):
    image = jnp.zeros((1, 4 * grid[0], 4 * grid[1], 3))
    return jax.eval_shape(lambda: vit(grid).init(jax.random.key(0), image, train=False))["params"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run's folder with the parameters of a small grid, and they themselves."""
    workdir, params = tmp_path_factory.mktemp("run"), model_zoo.filled(shapes_of(OLD))
    state = train(toys.experiment(num_steps=0, evaluations=()))
    checkpoints.save(workdir, 1, state.replace(params=params, ema=None), position=1)
    return str(workdir), params


def test_a_larger_picture_sees_what_interpolating_at_every_call_gives(saved):
    workdir, params = saved
    resized = ResizedPositions(init_params=FromRun(workdir=workdir), old=OLD, new=NEW)
    new = resized(shapes_of(NEW))
    image = np.random.default_rng(0).normal(size=(2, 4 * NEW[0], 4 * NEW[1], 3)).astype(np.float32)
    ours, theirs = (
        jax.jit(lambda given, grid=grid: vit(grid).apply(given, image, train=False).values)(given)
        for grid, given in ((NEW, {"params": new}), (OLD, {"params": params}))
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    class_token = params["positions"]["positions"][0]
    np.testing.assert_array_equal(new["positions"]["positions"][0], class_token)


def test_the_same_size_gives_the_same_numbers_exactly(saved):
    workdir, params = saved
    same = ResizedPositions(init_params=FromRun(workdir=workdir), old=OLD, new=OLD)
    jax.tree.map(np.testing.assert_array_equal, same(shapes_of(OLD)), params)


def test_a_constant_grid_stays_constant_whatever_the_class_token_has():
    table = np.full((1 + 6, 8), 0.25, np.float32)
    table[0] = 100.0

    def constant(params):
        return {**params, "positions": {"positions": table}}

    new = ResizedPositions(init_params=constant, old=OLD, new=NEW)(shapes_of(NEW))
    new = np.asarray(new["positions"]["positions"])
    assert new.shape == (1 + 12, 8)
    np.testing.assert_allclose(new[1:], 0.25, rtol=1e-6)
    assert (new[0] == 100.0).all()


def test_variables_are_taken_as_well_and_other_collections_pass():
    def constant(variables):
        found = variables["params"]["positions"]["positions"]
        assert found.shape == (7, 8)  # what is loaded fits the file
        return {**variables, "params": {"positions": {"positions": found + 1.0}}}

    variables = {"params": shapes_of(NEW), "batch_stats": {"mean": jnp.ones(2)}}
    new = ResizedPositions(init_params=constant, old=OLD, new=NEW)(variables)
    assert new["params"]["positions"]["positions"].shape == (13, 8)
    assert new["batch_stats"] == variables["batch_stats"]


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"rules": ("places$",)}, "the rule 'places.' finds no parameter"),
        ({"new": (5, 3)}, "positions/positions has shape .13, 8., expected"),
        ({"old": (3, 3)}, "was loaded with 7 vectors, expected 1 . 3 . 3"),
    ],
)
def test_grids_that_do_not_fit_are_refused_in_words(saved, fields, words):
    values = {"init_params": FromRun(workdir=saved[0]), "old": OLD, "new": NEW} | fields
    with pytest.raises(ValueError, match=words):
        ResizedPositions(**values)(shapes_of(NEW))
