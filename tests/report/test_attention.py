"""Attention maps over pictures: brightness worked out by hand, and weights that are no map."""

import io

import numpy as np
import pytest
from PIL import Image

from vlm_jax.report.attention import DIM, attention_sheet, overlay, printable, read_image

WHITE = np.full((32, 48, 3), 200, np.uint8)


def test_full_attention_leaves_the_picture_and_none_leaves_a_quarter():
    assert DIM == 0.25
    np.testing.assert_array_equal(overlay(WHITE, np.full(4, 0.25)), WHITE)
    np.testing.assert_array_equal(overlay(WHITE, np.zeros((2, 3))), np.full_like(WHITE, 50))


def test_the_bright_part_is_where_the_weight_is_row_major():
    weights = np.zeros(49)
    weights[7 * 1 + 5] = 0.4  # row 1, column 5 of 7 x 7
    image = overlay(np.full((70, 70, 3), 200, np.uint8), weights)
    row, column = np.unravel_index(image[:, :, 0].argmax(), (70, 70))
    assert row // 10 == 1 and column // 10 == 5
    assert image[60:, :30].max() == 50
    np.testing.assert_array_equal(
        image, overlay(np.full((70, 70, 3), 200, np.uint8), weights.reshape(7, 7))
    )


def test_flat_weights_take_the_pictures_proportions():
    weights = np.zeros(6)
    weights[2] = 1  # a 2 x 3 grid on 32 x 48: the upper right cell
    image = overlay(WHITE, weights)
    row, column = np.unravel_index(image[:, :, 0].argmax(), (32, 48))
    assert row < 16 and column >= 32


@pytest.mark.parametrize(
    "weights,reason",
    [
        (np.ones(50) / 50, "50 weights are no grid"),  # 49 positions and a class token
        (np.ones((2, 2, 2)), "expected"),
        (np.array([0.5, np.nan, 0.2, 0.3]), "finite"),
        (np.array([0.5, -0.1, 0.3, 0.3]), "at least 0"),
    ],
)
def test_what_is_no_map_is_refused(weights, reason):
    with pytest.raises(ValueError, match=reason):
        overlay(np.zeros((32, 32, 3), np.uint8), weights)


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match="float32"):
        overlay(WHITE.astype(np.float32), np.ones(4))


def test_a_sheet_has_the_picture_and_a_map_a_word(tmp_path):
    words = ["a", "$dog", "", "\ud83d<eos>", "runs", "far", "away"]
    path = tmp_path / "new" / "sheet.png"
    attention_sheet(WHITE, words, np.random.default_rng(0).random((7, 49)), path)
    with Image.open(path) as sheet:
        assert sheet.format == "PNG" and sheet.width > sheet.height
    with pytest.raises(ValueError, match="2 words but 1 maps"):
        attention_sheet(WHITE, ["a", "dog"], np.ones((1, 4)), path)


def test_pictures_are_read_upright(tmp_path):
    image = np.zeros((4, 6, 3), np.uint8)
    image[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    buffer = io.BytesIO()
    Image.fromarray(image[::-1, ::-1].copy()).save(buffer, "PNG", exif=exif)
    path = tmp_path / "p.png"
    path.write_bytes(buffer.getvalue())
    for given in (image, buffer.getvalue(), path, str(path)):
        np.testing.assert_array_equal(read_image(given), image)
    assert read_image(np.zeros((2, 2, 1), np.uint8)).shape == (2, 2, 3)


def test_texts_are_made_printable():
    assert printable("a\tdog\0\u202e\ud83d", 20) == "a dog\ufffd\ufffd\ufffd"
    assert printable("abcdef", 4) == "abc…"
