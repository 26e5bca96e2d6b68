"""A codebook belongs to the global batch: uses, sums and new beginnings are the same on one device and on eight."""

import numpy as np
import pytest

from tests.fake_devices import printed_by


@pytest.fixture(scope="module")
def found():
    return printed_by("tests.train.codebook_main")


@pytest.mark.parametrize("layout", ["data 8", "pmap 8"])
def test_eight_devices_have_the_codebook_of_one(found, layout):
    one, eight = found["data 1"], found[layout]
    assert one["updates"] == eight["updates"] == 6
    np.testing.assert_allclose(eight["uses"], one["uses"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(eight["vectors"], one["vectors"], rtol=1e-4, atol=1e-5)


def test_codes_begin_anew_on_the_way(found):
    assert 1.0 in found["data 1"]["uses"]


def test_a_resumed_run_has_the_same_codebook_bit_by_bit(found):
    assert all(each["resumed is bit-equal"] for each in found.values())
