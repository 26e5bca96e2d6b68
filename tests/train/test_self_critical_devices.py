"""Captions are judged on the host: the same training on one device and on eight."""

import numpy as np
import pytest

from tests.fake_devices import printed_by


@pytest.fixture(scope="module")
def found():
    return printed_by("tests.train.self_critical_main")


def test_a_mesh_of_eight_devices_trains_as_one(found):
    one, eight = found["data 1"], found["data 8"]
    np.testing.assert_allclose(eight["params"], one["params"], rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(eight["numbers"], one["numbers"]):
        assert ours == pytest.approx(theirs, rel=1e-5)
    assert one["numbers"][0]["grad_norm"] > 0.1


def test_under_pmap_every_picture_is_paid_by_its_own_references(found):
    """Draws differ, as dropout does; the greedy captions of the first step do not."""
    one, many = found["data 1"]["numbers"][0], found["pmap 8"]["numbers"][0]
    assert many["baseline_reward"] == pytest.approx(one["baseline_reward"], rel=1e-6)
    assert many["reward"] != one["reward"] and many["finite"] == 1
