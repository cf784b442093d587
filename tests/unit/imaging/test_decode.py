import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.images import encoded, photograph

from dpiqa.errors import ImageRejected
from dpiqa.imaging.decode import Limits, decode
from dpiqa.imaging.formats import sniff
from dpiqa.types import Reason

LIMITS = Limits()
PHOTO = photograph()
SAMPLES = {
    "jpeg": encoded(PHOTO, "JPEG", quality=95),
    "progressive": encoded(PHOTO, "JPEG", quality=95, progressive=True),
    "png": encoded(PHOTO, "PNG"),
    "webp": encoded(PHOTO, "WEBP", quality=95),
    "lossless": encoded(PHOTO, "WEBP", lossless=True),
    "gif": encoded(PHOTO.quantize(), "GIF"),
    "tiff": encoded(PHOTO, "TIFF"),
    "lzw": encoded(PHOTO, "TIFF", compression="tiff_lzw"),
    "jpeg-in-tiff": encoded(PHOTO, "TIFF", compression="jpeg"),
    "bigtiff": encoded(PHOTO, "TIFF", big_tiff=True),
    "bmp": encoded(PHOTO, "BMP"),
    "avif": encoded(PHOTO, "AVIF", quality=95),
}


def rejected(data, limits=LIMITS):
    with pytest.raises(ImageRejected) as caught:
        decode(data, limits)
    return caught.value.reason


@pytest.mark.parametrize("name", SAMPLES)
def test_every_allowed_format_gives_the_picture(name):
    image = decode(SAMPLES[name], LIMITS)
    assert (image.mode, image.size) == ("RGB", PHOTO.size)
    difference = np.asarray(image, dtype=float) - np.asarray(PHOTO, dtype=float)
    assert np.abs(difference).mean() < 10


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_cut_anywhere_is_truncated(name):
    data = SAMPLES[name]
    reasons = {rejected(data[: len(data) * percent // 100]) for percent in range(3, 100, 3)}
    assert reasons == {Reason.TRUNCATED}


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "gif", "lzw", "bmp", "avif"])
def test_a_complete_file_that_cannot_be_decoded_is_corrupt(name):
    data = bytearray(SAMPLES[name])
    damage = {"jpeg": (2, 60), "png": (41, 80), "webp": (12, 40), "gif": (6, 13)}
    start, end = damage.get(name, (26, 40))
    if name == "lzw":
        data[len(data) // 2 : len(data) * 3 // 4] = b"\xff" * (len(data) * 3 // 4 - len(data) // 2)
    elif name == "avif":
        at = data.find(b"av01") + 4
        data[at : at + 40] = b"\xff" * 40
    elif name == "gif":
        data[10] = 0
        data[13:] = b"\xff" * (len(data) - 14) + b"\x3b"
    elif name == "bmp":
        data[18:26] = bytes(8)  # no width and no height
    else:
        data[start:end] = b"\xff" * (end - start)
    if name == "jpeg":
        data[20:-2] = b"\x00" * (len(data) - 22)
    assert rejected(bytes(data)) is Reason.CORRUPT


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"\x00", Reason.NOT_AN_IMAGE),
        (b"hello, this is not a picture", Reason.NOT_AN_IMAGE),
        (b"<!doctype html><html><body><svg/></body></html>", Reason.NOT_AN_IMAGE),
        (b"%PDF-1.7\n", Reason.NOT_AN_IMAGE),
        (b"PK\x03\x04" + bytes(100), Reason.NOT_AN_IMAGE),
        (b"BM is how this text begins, and goes on", Reason.NOT_AN_IMAGE),
        (b"RIFF\x10\x00\x00\x00WAVEfmt ", Reason.NOT_AN_IMAGE),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42", Reason.NOT_AN_IMAGE),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", Reason.TRUNCATED),
        (b"\x00\x00\x00\x18ftypcrx \x00\x00\x00\x01crx isom", Reason.UNSUPPORTED_FORMAT),
        (b"8BPS\x00\x01", Reason.UNSUPPORTED_FORMAT),
        (b"\xff\x0a\xfa\x7f", Reason.CORRUPT),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n", Reason.TRUNCATED),
        (encoded(PHOTO, "PPM"), Reason.UNSUPPORTED_FORMAT),
        (encoded(PHOTO, "ICO"), Reason.UNSUPPORTED_FORMAT),
        (encoded(PHOTO, "EPS"), Reason.UNSUPPORTED_FORMAT),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', Reason.UNSUPPORTED_FORMAT),
        (b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(64), Reason.UNSUPPORTED_FORMAT),
    ],
)
def test_what_is_no_picture_and_what_is_no_supported_one(data, reason):
    assert rejected(data) is reason


def test_a_camera_raw_file_is_not_scored_by_its_thumbnail():
    preview = encoded(PHOTO, "TIFF", tiffinfo={254: 1})
    dng = encoded(PHOTO, "TIFF", tiffinfo={50706: b"\x01\x04\x00\x00"})
    assert rejected(preview) is Reason.UNSUPPORTED_FORMAT
    assert rejected(dng) is Reason.UNSUPPORTED_FORMAT


def png_header(width, height):
    """A PNG that claims a size, with almost no data behind it."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("size", [(10_000, 5_001), (20_000, 10), (60_000, 60_000), (10, 16_385)])
def test_too_many_pixels_are_refused_from_the_header(size):
    assert rejected(png_header(*size)) is Reason.TOO_MANY_PIXELS


def test_limits_are_the_deployments():
    data = SAMPLES["png"]
    assert rejected(data, Limits(max_bytes=len(data) - 1)) is Reason.TOO_MANY_BYTES
    assert rejected(data, Limits(max_pixels=96 * 64 - 1)) is Reason.TOO_MANY_PIXELS
    assert rejected(data, Limits(max_side=95)) is Reason.TOO_MANY_PIXELS
    assert decode(data, Limits(max_bytes=len(data), max_pixels=96 * 64, max_side=96)).size == (96, 64)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright_once(image_format, orientation):
    image = Image.new("RGB", (40, 20), "black")
    image.paste((255, 255, 255), (0, 0, 10, 10))  # white top left corner as stored
    exif = Image.Exif()
    exif[274] = orientation
    options = {"quality": 95} if image_format not in ("PNG", "TIFF") else {}
    pixels = np.asarray(decode(encoded(image, image_format, exif=exif, **options), LIMITS).convert("L"))
    row, column = np.unravel_index(np.argmax(np.asarray(Image.fromarray(pixels).resize((2, 2), 4))), (2, 2))
    corner = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
    assert pixels.shape == ((20, 40) if orientation < 5 else (40, 20))
    assert (row, column) == corner[orientation]


def test_broken_exif_turns_nothing():
    image = decode(encoded(PHOTO, "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff"), LIMITS)
    assert image.size == PHOTO.size


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_frame_of_an_animation_counts(image_format):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green", "blue")]
    data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:])
    red, green, blue = np.asarray(decode(data, LIMITS), dtype=int)[16, 16]
    assert red > 240
    assert max(green, blue) < 15


def test_texts_in_a_png_are_not_read():
    chunk = b"zTXt" + b"comment\x00\x00" + zlib.compress(bytes(200_000_000), 9)
    bomb = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = SAMPLES["png"]
    assert (np.asarray(decode(data[:33] + bomb + data[33:], LIMITS)) == np.asarray(PHOTO)).all()


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=12),
)
def test_damage_ends_in_pixels_or_in_a_reason(name, damage):
    data = bytearray(SAMPLES[name])
    for position, value in damage:
        data[int(position * len(data))] = value
    try:
        image = decode(bytes(data), Limits(max_pixels=1_000_000))
    except ImageRejected:
        return
    assert image.mode == "RGB"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_can_be_sniffed(data):
    assert sniff(data) is None or isinstance(sniff(data), str)
    assert sniff(data) == sniff(bytes(data) + b"x" * 4096) or len(data) < 140


def test_decoding_says_nothing_aloud(capsys, recwarn):
    transparent = PHOTO.quantize()
    transparent.info["transparency"] = bytes(range(256))
    decode(encoded(transparent, "PNG", transparency=bytes(range(256))), LIMITS)
    rejected(SAMPLES["tiff"][:200])
    assert not recwarn.list
    assert capsys.readouterr() == ("", "")


def test_pillow_sees_only_the_sniffed_format(monkeypatch):
    offered = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda file, formats: offered.append(formats) or real(file, formats=formats))
    decode(SAMPLES["png"], LIMITS)
    assert offered == [["PNG"]]
