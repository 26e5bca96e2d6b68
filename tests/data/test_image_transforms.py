"""Pictures: every row of Decode's table, made here with Pillow, and crops worked out by hand."""

import io
import pickle
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from vlm_jax import config
from vlm_jax.data import image_transforms as it
from vlm_jax.data.image_transforms import BadImage, Decode

RNG = np.random.default_rng(0)


def encoded(picture, format="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def decoded(data, **fields) -> np.ndarray:
    return Decode(**fields)({"id": 7, "image": data}, RNG)["image"]


def gradient(height=48, width=64) -> np.ndarray:
    """uint8 [h w 3], smooth, and different in every corner."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([columns * 255 // width, rows * 255 // height, (rows + columns) % 200], -1).astype(np.uint8)  # fmt: skip


PICTURE = gradient()
SHARP = Image.fromarray(PICTURE)
NOISE = Image.fromarray(RNG.integers(0, 256, (48, 64, 3), np.uint8))


# ---- what is decoded


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_come_back_exactly(format):
    image = decoded(encoded(SHARP, format))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, PICTURE)


@pytest.mark.parametrize("format,options", [("JPEG", {"quality": 95}), ("WEBP", {"quality": 95}), ("MPO", {"quality": 95})])  # fmt: skip
def test_lossy_formats_come_back_nearly(format, options):
    assert np.abs(decoded(encoded(SHARP, format, **options)).astype(int) - PICTURE).mean() < 4


def test_a_path_an_array_and_bytes_give_the_same(tmp_path):
    path = tmp_path / "no_suffix"
    path.write_bytes(encoded(SHARP))
    for image in (path, str(path), PICTURE, np.array(encoded(SHARP), object)):
        np.testing.assert_array_equal(decoded(image), PICTURE)


def test_greyscale_and_bilevel_have_three_equal_channels():
    grey = SHARP.convert("L")
    np.testing.assert_array_equal(decoded(encoded(grey)), np.asarray(grey)[:, :, None].repeat(3, 2))
    bilevel = decoded(encoded(SHARP.convert("1")))
    assert bilevel.shape == (48, 64, 3) and set(np.unique(bilevel)) == {0, 255}


def test_one_channel_on_request():
    image = decoded(encoded(SHARP), channels=1)
    np.testing.assert_array_equal(image[:, :, 0], np.asarray(SHARP.convert("L")))
    with pytest.raises(ValueError, match="channels is 4"):
        Decode(channels=4)


def test_cmyk_becomes_rgb():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for data in (encoded(red, "JPEG", quality=100), encoded(red, "TIFF")):
        image = decoded(data)
        assert image.shape == (16, 16, 3)
        assert np.abs(image.astype(int) - (255, 0, 0)).max() < 6


def test_sixteen_bits_are_scaled_not_clipped():
    values = np.array([[0, 257, 32896], [65535, 128, 129]], np.uint16)
    expected = [[0, 1, 128], [255, 0, 1]]
    for data in (
        encoded(Image.fromarray(values)),
        encoded(Image.fromarray(values), "TIFF"),
        values,
    ):
        np.testing.assert_array_equal(decoded(data)[:, :, 0], expected)
    wide = Image.fromarray(np.array([[0, 65535]], np.int32))
    np.testing.assert_array_equal(decoded(encoded(wide, "TIFF"))[:, :, 0], [[0, 255]])


def test_an_animation_gives_its_first_frame():
    red, blue = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    for format, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        data = encoded(red, format, save_all=True, append_images=[blue], **options)
        assert (decoded(data) == (255, 0, 0)).all(), format


def test_transparency_is_laid_on_white():
    image = np.zeros((2, 2, 4), np.uint8)
    image[0] = (255, 0, 0, 255)
    image[1] = (0, 0, 0, 0)  # black, but not to be seen
    expected = [[[255, 0, 0]] * 2, [[255, 255, 255]] * 2]
    rgba = Image.fromarray(image)
    palette = rgba.convert("RGB").quantize(2)
    hidden = palette.getpixel((0, 1))
    for data in (
        image,
        encoded(rgba),
        encoded(rgba, "WEBP", lossless=True),
        encoded(palette, "PNG", transparency=hidden),
        encoded(palette, "GIF", transparency=hidden),
        encoded(rgba.convert("RGB"), "PNG", transparency=(0, 0, 0)),
    ):
        np.testing.assert_array_equal(decoded(data), expected)
    half = np.full((1, 1, 4), (0, 0, 0, 128), np.uint8)
    assert abs(int(decoded(encoded(Image.fromarray(half)))[0, 0, 0]) - 127) <= 1
    grey = Image.fromarray(np.array([[[0, 0], [9, 255]]], np.uint8), "LA")
    np.testing.assert_array_equal(decoded(encoded(grey))[0, :, 0], [255, 9])


STORED = {  # orientation -> how an upright picture lies in the file
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_the_eight_orientations_give_one_array(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](PICTURE)))
    for format in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decoded(encoded(stored, format, exif=exif)), PICTURE)
    jpeg = decoded(encoded(stored, "JPEG", exif=exif, quality=100, subsampling=0))
    assert np.abs(jpeg.astype(int) - PICTURE).max() <= 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_block_or_profile_is_ignored():
    data = encoded(SHARP, "JPEG", quality=100, subsampling=0)
    for extra in (
        {"exif": b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 40},
        {"icc_profile": b"\xff" * 300},
    ):
        broken = encoded(SHARP, "JPEG", quality=100, subsampling=0, **extra)
        np.testing.assert_array_equal(decoded(broken), decoded(data))


def test_an_icc_profile_is_applied_and_srgb_left_alone():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(decoded(encoded(SHARP, icc_profile=srgb)), PICTURE)
    # the same profile with red and blue primaries exchanged, under another name: red must come out blue
    swapped = srgb.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "oRGB".encode("utf-16-be")).replace(
        b"sRGB", b"oRGB"
    )
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    image = decoded(encoded(red, icc_profile=swapped))
    assert np.abs(image.astype(int) - (0, 0, 255)).max() <= 2


def test_extreme_shapes_are_decoded():
    for size in ((1, 1), (1, 10_000), (10_000, 1)):
        for format in ("PNG", "JPEG"):
            data = encoded(Image.new("RGB", size, "red"), format)
            for at_least in (None, 1, 224):
                assert decoded(data, at_least=at_least).shape == (size[1], size[0], 3)


def test_float_pictures_in_the_unit_range_are_scaled():
    values = np.array([[0.0, 0.5, 1.0]], np.float32)
    for data in (values, encoded(Image.fromarray(values), "TIFF")):
        np.testing.assert_array_equal(decoded(data)[0, :, 0], [0, 128, 255])


# ---- what is refused


def png(width, height, bits=8, colour=2, data=b"") -> bytes:
    """A PNG file from its parts, as no encoder would write it."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


BAD = {
    "empty": (b"", "0 bytes"),
    "html": (b"<!DOCTYPE html><title>404</title>" * 9, "begins with b'<!DOCTYPE html>"),
    "truncated jpeg": (encoded(NOISE, "JPEG")[:-900], "truncated"),
    "truncated png": (encoded(NOISE)[:-900], "cannot be decoded"),
    "jpeg without a body": (b"\xff\xd8\xff\xe0", "jpeg|JPEG"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture of a known format"),
    "bomb": (png(10_000, 10_000, 1, 0, zlib.compress(b"\0" * 1251 * 10_000)), "10000 x 10000.*20000000"),
    "larger bomb": (png(60_000, 60_000), "larger than max_pixels|60000"),
    "no data": (png(4, 4), "cannot be decoded"),
    "nan": (encoded(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF"), "nan to nan"),
    "infinite": (np.array([[0, np.inf]], np.float32), "inf"),
    "deep integers": (encoded(Image.fromarray(np.array([[70_000]], np.int32)), "TIFF"), "70000"),
    "no such file": ("/nowhere/dog.jpg", "No such file"),
    "five channels": (np.zeros((4, 4, 5), np.uint8), r"shape \(4, 4, 5\)"),
    "no pixels": (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
    "none": (None, "NoneType"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_refused_by_name_with_the_reason(name):
    data, reason = BAD[name]
    with pytest.raises(BadImage, match=f"(?s)dog.jpg: .*({reason})") as error:
        Decode()({"id": 3, "image": data, "image_name": "dog.jpg"}, RNG)
    assert error.value.name == "dog.jpg"
    again = pickle.loads(pickle.dumps(error.value))
    assert (again.name, again.reason) == (error.value.name, error.value.reason)


def test_a_picture_without_a_file_name_is_named_by_its_id():
    with pytest.raises(BadImage, match="^id 3: is empty"):
        Decode()({"id": np.int64(3), "image": b""}, RNG)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_damage_crashes():
    """Every refusal is a BadImage, wherever the damage is."""
    random = np.random.default_rng(1)
    for format in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"):
        good = encoded(SHARP, format)
        for _ in range(60):
            data = bytearray(good)
            for place in random.integers(0, len(data), 8):
                data[place] = random.integers(256)
            try:
                assert decoded(bytes(data[: random.integers(1, len(data))])).ndim == 3
            except BadImage:
                pass


PEAK = """
import io, resource, sys
from PIL import Image
from vlm_jax.data.image_transforms import BadImage, Decode
files = [open(name, "rb").read() for name in sys.argv[1:]]
buffer = io.BytesIO(); Image.new("RGB", (8, 8)).save(buffer, "JPEG"); Decode().decode(buffer.getvalue())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for file in files:
    try:
        print(Decode().decode(file).shape)
    except BadImage as error:
        print("refused")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_pictures_of_100_megapixels_need_less_than_300_megabytes(tmp_path):
    """The peak of a fresh process, over a PNG, a progressive JPEG and a plain one, which is decoded at quarter scale."""
    grey = Image.new("L", (10_000, 10_000), 99)
    files = [str(tmp_path / name) for name in ("png", "progressive", "plain")]
    Image.new("1", grey.size).save(files[0], "PNG")
    grey.save(files[1], "JPEG", progressive=True)
    grey.save(files[2], "JPEG")
    command = [sys.executable, "-W", "ignore", "-c", PEAK, *files]
    done = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    *outcomes, megabytes = done.stdout.splitlines()
    assert outcomes == ["refused", "refused", "(2500, 2500, 3)"]
    assert int(megabytes) < 300


def test_a_jpeg_is_decoded_small_when_a_small_one_is_wanted():
    data = encoded(Image.fromarray(gradient(480, 640)), "JPEG", quality=95)
    for at_least, shape in ((None, (480, 640)), (300, (480, 640)), (240, (240, 320)), (224, (240, 320)), (100, (120, 160)), (8, (60, 80))):  # fmt: skip
        image = decoded(data, at_least=at_least)
        assert image.shape == (*shape, 3)
    resize = it.Resize(size=112)
    small, full = (resize({"image": decoded(data, at_least=n)})["image"] for n in (112, None))
    assert np.abs(small.astype(int) - full).mean() < 2


# ---- sizes


def test_resizing_averages_whole_blocks():
    image = (
        np.array([[0, 100], [200, 40]], np.uint8).repeat(8, 0).repeat(8, 1)[:, :, None].repeat(3, 2)
    )
    for method in ("bilinear", "bicubic"):
        same = it.Resize(size=16, method=method)({"image": image})["image"]
        np.testing.assert_array_equal(same, image)
        constant = np.full((9, 5, 3), 77, np.uint8)
        shrunk = it.Resize(size=(4, 3), method=method)({"image": constant})["image"]
        np.testing.assert_array_equal(shrunk, np.full((4, 3, 3), 77))
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[:, :, None]
    antialiased = it.Resize(size=8)({"image": checks})["image"]
    assert (
        np.abs(antialiased.astype(int) - 127).max() <= 8
    )  # taking every eighth pixel would give 0 or 255
    with pytest.raises(ValueError, match="'spline'.*bicubic"):
        it.Resize(size=8, method="spline")({"image": image})


def test_the_shorter_side_is_resized_and_proportions_kept():
    for shape, expected in (
        ((48, 64, 3), (24, 32, 3)),
        ((64, 48, 3), (32, 24, 3)),
        ((7, 7, 1), (24, 24, 1)),
    ):
        image = np.zeros(shape, np.uint8)
        assert it.ResizeShorter(size=24)({"image": image})["image"].shape == expected


def test_a_needle_does_not_grow_into_gigabytes():
    image = np.zeros((1, 10_000, 3), np.uint8)
    assert it.ResizeShorter(size=256)({"image": image})["image"].shape == (256, 4096, 3)


def test_the_centre_is_the_centre():
    image = np.arange(25, dtype=np.uint8).reshape(5, 5, 1)
    cropped = it.CentreCrop(size=(1, 3))({"image": image})["image"]
    assert cropped[:, :, 0].tolist() == [[11, 12, 13]]
    with pytest.raises(
        ValueError, match="id 4 is 5 x 5, smaller than the crop 6 x 6.*ResizeShorter"
    ):
        it.CentreCrop(size=6)({"id": 4, "image": image})


def test_random_crops_reach_every_place_and_pad_with_zeros():
    image = np.arange(1, 5, dtype=np.uint8).reshape(2, 2, 1)
    crop = it.RandomCrop(size=2, padding=1)
    seen = {crop({"image": image}, np.random.default_rng(i))["image"].tobytes() for i in range(200)}
    assert len(seen) == 9
    assert (
        bytes([0, 0, 0, 1]) in seen and bytes([1, 2, 3, 4]) in seen and bytes([4, 0, 0, 0]) in seen
    )


@pytest.mark.parametrize("shape", [(40, 60), (1, 500), (500, 1), (1, 1), (3, 2)])
def test_random_resized_crops_lie_within_the_picture_and_the_limits(shape):
    crop = it.RandomResizedCrop(size=8)
    for seed in range(100):
        left, top, right, bottom = crop._box(*shape, np.random.default_rng(seed))
        assert 0 <= left < right <= shape[1] and 0 <= top < bottom <= shape[0]
        if shape == (40, 60):
            assert 0.07 <= (right - left) * (bottom - top) / 2400 <= 1
            assert 0.7 <= (right - left) / (bottom - top) <= 1.43
    image = np.full((*shape, 3), 9, np.uint8)
    assert (crop({"image": image}, RNG)["image"] == np.full((8, 8, 3), 9)).all()


def test_what_is_drawn_depends_on_the_generator_only():
    transforms = (it.RandomResizedCrop(size=8), it.RandomCrop(size=40), it.HorizontalFlip())
    for transform in transforms:
        images = [
            transform({"image": PICTURE}, np.random.default_rng(s))["image"]
            for s in (3, 3, 4, 5, 6)
        ]
        np.testing.assert_array_equal(images[0], images[1])
        assert any(not np.array_equal(images[0], image) for image in images[2:])


# ---- mirroring


def mirrored(transform=None, **texts) -> bool:
    transform = transform or it.HorizontalFlip(rate=1.0)
    result = transform({"image": PICTURE, **texts}, RNG)["image"]
    assert np.array_equal(result, PICTURE[:, ::-1]) != np.array_equal(result, PICTURE)
    return np.array_equal(result, PICTURE[:, ::-1])


def test_a_picture_is_not_mirrored_under_a_caption_with_left_or_right():
    assert (
        mirrored() and mirrored(caption="a bright upright dog") and mirrored(image_name="left.jpg")
    )
    for caption in ("a dog on the LEFT", "right-handed", "its leftmost leg"):
        assert not mirrored(caption=caption)
        assert not mirrored(captions=("a dog", caption))
        assert not mirrored(question=caption, caption="a dog")
        assert mirrored(it.HorizontalFlip(rate=1.0, even_with_left_right=True), caption=caption)
    assert mirrored(
        caption="a dog", captions=("on the left", "a dog")
    )  # only the chosen one counts


def test_the_rate_of_mirroring():
    assert not mirrored(it.HorizontalFlip(rate=0.0))
    flips = [mirrored(it.HorizontalFlip(rate=0.25)) for _ in range(400)]
    assert 60 < sum(flips) < 140  # 100 expected, sd 8.7
    with pytest.raises(ValueError, match="rate is 2"):
        it.HorizontalFlip(rate=2)


# ---- values


def test_values_are_scaled_and_normalised():
    image = np.array([[[0, 51, 255]]], np.uint8)
    unit = it.ToFloat()({"image": image})["image"]
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit[0, 0], [0, 0.2, 1], rtol=1e-6)
    normalise = it.Normalise(mean=(0.5, 0.2, 0.0), std=(0.5, 1.0, 2.0))
    for given in (image, unit):
        result = normalise({"image": given})["image"]
        assert result.dtype == np.float32
        np.testing.assert_allclose(result[0, 0], [-1, 0, 0.5], atol=1e-6)
    single = it.Normalise(mean=(0.5,), std=(0.5,))({"image": image})["image"]
    np.testing.assert_allclose(single[0, 0], [-1, -0.6, 1], atol=1e-6)
    default = it.Normalise()({"image": image})["image"][0, 0]
    np.testing.assert_allclose(default, [-2.1179, (0.2 - 0.456) / 0.224, 2.64], atol=1e-4)


def test_transforms_in_the_wrong_order_are_refused_with_advice():
    with pytest.raises(TypeError, match="put Decode"):
        it.CentreCrop(size=2)({"image": encoded(SHARP)})
    with pytest.raises(TypeError, match="float32, expected uint8; put resizing before"):
        it.Resize(size=2)(it.ToFloat()({"image": PICTURE}))
    with pytest.raises(TypeError, match="int64"):
        it.ToFloat()({"image": PICTURE.astype(np.int64)})
    with pytest.raises(ValueError, match="1 channels, mean has 3"):
        it.Normalise()({"id": 1, "image": PICTURE[:, :, :1]})
    with pytest.raises(ValueError, match="stds above 0"):
        it.Normalise(mean=(0.0,), std=(0.0,))


def test_every_transform_is_a_description_that_leaves_its_input_alone():
    transforms = (
        Decode(at_least=8), it.Resize(size=8), it.ResizeShorter(size=8), it.CentreCrop(size=8), it.ToFloat(),
        it.RandomResizedCrop(size=8), it.RandomCrop(size=8), it.HorizontalFlip(rate=1.0), it.Normalise(),
    )  # fmt: skip
    example = {"id": 1, "image": PICTURE.copy(), "caption": "a dog"}
    for transform in transforms:
        assert config.from_json(config.to_json(transform)) == transform
        result = transform(example, RNG)
        assert set(result) == set(example)
        np.testing.assert_array_equal(example["image"], PICTURE)
