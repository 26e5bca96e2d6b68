import numpy as np

from tests.fusion.by_hand import IMAGE, TEXT, dense, fused, rows_of, softmax
from vlm_jax.fusion.stacked_attention import StackedAttention
from vlm_jax.layers.pooling import last_pool


def test_two_looks_are_those_that_yang_writes():
    found, sown, params = fused(StackedAttention(attention_width=4, text_pooling=last_pool))
    assert found.values.shape == (2, 1, 5) and found.mask.all()
    first, second = sown["attention"]
    for row, (places, words) in enumerate(zip(rows_of(IMAGE), rows_of(TEXT))):
        v, u = np.tanh(dense(places, params["image"])), words[-1]
        for k, map_of_look in ((1, first), (2, second)):
            h = np.tanh(dense(v, params[f"places_{k}"]) + dense(u, params[f"query_{k}"]))
            p = softmax(dense(h, params[f"scores_{k}"])[:, 0])
            np.testing.assert_allclose(map_of_look[row, : len(p)], p, rtol=1e-5)
            assert not map_of_look[row, len(p) :].any(), "it looked at padding"
            u = p @ v + u
        np.testing.assert_allclose(found.values[row, 0], u, rtol=1e-5)
    assert np.abs(first - second).max() > 0.02, "the second look is the first: this tests nothing"
