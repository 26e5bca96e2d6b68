import dataclasses
import math
from collections import Counter
from fractions import Fraction

import jax
import jax.numpy as jnp
import pytest

from vlm_jax.metrics.base import Mean, Stats, exact, mean_of, score, total
from vlm_jax.metrics.bleu import Bleu
from vlm_jax.metrics.perplexity import perplexity


@dataclasses.dataclass(frozen=True, kw_only=True)
class Some(Stats):
    count: int
    value: Fraction
    kinds: Counter


def some(value):
    return Some(count=1, value=exact(value), kinds=Counter([value > 0]))


def test_statistics_add_field_by_field_and_exactly_in_any_order():
    parts = [some(x) for x in (1e16, 1.0, -1e16, 0.1)]  # floats would lose the 1.0
    expected = Some(count=4, value=1 + exact(0.1), kinds=Counter({True: 3, False: 1}))
    assert total(parts) == sum(parts) == total(reversed(parts)) == expected
    assert total([*parts[:1], total(parts[1:])]) == expected


def test_statistics_of_two_metrics_do_not_add():
    @dataclasses.dataclass(frozen=True)
    class Other(Stats):
        count: int

    with pytest.raises(TypeError):
        some(1.0) + Other(1)


def test_total_of_nothing_says_so():
    with pytest.raises(ValueError, match="no example"):
        total([])


def test_total_adds_every_number_of_parts():
    for n in range(1, 18):
        assert total(some(1.0) for _ in range(n)).count == n


def test_mean_of_floats_does_not_depend_on_their_order():
    values = [0.1, 1e16, 0.3, -1e16, 0.7]
    assert mean_of(values) == mean_of(values[::-1]) == mean_of(sorted(values))
    assert math.isnan(mean_of([]))


def test_score_names_the_ids_that_do_not_match():
    with pytest.raises(ValueError, match="'b'"):
        score(Bleu(), {"a": "x"}, {"a": ["x"], "b": ["y"]})


def test_mean_divides_the_kept_once():
    values = jnp.array([[1.0, 2.0, jnp.nan], [4.0, jnp.inf, 9.0]])
    mask = jnp.array([[True, True, False], [True, False, False]])
    mean = Mean.of(values, mask)
    assert float(mean.value()) == pytest.approx(7 / 3)
    assert (float(mean.total), float(mean.count)) == (7.0, 3.0)


def test_mean_of_parts_is_the_mean_of_all_and_not_of_means():
    first, second = Mean.of(jnp.array([1.0])), Mean.of(jnp.array([4.0, 4.0, 4.0]))
    assert float((first + second).value()) == 3.25
    assert float(first.merge(second).value()) == float(sum([first, second]).value()) == 3.25


def test_mean_takes_weights_and_masks_of_fewer_axes():
    assert float(Mean.of(jnp.array([2.0, 4.0]), jnp.array([0.25, 0.75])).value()) == 3.5
    rows = Mean.of(jnp.arange(6.0).reshape(2, 3), jnp.array([[True], [False]]))
    assert float(rows.value()) == 1.0


def test_mean_of_nothing_is_nan_with_gradient_zero():
    def of(values):
        return Mean.of(values, jnp.zeros(2, bool)).value()

    assert math.isnan(float(of(jnp.ones(2))))
    assert jax.grad(of)(jnp.ones(2)).tolist() == [0.0, 0.0]


def test_gradient_passes_by_what_is_masked():
    gradient = jax.grad(lambda x: Mean.of(x, jnp.array([1, 1, 0], bool)).value())
    assert gradient(jnp.array([1.0, 2.0, jnp.nan])).tolist() == [0.5, 0.5, 0.0]


def test_ten_thousand_bfloat16_losses_do_not_stagnate():
    one = Mean.of(jnp.full(1, 1e-3, jnp.bfloat16))
    assert one.total.dtype == one.count.dtype == jnp.float32
    many = jax.jit(lambda: jax.lax.fori_loop(0, 10_000, lambda _, mean: mean + one, one))()
    assert float(many.count) == 10_001
    assert float(many.value()) == pytest.approx(float(jnp.bfloat16(1e-3)), rel=1e-3)


def test_perplexity_is_the_exponential_of_the_mean():
    assert perplexity(Mean.of(jnp.log(jnp.array([2.0, 8.0])))) == pytest.approx(4.0, rel=1e-6)
    assert perplexity(Mean.of(jnp.array([1e9]))) == math.inf
    assert math.isnan(perplexity(Mean.of(jnp.zeros(0))))
