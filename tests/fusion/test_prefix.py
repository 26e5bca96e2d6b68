import numpy as np
import pytest

from tests.fusion.by_hand import IMAGE, TEXT, variables_of
from vlm_jax.fusion.prefix import Prefix


def test_an_image_as_wide_as_the_text_may_stay_as_it_is():
    image = TEXT.replace(values=TEXT.values + 1)
    found = Prefix(project=False).apply({}, image, TEXT, train=False)
    np.testing.assert_array_equal(found.values[1, 1:4], image.values[1, 1:4])
    np.testing.assert_array_equal(found.values[1, 5:], TEXT.values[1, 1:])


def test_widths_that_differ_are_refused_by_number():
    with pytest.raises(ValueError, match="3 features and text of 4.*project=True"):
        variables_of(Prefix(project=False), IMAGE)
