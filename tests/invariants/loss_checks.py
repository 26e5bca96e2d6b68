"""What must hold of a generation task's loss, whatever the model: the model is a table of logits.

Each check takes a `loss(task fields, logits, batch, train) -> (objective, metrics, gradient)`, so that the same
lines test the project and, in `tests/seeded_bugs`, the project with a bug in it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.decoding.toys import compiled
from vlm_jax.tasks import generation
from vlm_jax.types import BOS, EOS, PAD

B, L, V = 4, 8, 12
LENGTHS = (8, 5, 6, 3)  # BOS and EOS counted
SMOOTHING = 0.1


class Logits:
    """A model whose only variable is what it answers."""

    @staticmethod
    def apply(variables, batch, *, train, rngs, mutable):
        assert batch["target"].shape == (B, L - 1), "a model reads one token less than the target"
        return variables["params"]["logits"], {}


def batch(seed=0, valid=(True,) * B):
    rng = np.random.default_rng(seed)
    target = np.full((B, L), PAD, np.int32)
    for row, length in enumerate(LENGTHS):
        target[row, :length] = [BOS, *rng.integers(4, V, length - 2), EOS]
    return {"target": target, "valid": np.array(valid), "id": np.arange(B, dtype=np.int32)}


def logits(seed=1):
    return np.random.default_rng(seed).normal(size=(B, L - 1, V)).astype(np.float32) * 2


class Loss:
    """Compiled once for each pair (label_smoothing, train)."""

    @functools.cache  # noqa: B019  an instance lives as long as its checks
    def _compiled(self, label_smoothing, train):
        task = generation.Generation(tokenizer=None, decoding=None, label_smoothing=label_smoothing)

        def objective(logits, batch):
            loss, aux = task.loss(
                Logits, {"params": {"logits": logits}}, batch, rngs={}, train=train
            )
            return loss, aux.metrics

        return compiled(jax.value_and_grad(objective, has_aux=True))

    def __call__(self, logits, batch, *, label_smoothing=0.0, train=False):
        """(objective, reported loss, number it was divided by, gradient [b l-1 v])"""
        compiled = self._compiled(label_smoothing, train)
        (objective, metrics), gradient = jax.device_get(compiled(jnp.asarray(logits), batch))
        mean = metrics["loss"]
        return float(objective), float(mean.total / max(mean.count, 1)), float(mean.count), gradient


def log_softmax(x):
    x = np.asarray(x, np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def check_closed_form(loss):
    """The mean of -log p over every word and EOS, token t + 1 scored by row t of the logits."""
    target, x = batch()["target"], logits()
    terms = [
        -log_softmax(x[row, t])[target[row, t + 1]]
        for row, length in enumerate(LENGTHS)
        for t in range(length - 1)
    ]
    objective, reported, count, _ = loss(x, batch())
    np.testing.assert_allclose(objective, np.mean(terms), rtol=1e-5)
    np.testing.assert_allclose(reported, np.mean(terms), rtol=1e-5)
    assert count == len(terms), f"divided by {count}, expected {len(terms)}"


def _supervised(loss):
    """Where the loss has a gradient, and the token it pulls up there: Bool[b l-1], Int[b l-1]."""
    _, _, _, gradient = loss(logits(), batch())
    return np.abs(gradient).max(-1) > 0, gradient.argmin(-1)


def check_target_multiset(loss):
    """Each row is taught its own words and one EOS, and nothing else."""
    target = batch()["target"]
    where, token = _supervised(loss)
    for row, length in enumerate(LENGTHS):
        taught = sorted(token[row][where[row]].tolist())
        assert taught == sorted(target[row, 1:length].tolist()), (row, taught)


def check_target_position(loss):
    """Position t is taught token t + 1, and the last real position EOS, exactly once."""
    target = batch()["target"]
    where, token = _supervised(loss)
    for row, length in enumerate(LENGTHS):
        positions = np.flatnonzero(where[row])
        assert len(positions), "nothing is taught"
        assert (token[row, positions] == target[row, positions + 1]).all()
        ends = positions[token[row, positions] == EOS]
        assert ends.tolist() == [length - 2], f"EOS is taught at {ends}, expected {length - 2}"


def check_uniform_logits_cost_ln_v(loss):
    for smoothing in (0.0, SMOOTHING):
        objective, reported, _, _ = loss(
            np.zeros((B, L - 1, V)), batch(), label_smoothing=smoothing, train=True
        )
        np.testing.assert_allclose([objective, reported], np.log(V), rtol=1e-5)


def check_label_smoothing_closed_form(loss):
    """(1 - e) nll + e mean over v of -log p in training; plain in the report and in evaluation."""
    target, x = batch()["target"], logits()
    mask = np.arange(L - 1) < np.array(LENGTHS)[:, None] - 1
    log_p = log_softmax(x)
    nll = -np.take_along_axis(log_p, target[:, 1:, None], -1)[..., 0][mask].mean()
    uniform = -log_p.mean(-1)[mask].mean()
    objective, reported, _, _ = loss(x, batch(), label_smoothing=SMOOTHING, train=True)
    np.testing.assert_allclose(objective, (1 - SMOOTHING) * nll + SMOOTHING * uniform, rtol=1e-5)
    np.testing.assert_allclose(reported, nll, rtol=1e-5)
    objective, _, _, _ = loss(x, batch(), label_smoothing=SMOOTHING, train=False)
    np.testing.assert_allclose(objective, nll, rtol=1e-5)


def check_rows_add_by_their_tokens(loss):
    """The loss and gradient of a batch are the token-weighted means of those of its rows."""
    x = logits()
    whole, _, count, gradient = loss(x, batch())
    parts = [loss(x, batch(valid=np.arange(B) == row)) for row in range(B)]
    counts = [part[2] for part in parts]
    assert sum(counts) == count
    np.testing.assert_allclose(
        whole, sum(part[0] * n for part, n in zip(parts, counts)) / count, rtol=1e-5
    )
    np.testing.assert_allclose(
        gradient, sum(part[3] * n for part, n in zip(parts, counts)) / count, rtol=1e-5, atol=1e-8
    )


def check_what_is_not_counted_does_not_matter(loss):
    """Logits under padding and everything in rows that are not valid: no effect, no gradient."""
    valid = np.array([True, True, False, True])
    data, x = batch(valid=valid), logits()
    before = loss(x, data)
    counted = (np.arange(L - 1) < np.array(LENGTHS)[:, None] - 1) & valid[:, None]
    other_data = {**data, "target": np.where(valid[:, None], data["target"], batch(7)["target"])}
    after = loss(np.where(counted[..., None], x, logits(5)), other_data)
    assert before[:3] == after[:3]
    np.testing.assert_array_equal(before[3], after[3])
    assert (before[3][~counted] == 0).all()


CHECKS = (
    check_closed_form,
    check_target_multiset,
    check_target_position,
    check_uniform_logits_cost_ln_v,
    check_label_smoothing_closed_form,
    check_rows_add_by_their_tokens,
    check_what_is_not_counted_does_not_matter,
)
