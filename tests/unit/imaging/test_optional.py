"""HEIC, JPEG XL and JPEG 2000: the picture that other encoders wrote, or a true reason.

The files in `tests/golden/formats` are `photograph()` as libheif 1.23 (x265) and cjxl 0.7 encode it.
"""

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.images import encoded, photograph

from dpiqa.errors import ImageRejected
from dpiqa.imaging import optional
from dpiqa.imaging.decode import Limits, decode
from dpiqa.imaging.jxl_header import read_header
from dpiqa.types import Reason

FILES = Path(__file__).parents[2] / "golden" / "formats"
PHOTO = photograph()
ALPHA = np.tile(np.linspace(0, 255, PHOTO.width).round().astype(np.uint8), (PHOTO.height, 1))


def read(name):
    return (FILES / name).read_bytes()


def rejected(data, limits=None):
    with pytest.raises(ImageRejected) as caught:
        decode(data, limits or Limits())
    return caught.value


def difference(data, expected):
    """Mean difference of the decoded samples from the expected ones, of 255."""
    image = decode(data, Limits())
    expected = np.asarray(expected, dtype=float)
    assert (image.mode, image.size) == ("RGB", (expected.shape[1], expected.shape[0]))
    return np.abs(np.asarray(image, dtype=float) - expected).mean()


def over_grey(picture):
    alpha = ALPHA[..., None] / 255
    return np.asarray(picture, dtype=float) * alpha + 128 * (1 - alpha)


def from_linear(picture):
    light = np.asarray(picture, dtype=float) / 255
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255


def from_display_p3(picture):
    png = Image.open(io.BytesIO(read("display-p3.png")))
    assert np.array_equal(np.asarray(png), np.asarray(picture))
    return decode(read("display-p3.png"), Limits())


GREY = PHOTO.convert("L").convert("RGB")
TURNED = PHOTO.transpose(Image.Transpose.ROTATE_270)


@pytest.mark.parametrize(
    ("name", "expected", "tolerance"),
    [
        ("rgb.heic", PHOTO, 1.5),
        ("rgb10.heic", PHOTO, 1.5),
        ("narrow-range.heic", PHOTO, 1.5),
        ("thumbnail.heic", PHOTO, 1.5),
        ("subsampled.heic", PHOTO, 7),
        ("second.heic", PHOTO, 7),  # the primary picture is the second of the file
        ("grey.heic", GREY, 1),
        ("alpha.heic", over_grey(PHOTO), 1),
        ("premultiplied.heic", over_grey(PHOTO), 1.5),
        ("turned6.heic", TURNED, 3),
        ("turned5.heic", PHOTO.transpose(Image.Transpose.TRANSPOSE), 3),
        ("display-p3.heic", from_display_p3(PHOTO), 1.5),
        ("rgb.jxl", PHOTO, 3),
        ("boxes.jxl", PHOTO, 3),
        ("rgb16.jxl", PHOTO, 3),
        ("grey.jxl", GREY, 0),
        ("grey16.jxl", GREY, 0),
        ("alpha.jxl", over_grey(PHOTO), 2),
        ("grey-alpha16.jxl", over_grey(GREY), 1),
        ("turned.jxl", TURNED, 4),
        ("recompressed.jxl", TURNED, 3),
        ("display-p3.jxl", from_display_p3(PHOTO), 3),
        ("linear.jxl", from_linear(PHOTO), 2),
    ],
)
def test_the_picture_is_the_one_that_was_encoded(name, expected, tolerance):
    assert difference(read(name), expected) <= tolerance


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("animated.jxl", Reason.UNSUPPORTED_FORMAT, "animation"),
        ("pq.jxl", Reason.UNSUPPORTED_COLOUR, "PQ"),
        ("hlg.jxl", Reason.UNSUPPORTED_COLOUR, "HLG"),
    ],
)
def test_what_would_be_shown_wrong_is_rejected_with_what_it_is(name, reason, words):
    rejection = rejected(read(name))
    assert rejection.reason is reason
    assert words in rejection.message


def heic_in(primaries, transfer):
    data = read("rgb.heic")
    assert data.count(b"nclx\x00\x01\x00\x0d") == 1
    return data.replace(b"nclx\x00\x01\x00\x0d", b"nclx" + struct.pack(">HH", primaries, transfer))


@pytest.mark.parametrize("transfer", [16, 18])
def test_heic_in_high_dynamic_range_is_rejected(transfer):
    assert rejected(heic_in(9, transfer)).reason is Reason.UNSUPPORTED_COLOUR


def test_heic_in_other_colours_than_srgb_is_converted():
    assert difference(heic_in(1, 8), from_linear(PHOTO)) <= 1.5
    assert difference(heic_in(12, 13), from_display_p3(PHOTO)) <= 2  # 12 where it is not converted
    assert difference(heic_in(1, 1), PHOTO) <= 1.5  # as browsers show stills of BT.709


@pytest.mark.parametrize("name", ["rgb.heic", "alpha.heic", "turned6.heic", "second.heic", "boxes.jxl"])
def test_a_file_in_boxes_that_is_cut_anywhere_is_truncated(name):
    data = read(name)
    reasons = {rejected(data[: len(data) * percent // 100]).reason for percent in range(3, 100, 3)}
    assert reasons == {Reason.TRUNCATED}


@pytest.mark.parametrize("name", ["rgb.jxl", "alpha.jxl", "grey16.jxl"])
def test_no_part_of_a_codestream_is_taken_for_the_picture(name):
    data = read(name)
    reasons = {rejected(data[:size]).reason for size in range(3, len(data), 97)}
    assert reasons <= {Reason.CORRUPT, Reason.TRUNCATED, Reason.NOT_AN_IMAGE}  # less than a signature


@pytest.mark.parametrize("name", ["rgb.heic", "rgb.jxl"])
def test_a_damaged_header_is_not_the_wrong_size(name):
    data = bytearray(read(name))
    data[2:40] = b"\xff" * 38
    assert rejected(bytes(data)).reason in {Reason.NOT_AN_IMAGE, Reason.CORRUPT, Reason.TOO_MANY_PIXELS}


def test_a_film_after_the_last_box_does_not_matter():
    assert difference(read("rgb.heic") + b"\x00\x01MotionPhoto_Data" + bytes(500), PHOTO) <= 1.5


@pytest.mark.parametrize("name", ["rgb.heic", "rgb.jxl", "boxes.jxl", "turned6.heic"])
def test_sizes_come_from_headers(name):
    data = read(name)
    rejection = rejected(data, Limits(max_pixels=96 * 64 - 1))
    assert rejection.reason is Reason.TOO_MANY_PIXELS
    assert "96" in rejection.message
    assert rejected(data, Limits(max_side=95)).reason is Reason.TOO_MANY_PIXELS
    decode(data, Limits(max_pixels=96 * 64, max_side=96))


def test_a_size_in_a_jpeg_xl_header_is_believed_before_anything_is_decoded():
    bits = 0b0 | (0b11 << 1) | (99_999 << 3) | (0b000 << 33) | (0b11 << 36) | (99_999 << 38)
    huge = b"\xff\x0a" + bits.to_bytes(16, "little")
    header = read_header(huge)
    assert (header.width, header.height) == (100_000, 100_000)
    assert rejected(huge).reason is Reason.TOO_MANY_PIXELS


@pytest.mark.parametrize("ratio", range(1, 8))
def test_ratios_in_a_jpeg_xl_header(ratio):
    bits = 0b0 | (0b01 << 1) | (899 << 3) | (ratio << 16) | (1 << 19)
    header = read_header(b"\xff\x0a" + bits.to_bytes(8, "little"))
    widths = {1: 900, 2: 1080, 3: 1200, 4: 1350, 5: 1600, 6: 1125, 7: 1800}
    assert (header.width, header.height) == (widths[ratio], 900)


def test_a_sequence_without_a_picture_is_not_called_damaged():
    sequence = b"\x00\x00\x00\x14ftyphevc\x00\x00\x00\x00msf1" + b"\x00\x00\x00\x08moov"
    assert rejected(sequence).reason is Reason.UNSUPPORTED_FORMAT


def jp2(picture, **options):
    return encoded(picture, "JPEG2000", **options)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (PHOTO, PHOTO),
        (PHOTO.convert("L"), GREY),
        (Image.merge("RGBA", (*PHOTO.split(), Image.fromarray(ALPHA))), over_grey(PHOTO)),
        (Image.merge("LA", (PHOTO.convert("L"), Image.fromarray(ALPHA))), over_grey(GREY)),
        (Image.fromarray(np.asarray(PHOTO.convert("L"), dtype=np.uint16) * 257), GREY),
    ],
)
def test_jpeg_2000_gives_the_picture(picture, expected):
    assert difference(jp2(picture), expected) <= 0.5
    if picture.mode in ("RGB", "L", "I;16"):
        assert difference(jp2(picture, no_jp2=True), expected) <= 0.5
    if picture.mode in ("RGB", "L"):  # Pillow writes tiles of I;16 wrong
        assert difference(jp2(picture, tile_size=(40, 40)), expected) <= 0.5


def test_jpeg_2000_obeys_its_icc_profile():
    profile = Image.open(FILES / "display-p3.png").info["icc_profile"]
    data = jp2(PHOTO)
    at = data.index(b"colr") - 4
    box = struct.pack(">I4sBBB", 11 + len(profile), b"colr", 2, 0, 0) + profile
    old = int.from_bytes(data[at : at + 4], "big")
    header = data.index(b"jp2h") - 4
    longer = struct.pack(">I", int.from_bytes(data[header : header + 4], "big") + len(box) - old)
    data = data[:header] + longer + data[header + 4 : at] + box + data[at + old :]
    assert difference(data, from_display_p3(PHOTO)) <= 1


@pytest.mark.parametrize("options", [{}, {"no_jp2": True}, {"tile_size": (40, 40)}])
def test_no_part_of_jpeg_2000_is_taken_for_the_picture(options):
    data = jp2(PHOTO, **options)
    reasons = {rejected(data[: len(data) * percent // 100]).reason for percent in range(6, 100, 2)}
    assert reasons <= {Reason.TRUNCATED, Reason.CORRUPT}
    assert rejected(data[: len(data) // 2]).reason is Reason.TRUNCATED


def patched(data, marker, offset, value):
    at = data.index(marker) + len(marker) + offset
    return data[:at] + value + data[at + len(value) :]


@pytest.mark.parametrize(
    ("data", "reason", "words"),
    [
        (patched(jp2(PHOTO), b"colr", 3, struct.pack(">I", 14)), Reason.UNSUPPORTED_COLOUR, "14"),
        (patched(jp2(PHOTO), b"colr", 3, struct.pack(">I", 17)), Reason.UNSUPPORTED_FORMAT, "meaning"),
        (patched(jp2(PHOTO), b"\xff\x51", 38, b"\x0f"), Reason.UNSUPPORTED_FORMAT, "bits"),
        (patched(jp2(PHOTO), b"\xff\x51", 39, b"\x02\x02"), Reason.UNSUPPORTED_FORMAT, "subsampled"),
        (patched(jp2(PHOTO), b"\xff\x51", 4, struct.pack(">I", 60_000)), Reason.TOO_MANY_PIXELS, "60000"),
        (jp2(PHOTO.convert("RGBA"), no_jp2=True), Reason.UNSUPPORTED_FORMAT, "4 components"),
    ],
)
def test_jpeg_2000_of_kinds_that_were_not_proved(data, reason, words):
    rejection = rejected(data)
    assert rejection.reason is reason
    assert words in rejection.message


def test_sixteen_bits_per_colour_are_rejected_because_pillow_turns_white_into_black():
    data = patched(jp2(PHOTO), b"\xff\x51", 38, b"\x0f\x01\x01\x0f\x01\x01\x0f")
    assert "16 bits" in rejected(data).message


@pytest.fixture
def without_extra(monkeypatch):
    optional.is_installed.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    yield
    optional.is_installed.cache_clear()


@pytest.mark.parametrize("name", ["rgb.heic", "rgb.jxl"])
def test_without_the_extra_the_rejection_names_it(without_extra, name):
    rejection = rejected(read(name))
    assert rejection.reason is Reason.DECODER_MISSING
    assert "pip install 'dpiqa[formats]'" in rejection.message


def test_decoders_are_imported_before_a_decode_process_is_confined():
    program = (
        "import sys; from dpiqa.imaging.optional import load_installed; load_installed();"
        " print('pi_heif' in sys.modules, 'pillow_jxl' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["True", "True"]
