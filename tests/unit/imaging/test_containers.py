"""The parts of a file that count besides its samples: orientation, canvas, frames, unset transparency, texts."""

import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.images import encoded, photograph
from support.raw_files import bmp_file, bmp_rows, png_chunk, png_file, tiff_file

from dpiqa.errors import ImageRejected
from dpiqa.imaging.decode import Limits, decode
from dpiqa.imaging.headers import exif_orientation

PHOTO = photograph(48, 32)
RGB = np.asarray(PHOTO)
GREY = RGB[..., 1]
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def shown(data):
    return np.asarray(decode(data, Limits()), dtype=float)


def exif(value, order="<", kind=3, count=1):
    field = struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIHHHI", 42, 8, 1, 274, kind, count)
    return head + field + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_orientation_as_browsers_read_it(order):
    assert [exif_orientation(exif(value, order)) for value in range(10)] == [1, 1, 2, 3, 4, 5, 6, 7, 8, 1]
    assert exif_orientation(b"Exif\0\0" + exif(6, order)) == 6
    assert exif_orientation(exif(6, order, kind=4)) == 1
    assert exif_orientation(exif(6, order, count=2)) == 1


@given(st.binary(max_size=80))
def test_any_bytes_have_an_orientation(data):
    assert 1 <= exif_orientation(data) <= 8
    assert 1 <= exif_orientation(b"II*\0" + data) <= 8


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "AVIF", "TIFF"])
def test_an_orientation_in_xmp_does_not_count(image_format):
    options = {"tiffinfo": {700: XMP}} if image_format == "TIFF" else {"xmp": XMP}
    assert shown(encoded(PHOTO, image_format, **options)).shape == RGB.shape


def test_of_a_png_the_chunk_exif_before_the_picture_counts():
    turned = np.rot90(RGB, -1)
    assert (shown(png_file(RGB, colour_type=2, before=[(b"eXIf", exif(6))])) == turned).all()
    hexadecimal = (b"Exif\0\0" + exif(6)).hex().encode()
    text = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n%8d\n%s\n" % (len(hexadecimal) // 2, hexadecimal))
    for chunk in [(b"zTXt", text), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP), (b"eXIf", b"Exif\0\0" + exif(6))]:
        assert (shown(png_file(RGB, colour_type=2, before=[chunk])) == RGB).all()
    data = png_file(RGB, colour_type=2)
    assert (shown(data[:-12] + png_chunk(b"eXIf", exif(6)) + data[-12:]) == RGB).all()


def test_a_png_is_not_rejected_for_its_texts_and_profiles():
    long_text = b"comment\0" + b"x" * 3_000_000
    xmp = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP + b" " * 70_000_000)
    for chunk in [
        (b"tEXt", long_text),
        (b"iTXt", xmp),
        (b"zTXt", b"c\0\0broken"),
        (b"iCCP", b"broken"),
        (b"pHYs", b"x"),
    ]:
        assert (shown(png_file(RGB, colour_type=2, before=[chunk])) == RGB).all(), chunk[0]


def test_indexes_beyond_the_palette_are_its_last_entry():
    palette = np.random.default_rng(1).integers(0, 256, (100, 3), dtype=np.uint8)
    data = png_file(GREY, colour_type=3, palette=palette.tobytes())
    assert (shown(data) == palette[GREY.clip(max=99)]).all()
    named = png_file(GREY, colour_type=3, palette=palette.tobytes(), after_palette=[(b"tRNS", bytes(range(156, 256)))])
    alpha = np.arange(156, 256)[GREY.clip(max=99)][..., None] / 255
    assert np.abs(shown(named) - (palette[GREY.clip(max=99)] * alpha + 128 * (1 - alpha))).mean() < 0.6


def test_what_a_gif_leaves_of_its_canvas_is_transparent():
    image = PHOTO.quantize(32)
    data = bytearray(encoded(image, "GIF"))
    data[6:10] = struct.pack("<HH", 70, 50)
    at = data.index(b"\x2c\0\0\0\0")
    data[at + 1 : at + 5] = struct.pack("<HH", 15, 10)
    expected = np.full((50, 70, 3), 128)
    expected[10:42, 15:63] = np.asarray(image.convert("RGB"))
    assert (shown(bytes(data)) == expected).all()


@pytest.mark.parametrize(("header", "masks"), [(56, 4), (108, 4), (124, 4)])
def test_a_bmp_whose_alpha_is_0_everywhere_is_opaque(header, masks):
    names = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)[:masks]
    for alpha, expected in [(0, RGB), (128, RGB * (128 / 255) + 128 * (127 / 255))]:
        rows = np.dstack([RGB[..., ::-1], np.full_like(GREY, alpha)]).reshape(32, -1)
        data = bmp_file(bmp_rows(rows), (48, 32), 32, compression=3, masks=names, header=header)
        assert np.abs(shown(data) - expected).mean() < 0.6
    plain = bmp_file(bmp_rows(np.dstack([RGB[..., ::-1], GREY]).reshape(32, -1)), (48, 32), 32)
    assert (shown(plain) == RGB).all()  # 40 bytes of header: the fourth byte means nothing


@pytest.mark.parametrize(("bits", "colours"), [(4, 16), (4, 2), (8, 2)])
def test_a_bmp_palette_of_greys_is_a_palette(bits, colours):
    levels = np.arange(16) if colours == 16 else np.array([0, 255])
    palette = np.column_stack([levels] * 3 + [levels * 0]).astype(np.uint8).tobytes()
    index = GREY // 16 if colours == 16 else GREY // 128
    rows = index if bits == 8 else index[:, ::2] << 4 | index[:, 1::2]
    data = bmp_file(bmp_rows(rows), (48, 32), bits, palette=palette, colours=colours)
    assert (shown(data)[..., 0] == levels[index]).all()


def test_a_png_animation_begins_with_its_first_frame():
    other = Image.fromarray(255 - RGB)
    data = encoded(PHOTO, "PNG", save_all=True, append_images=[other], default_image=True)
    assert (shown(data) == 255 - RGB).all()


def test_a_palette_of_8_bits_in_a_tiff():
    palette = np.random.default_rng(2).integers(0, 256, (256, 3))
    tags = {256: 48, 257: 32, 258: 8, 259: 1, 262: 3, 277: 1, 278: 32, 320: palette.T.ravel().tolist()}
    assert (shown(tiff_file(tags, [GREY.tobytes()])) == palette[GREY]).all()


def test_what_was_not_measured_is_black_and_does_not_count_for_the_scale():
    values = np.where(GREY > 20, GREY * 4.0 + 1000, -9999).astype(np.float32)
    tags = {256: 48, 257: 32, 258: 32, 259: 1, 262: 1, 277: 1, 278: 32, 339: 3, 42113: b"-9999 \0"}
    low, high = float(values[GREY > 20].min()), float(values.max())
    expected = np.where(GREY > 20, (values - low) * 255 / (high - low), 0)
    assert np.abs(shown(tiff_file(tags, [values.tobytes()]))[..., 0] - expected).max() <= 1


SAMPLES = [encoded(PHOTO, name) for name in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "AVIF")]


@given(
    st.sampled_from(SAMPLES), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=9)
)
def test_no_message_holds_an_address_of_memory(data, damage):
    damaged = bytearray(data)
    for place, value in damage:
        damaged[int(place * len(damaged))] = value
    for broken in (bytes(damaged), bytes(damaged[: len(damaged) // 2])):
        assert not re.search(r"0x[0-9a-f]{6}|object at|BytesIO", message_of(broken))


def message_of(data):
    try:
        decode(data, Limits(max_pixels=1_000_000))
    except ImageRejected as rejection:
        return rejection.message
    return ""
