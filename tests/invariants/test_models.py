"""Every model of the zoo against every check of model_checks."""

import functools

import numpy as np
import pytest

from tests import model_zoo
from tests.decoding.toys import compiled
from tests.invariants import model_checks
from tests.invariants.subject import B, Subject
from vlm_jax.train.optimizers import Sgd
from vlm_jax.train.state import named_leaves

MODELS = model_zoo.generators() | model_zoo.text_generators()


@functools.cache
def subject(name: str) -> Subject:
    if name in model_zoo.text_generators():
        return Subject(MODELS[name], {"text": model_zoo.text_of(MODELS[name])})
    image = np.random.default_rng(4).normal(size=(B, model_zoo.NUM_PLACES, model_zoo.FEATURES))
    return Subject(
        MODELS[name], {"image": image.astype(np.float32)}, draws=name == "hard_attention"
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("check", model_checks.CHECKS, ids=lambda check: check.__name__[6:])
def test_every_model(name, check):
    check(subject(name))


@pytest.mark.parametrize("name", MODELS)
def test_weight_decay_spares_biases_norms_and_word_vectors(name):
    """C2.26, with the optimizers' default rules: kernels decay, and nothing else does."""
    params = subject(name).variables["params"]
    decayed = named_leaves(Sgd(learning_rate=1.0, weight_decay=0.1).decayed(params))
    for path in named_leaves(params):
        name = path.split("/")[-1]
        assert decayed[path] == ("kernel" in name or name == "score"), path


@pytest.mark.parametrize("name", ["transformer", "transformer_prefix"])
def test_a_step_beyond_the_room_in_the_cache_is_not_silent(name):
    """C2c.46: no wrapping round."""
    s = subject(name)

    def run(variables, memory):
        cache, step = s._decoder(variables, memory, 2)
        seen = []
        for t in range(3):
            logits, cache = step(s.inputs[:, t], cache, memory)
            seen.append(logits)
        return seen

    first, second, third = compiled(run)(s.variables, s.memory())
    assert np.isfinite(first).all() and np.isfinite(second).all()
    assert np.isnan(third).all()


def test_a_prefix_sees_all_of_itself_and_nothing_of_the_text():
    model_checks.check_the_prefix_sees_itself(subject("transformer_prefix"))


@pytest.mark.parametrize("name", ["soft_attention", "transformer"])
def test_compiling_changes_nothing(name):
    """C2.30: the same numbers without jit."""
    s = subject(name)
    plain = s.model.apply(s.variables, s._read(), train=False)
    np.testing.assert_allclose(plain, s.forward(), rtol=1e-5, atol=1e-5)
