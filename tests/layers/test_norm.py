import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.layers import norm as norms


class Holder(nn.Module):
    """A norm is a description; this is a module that uses one."""

    norm: norms.Norm
    dtype: type = jnp.float32

    @nn.compact
    def __call__(self, x, *, train):
        return self.norm(x, train=train, dtype=self.dtype, name="norm")


def _train(module, variables, x):
    return module.apply(variables, x, train=True, mutable=["batch_stats"])


def test_batch_statistics_after_constant_data_follow_the_closed_form():
    # Rows 1 and 5 in channel 0, 2 and 2 in channel 1: means 3 and 2, variances 4 and 0.
    x = jnp.array([[1.0, 2.0], [5.0, 2.0]])
    module = Holder(norms.BatchNorm(momentum=0.9))
    variables = module.init(jax.random.key(0), x, train=False)
    for _ in range(3):
        _, updated = _train(module, variables, x)
        variables = {**variables, **updated}
    kept = 0.9**3
    stats = variables["batch_stats"]["norm"]
    np.testing.assert_allclose(stats["mean"], np.array([3.0, 2.0]) * (1 - kept), rtol=1e-6)
    np.testing.assert_allclose(stats["var"], kept + np.array([4.0, 0.0]) * (1 - kept), rtol=1e-6)


def test_training_normalises_by_the_batch_and_evaluation_by_the_running_statistics():
    x = jnp.array([[1.0], [5.0]])
    module = Holder(norms.BatchNorm(epsilon=0.0))
    params = {"norm": {"scale": jnp.array([3.0]), "bias": jnp.array([10.0])}}
    stats = {"norm": {"mean": jnp.array([1.0]), "var": jnp.array([16.0])}}
    variables = {"params": params, "batch_stats": stats}
    y, _ = _train(module, variables, x)
    np.testing.assert_allclose(y, [[7.0], [13.0]], rtol=1e-6)  # -1 and 1, times 3, plus 10
    y = module.apply(variables, x, train=False)
    np.testing.assert_allclose(y, [[10.0], [13.0]], rtol=1e-6)  # 0 and 1, times 3, plus 10


def test_a_large_mean_does_not_drown_the_variance():
    x = 10000.0 + jnp.array([[-1.0], [1.0]] * 8)
    module = Holder(norms.BatchNorm())
    y, _ = _train(module, module.init(jax.random.key(0), x, train=False), x)
    np.testing.assert_allclose(y, [[-1.0], [1.0]] * 8, atol=1e-3)


def test_frozen_statistics_never_move_and_are_used_in_training():
    x = jnp.array([[1.0], [5.0]])
    module = Holder(norms.FrozenBatchNorm(epsilon=0.0))
    live = Holder(norms.BatchNorm()).init(jax.random.key(0), x, train=False)
    assert jax.tree.structure(live) == jax.tree.structure(
        module.init(jax.random.key(0), x, train=False)
    )
    stats = {"norm": {"mean": jnp.array([1.0]), "var": jnp.array([4.0])}}
    y, updated = _train(module, {**live, "batch_stats": stats}, x)
    np.testing.assert_allclose(y, [[0.0], [2.0]], rtol=1e-6)
    np.testing.assert_array_equal(updated["batch_stats"]["norm"]["mean"], [1.0])
    np.testing.assert_array_equal(updated["batch_stats"]["norm"]["var"], [4.0])


def test_statistics_over_a_mapped_axis_equal_those_of_the_whole_batch():
    x = jax.random.normal(jax.random.key(1), (8, 3)) * jnp.arange(1.0, 9.0)[:, None]
    module = Holder(norms.BatchNorm(axis_name="data"))
    variables = module.init(jax.random.key(0), x, train=False)

    def loss(x):
        y, updated = _train(module, variables, x)
        return jnp.sum(y**3), updated

    gradient = jax.value_and_grad(loss, has_aux=True)
    (_, whole), whole_grad = jax.jit(gradient)(x)
    parts = jax.jit(jax.vmap(gradient, axis_name="data"))(x.reshape(4, 2, 3))
    (_, split), split_grad = parts
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(split)):
        np.testing.assert_allclose(b, np.broadcast_to(a, b.shape), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(split_grad.reshape(8, 3), whole_grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("norm", "row", "expected"),
    [
        (norms.RMSNorm(epsilon=0.0), [3.0, 4.0, 0.0, 0.0], [1.2, 1.6, 0.0, 0.0]),
        (norms.LayerNorm(epsilon=0.0), [1.0, 3.0, 1.0, 3.0], [-1.0, 1.0, -1.0, 1.0]),
        (norms.GroupNorm(num_groups=2, epsilon=0.0), [1.0, 3.0, 5.0, 9.0], [-1.0, 1.0, -1.0, 1.0]),
        (norms.UnitNorm(), [3.0, 4.0, 0.0, 0.0], [0.6, 0.8, 0.0, 0.0]),
        (norms.UnitNorm(), [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]),
        (norms.NoNorm(), [3.0, 4.0, 0.0, 0.0], [3.0, 4.0, 0.0, 0.0]),
    ],
)
def test_each_norm_gives_the_values_worked_out_by_hand(norm, row, expected):
    x = jnp.array([row])
    y, _ = Holder(norm).init_with_output(jax.random.key(0), x, train=True)
    np.testing.assert_allclose(y, [expected], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "norm",
    [norms.BatchNorm(), norms.GroupNorm(num_groups=2), norms.LayerNorm(), norms.RMSNorm()],
)
def test_parameters_and_statistics_stay_float32_under_bfloat16(norm):
    x = jnp.ones((2, 3, 4), jnp.bfloat16)
    module = Holder(norm, dtype=jnp.bfloat16)
    variables = module.init(jax.random.key(0), x, train=False)
    y, updated = _train(module, variables, x)
    assert y.dtype == jnp.bfloat16
    assert {a.dtype for a in jax.tree.leaves((variables, updated))} == {jnp.dtype(jnp.float32)}


def test_groups_that_do_not_divide_the_channels_are_refused_by_number():
    with pytest.raises(ValueError, match=r"num_groups=3.*4 channels"):
        Holder(norms.GroupNorm(num_groups=3)).init(jax.random.key(0), jnp.ones((1, 4)), train=True)


def test_norms_are_hashable_and_equal_by_value():
    changed = dataclasses.replace(norms.BatchNorm(), momentum=0.5)
    assert len({norms.BatchNorm(), norms.BatchNorm(momentum=0.9), changed}) == 2
