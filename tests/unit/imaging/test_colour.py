"""The meaning of a picture's numbers: profiles, PNG and AVIF without one. Expected values are by the formulas."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from support.images import encoded, photograph
from support.raw_files import png_chunk, png_file

from dpiqa.errors import ImageRejected
from dpiqa.imaging.colour import cicp_profile, gamma_profile
from dpiqa.imaging.decode import Limits, decode
from dpiqa.types import Reason

PHOTO = np.asarray(photograph(48, 32))
GREY = PHOTO[..., 1]
BT2020 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
P3 = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])


def shown(data):
    return np.asarray(decode(data, Limits()), dtype=float)


def srgb_of(light):
    """Light in [0, 1] -> 8-bit sRGB, by IEC 61966-2-1."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def light_of(values):
    share = values / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def power(gamma):
    return srgb_of((PHOTO / 255) ** gamma)


def gama(gamma):
    return (b"gAMA", struct.pack(">I", round(100_000 / gamma)))


def chrm(*values):
    return (b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in values)))


def cicp(primaries, transfer, matrix=0):
    return (b"cICP", bytes([primaries, transfer, matrix, 1]))


def iccp(profile):
    return (b"iCCP", b"name\0\0" + zlib.compress(profile))


SRGB = (b"sRGB", b"\0")
P3_POINTS = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
SRGB_POINTS = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
LINEAR = gamma_profile(1.0, SRGB_POINTS)
BROKEN = LINEAR[:200]
PLAIN = PHOTO.astype(float)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([], PLAIN),
        ([gama(1)], power(1)),
        ([gama(1.8)], power(1.8)),
        ([gama(2.2)], PLAIN),  # sRGB for programs that know no better
        ([gama(2.2), chrm(*SRGB_POINTS)], power(2.2)),
        ([gama(2.2), chrm(*P3_POINTS)], srgb_of((PHOTO / 255) ** 2.2 @ P3.T)),
        ([chrm(*P3_POINTS)], PLAIN),
        ([gama(1), chrm(*[0] * 8)], PLAIN),
        ([SRGB, gama(1)], PLAIN),
        ([iccp(LINEAR)], power(1)),
        ([iccp(LINEAR), SRGB], power(1)),
        ([iccp(BROKEN), gama(1.8)], power(1.8)),
        ([iccp(BROKEN), SRGB, gama(1.8)], PLAIN),
        ([cicp(1, 8), SRGB, gama(2.2)], power(1)),
        ([cicp(1, 13), iccp(LINEAR)], PLAIN),
        ([cicp(1, 4)], power(2.2)),
        ([cicp(1, 1)], power(2.4)),
        ([cicp(12, 13)], srgb_of(light_of(PHOTO) @ P3.T)),
        ([cicp(9, 13)], srgb_of(light_of(PHOTO) @ BT2020.T)),
        ([(b"gAMA", bytes(4))], PLAIN),
    ],
)
def test_the_numbers_of_a_png_by_the_priority_of_the_specification(chunks, expected):
    assert np.abs(shown(png_file(PHOTO, colour_type=2, before=chunks)) - expected).mean() < 0.6


def test_grey_palettes_16_bits_and_transparency_have_the_same_meaning():
    linear = [gama(1)]
    light = srgb_of(GREY / 255)
    alpha = np.where(GREY > 99, 255, 0).astype(np.uint8)
    hidden = np.where(alpha == 255, light, 128)
    deep = GREY.astype(int) * 257
    entries = bytes(value for level in range(256) for value in (level,) * 3)
    for data, expected in [
        (png_file(GREY, colour_type=0, before=linear), light),
        (png_file(deep, colour_type=0, bits=16, before=linear), light),
        (png_file(np.dstack([GREY, alpha]), colour_type=4, before=linear), hidden),
        (png_file(GREY, colour_type=3, palette=entries, before=linear), light),
        (png_file(np.dstack([GREY] * 3 + [alpha]), colour_type=6, before=linear), hidden),
    ]:
        assert np.abs(shown(data)[..., 0] - expected).mean() < 0.6


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (cicp(9, 16), "high dynamic range (PQ)"),
        (cicp(9, 18), "high dynamic range (HLG)"),
        (cicp(1, 9), "transfer characteristics 9"),
        (cicp(99, 13), "colour primaries 99"),
        (cicp(1, 13, 1), "matrix coefficients 1"),
        (iccp(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()), "ICC profile of Lab"),
        (iccp(bytes(17_000_000)), "more than 16777216 bytes"),
    ],
)
def test_colours_that_cannot_be_converted_are_rejected_as_such(chunk, words):
    with pytest.raises(ImageRejected) as caught:
        shown(png_file(PHOTO, colour_type=2, before=[chunk]))
    assert caught.value.reason is Reason.UNSUPPORTED_COLOUR
    assert words in caught.value.message


def test_an_avif_says_its_colour_space_in_its_container():
    data = encoded(Image.fromarray(PHOTO), "AVIF", quality=100, subsampling="4:4:4")
    at = data.index(b"colrnclx") + 8
    plain = shown(data)

    def named(primaries, transfer):
        return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]

    for primaries, transfer, expected in [
        (1, 8, srgb_of(plain / 255)),
        (12, 13, srgb_of(light_of(plain) @ P3.T)),
        (1, 1, plain),  # of video: browsers show it as sRGB
        (2, 2, plain),
    ]:
        assert np.abs(shown(named(primaries, transfer)) - expected).mean() < 0.6
    for transfer in (16, 18):
        with pytest.raises(ImageRejected, match="high dynamic range") as caught:
            shown(named(9, transfer))
        assert caught.value.reason is Reason.UNSUPPORTED_COLOUR


def test_a_profile_is_srgb_by_what_it_does_not_by_its_name():
    named = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = named.find(b"para")
    named[at + 8 : at + 10] = bytes(2)
    named[at + 12 : at + 16] = (1 << 16).to_bytes(4, "big")  # a power of 1: linear
    profile = ImageCms.ImageCmsProfile(io.BytesIO(bytes(named)))
    assert "sRGB" in profile.profile.profile_description
    data = encoded(Image.fromarray(PHOTO), "PNG", icc_profile=bytes(named))
    assert np.abs(shown(data) - power(1)).mean() < 0.6
    same = gamma_profile(2.2, SRGB_POINTS)
    assert np.abs(shown(encoded(Image.fromarray(PHOTO), "PNG", icc_profile=same)) - power(2.2)).mean() < 0.6


def test_a_bmp_with_a_profile():
    data = bytearray(encoded(Image.fromarray(PHOTO), "BMP"))
    head = struct.pack("<I", 124) + data[18:54] + b"DEBM".rjust(20, b"\0") + bytes(64)
    start = 14 + 124
    head = head[:56] + b"DEBM" + bytes(52) + struct.pack("<III", start - 14 + len(data) - 54, len(LINEAR), 0)
    out = b"BM" + struct.pack("<IHHI", 0, 0, 0, start) + head + bytes(data[54:]) + LINEAR
    assert np.abs(shown(out) - power(1)).mean() < 0.6


def test_the_colour_spaces_of_srgb_need_no_profile():
    assert cicp_profile(1, 13) is None
    assert cicp_profile(2, 2) is None


def test_chunks_with_a_wrong_checksum_do_not_count():
    data = png_file(PHOTO, colour_type=2, before=[gama(1)])
    at = data.index(b"gAMA")
    assert (shown(data[: at + 8] + b"\0\0\0\0" + data[at + 12 :]) == PLAIN).all()
    late = png_chunk(*gama(1))
    end = len(data) - 12
    plain = png_file(PHOTO, colour_type=2)
    assert (shown(plain[: len(plain) - 12] + late + data[end:]) == PLAIN).all()
