"""Pictures beside what came back from their codes: which is which, and which come first."""

import base64
import io

import numpy as np
from PIL import Image

from tests.report.test_gallery import Reader
from vlm_jax.metrics.picture_quality import Psnr
from vlm_jax.report.round_trips import RoundTrips

# Three pictures of one colour, and how far from it what came back is.
COLOURS, ERRORS = (40, 90, 140), (8, 1, 30)


def example(number):
    picture = np.full((16, 16, 3), COLOURS[number], np.uint8)
    codes = np.array([[3], [3], [5], [number + 7]])
    return {
        "id": number,
        "picture": picture,
        "prediction": picture + np.uint8(ERRORS[number]),
        "codes": codes,
    }


def test_each_picture_has_what_came_back_at_its_right_and_the_closest_come_first(tmp_path):
    report = RoundTrips(metrics=(Psnr(),), per_section=1)
    path = report(tmp_path / "fsq", 70, "test", [example(i) for i in range(3)], {"psnr": 31.25})
    assert path == tmp_path / "fsq" / "round_trips_test.html"
    page = Reader(path.read_text(encoding="utf-8"))
    assert "fsq: test there and back after 70 steps" in page.text and "31.25" in page.text
    assert set(page.captions) == {"3 codes in 4 places"}
    shown = []
    for source in (each for each in page.sources if "base64," in each):
        data = base64.b64decode(source.partition("base64,")[2])
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        assert pixels.shape[1] == 2 * pixels.shape[0]
        left, right = (half.mean() for half in np.split(pixels, 2, axis=1))
        number = int(np.argmin([abs(left - colour) for colour in COLOURS]))
        np.testing.assert_allclose(right - left, ERRORS[number], atol=2)
        shown.append(number)
    assert shown[:2] == [1, 2]  # the best, the worst
