import dataclasses
import json
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import pytest

from vlm_jax import config

PACKAGES = (*config.KNOWN_PACKAGES, "tests", "test_config")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaf:
    every: int = 10
    rate: float = 0.1
    name: str = "x"
    shape: tuple[int, ...] = (1, 2)
    limit: int | None = None


class Net(nn.Module):
    width: int
    activation: Callable = nn.relu
    dtype: type = jnp.float32
    inner: nn.Module | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Root:
    model: nn.Module
    leaves: tuple[Leaf, ...] = (Leaf(), Leaf(name="y"))


ROOT = Root(model=Net(width=4, inner=Net(width=8, activation=nn.tanh, dtype=jnp.bfloat16)))


def test_round_trip_is_equal_with_the_same_hash():
    again = config.from_json(json.loads(json.dumps(config.to_json(ROOT))), packages=PACKAGES)
    assert again == ROOT and hash(again) == hash(ROOT)
    assert again.model.inner.activation is nn.tanh
    assert again.model.inner.dtype is jnp.bfloat16


def test_infinity_round_trips():
    leaf = Leaf(rate=float("inf"))
    text = json.dumps(config.to_json(leaf), allow_nan=False)
    assert config.from_json(json.loads(text), packages=PACKAGES) == leaf


def test_override_reaches_modules_tuples_and_leaves_the_rest():
    new = config.override(ROOT, {"model.inner.width": 3, "leaves.1.every": "50"})
    assert new.model.inner.width == 3 and new.leaves[1].every == 50
    assert new.leaves[0] == ROOT.leaves[0] and ROOT.model.inner.width == 8


@pytest.mark.parametrize(
    "path, text, value",
    [
        ("leaves.0.rate", "1", 1.0),
        ("leaves.0.rate", "1e-3", 1e-3),
        ("leaves.0.limit", "none", None),
        ("leaves.0.limit", "7", 7),
        ("leaves.0.name", "7", "7"),
        ("leaves.0.name", "none", "none"),
        ("leaves.0.shape", "(3, 4, 5)", (3, 4, 5)),
        ("leaves.0.shape", "[3]", (3,)),
        ("model.activation", "jax.nn.gelu", nn.gelu),
        ("model.inner", "none", None),
    ],
)
def test_command_line_strings_become_what_the_field_wants(path, text, value):
    assert config.flatten(config.override(ROOT, {path: text}))[path] == value


def test_a_json_node_builds_an_object():
    node = json.dumps(config.to_json(nn.Dense(5)))
    assert config.override(ROOT, {"model.inner": node}).model.inner == nn.Dense(5)


@pytest.mark.parametrize("path", [p for p in config.flatten(ROOT) if "." in p])
def test_every_misspelt_path_is_refused_with_the_nearest_name(path):
    wrong = path[:-1] + "q" + path[-1]
    with pytest.raises(KeyError) as error:
        config.override(ROOT, {wrong: 1})
    if not path[-1].isdigit():
        assert "Nearest" in str(error.value) and path in str(error.value)


@pytest.mark.parametrize(
    "path, value",
    [
        ("leaves.0.every", "3.5"),
        ("leaves.0.every", True),
        ("leaves.0.every", "none"),
        ("leaves.0.rate", "high"),
        ("leaves.0.shape", "3"),
        ("model.width", "wide"),
        ("leaves.0.name", 3),
    ],
)
def test_a_wrong_type_says_expected_and_given(path, value):
    with pytest.raises(TypeError, match="given .* expected"):
        config.override(ROOT, {path: value})


def test_arrays_dicts_and_lambdas_are_refused_by_path():
    for bad in (lambda x: x, {"a": 1}, jnp.zeros(2)):
        with pytest.raises(TypeError, match="config.model.activation"):
            config.to_json(Root(model=Net(width=1, activation=bad)))


@pytest.mark.parametrize(
    "node",
    [
        {"$type": "os:system"},
        {"$ref": "subprocess:run"},
        {"$ref": "vlm_jax.config:importlib"},
        {"$type": "numpy:load"},
        {"$type": "vlm_jax.nothing:Here"},
        {"width": 3},
        {"$type": "flax.linen:Dense", "featurs": 3},
    ],
)
def test_nothing_foreign_or_unknown_is_read(node):
    with pytest.raises(ValueError):
        config.from_json(node)


def test_describe_names_every_path():
    text = config.describe(ROOT)
    assert "model.inner.width = 8" in text and "leaves.1.name = 'y'" in text
