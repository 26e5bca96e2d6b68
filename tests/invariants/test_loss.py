"""C1 of the loss alone: shift, mask, divisor, smoothing."""

import numpy as np
import pytest

from tests.invariants import loss_checks
from vlm_jax.types import BOS, EOS, PAD, UNK


@pytest.fixture(scope="module")
def loss():
    return loss_checks.Loss()


@pytest.mark.parametrize("check", loss_checks.CHECKS, ids=lambda check: check.__name__)
def test_loss(check, loss):
    check(loss)


def test_the_special_tokens_differ():
    assert len({PAD, BOS, EOS, UNK}) == 4


def test_smoothing_of_zero_is_no_smoothing(loss):
    x, batch = loss_checks.logits(), loss_checks.batch()
    off = loss(x, batch, train=True)
    absent = loss(x, batch, train=False)
    assert off[:3] == absent[:3]
    np.testing.assert_array_equal(off[3], absent[3])


def test_a_batch_of_nothing_is_zero_and_finite(loss):
    objective, _, count, gradient = loss(
        loss_checks.logits(), loss_checks.batch(valid=(False,) * loss_checks.B)
    )
    assert objective == 0 and count == 0 and (gradient == 0).all()
