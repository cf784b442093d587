import io

import numpy as np
import pytest
from PIL import Image, ImageCms
from support.images import encoded, photograph

from dpiqa.imaging.decode import Limits, decode

LIMITS = Limits()
GREY = np.array([128, 128, 128])


def pixels(image, image_format, **options):
    return np.asarray(decode(encoded(image, image_format, **options), LIMITS), dtype=int)


def ramp(white, dtype):
    return (np.arange(256, dtype=np.float64) / 255 * white).round().astype(dtype).reshape(16, 16)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(image_format):
    result = pixels(Image.fromarray(ramp(65535, np.uint16)), image_format)
    assert (result[..., 0].ravel() == np.arange(256)).all()
    assert (result[..., 0] == result[..., 2]).all()


def test_big_endian_sixteen_bits():
    image = Image.frombytes("I;16B", (16, 16), ramp(65535, ">u2").tobytes())
    assert (pixels(image, "TIFF")[..., 0].ravel() == np.arange(256)).all()


def test_integers_up_to_65535_are_sixteen_bits_and_larger_ones_are_stretched():
    assert (pixels(Image.fromarray(ramp(65535, np.int32)), "TIFF")[..., 0].ravel() == np.arange(256)).all()
    wide = ramp(2_000_000_000, np.int32) - 1_000_000_000
    assert (pixels(Image.fromarray(wide), "TIFF")[..., 0].ravel() == np.arange(256)).all()


@pytest.mark.parametrize("white", [1, 255])
def test_floats_of_a_known_range_are_taken_as_they_stand(white):
    half = Image.fromarray(np.full((8, 8), white / 2, dtype=np.float32))
    assert abs(pixels(half, "TIFF") - 127.5).max() <= 0.5


def test_other_floats_are_stretched_and_holes_are_black():
    values = np.array([[-1000, 0], [np.nan, 1000]], dtype=np.float32)
    result = pixels(Image.fromarray(values), "TIFF")[..., 0]
    assert result.tolist() == [[0, 128], [0, 255]]
    assert (pixels(Image.fromarray(np.full((4, 4), 1e6, dtype=np.float32)), "TIFF") == 0).all()


def test_one_bit_is_black_and_white():
    image = Image.new("1", (8, 8), 0)
    image.paste(1, (0, 0, 4, 8))
    for image_format in ("PNG", "TIFF", "BMP"):
        result = pixels(image, image_format)
        assert result[0, 0].tolist() == [255, 255, 255]
        assert result[0, 7].tolist() == [0, 0, 0]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_mid_grey(mode):
    image = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    image.paste((200, 200, 200, 255), (0, 0, 4, 8))
    image.paste((0, 0, 0, 128), (0, 0, 2, 2))
    result = pixels(image.convert(mode), "PNG")
    assert (result[7, 7] == GREY).all()
    assert (result[7, 0] == 200).all()
    assert abs(result[0, 0] - 64).max() <= 1


def test_palettes_with_and_without_transparency():
    photo = photograph()
    plain = pixels(photo.quantize(), "PNG")
    assert abs(plain - np.asarray(photo, dtype=int)).mean() < 10
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(0, (0, 0, 4, 8))
    for image_format in ("PNG", "GIF"):
        result = pixels(image, image_format, transparency=0)
        assert (result[0, 0] == GREY).all(), image_format
        assert result[0, 7].tolist() == [0, 255, 0]


def test_a_transparent_colour_of_an_rgb_png():
    image = Image.new("RGB", (8, 8), (255, 0, 0))
    image.paste((0, 0, 255), (0, 0, 4, 8))
    result = pixels(image, "PNG", transparency=(255, 0, 0))
    assert (result[0, 7] == GREY).all()
    assert result[0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(image_format):
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    red, green, blue = pixels(cyan, image_format)[8, 8]
    assert red < 10
    assert min(green, blue) > 240


def test_lab_is_converted_by_its_meaning():
    lab = ImageCms.createProfile("LAB")
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB")
    photo = photograph()
    result = pixels(ImageCms.applyTransform(photo, to_lab), "TIFF")
    assert abs(result - np.asarray(photo, dtype=int)).mean() < 3


def test_ycbcr_tiff():
    photo = photograph()
    result = pixels(photo.convert("YCbCr"), "TIFF")
    assert abs(result - np.asarray(photo, dtype=int)).mean() < 3


def linear_profile():
    """sRGB's primaries with other tone curves: what it shows differs plainly from its numbers."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = profile.find(b"para")
    assert at > 0
    count = int.from_bytes(profile[at + 8 : at + 10], "big")
    profile[at + 8 : at + 10] = (0).to_bytes(2, "big")  # a pure power ...
    profile[at + 12 : at + 16] = (1 << 16).to_bytes(4, "big")  # ... of 1
    assert count == 3
    return bytes(profile).replace("sRGB built-in".encode("utf-16-be"), "Linear-RGB  x".encode("utf-16-be"))


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_colours_go_through_the_embedded_profile(image_format):
    image = Image.new("RGB", (16, 16), (55, 55, 55))
    result = pixels(image, image_format, icc_profile=linear_profile())[8, 8]
    assert abs(result - 128).max() <= 4  # linear 55 / 255 is sRGB 128 / 255


def test_a_grey_picture_with_a_profile():
    grey = Image.new("L", (16, 16), 77)
    assert (pixels(grey, "PNG") == 77).all()
    assert abs(pixels(grey, "PNG", icc_profile=linear_profile()) - 149).max() <= 1  # 77 / 255 of the light


@pytest.mark.parametrize("profile", [b"garbage", linear_profile()[:200], b"\x00" * 4096])
def test_a_broken_profile_is_ignored(profile):
    image = Image.new("RGB", (16, 16), (55, 99, 140))
    assert pixels(image, "PNG", icc_profile=profile)[8, 8].tolist() == [55, 99, 140]


def test_srgb_pictures_keep_their_numbers():
    photo = photograph()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (pixels(photo, "PNG", icc_profile=profile) == np.asarray(photo)).all()


def test_transparency_and_profile_together():
    image = Image.new("RGBA", (16, 16), (55, 55, 55, 255))
    image.paste((55, 55, 55, 0), (0, 0, 8, 16))
    result = pixels(image, "PNG", icc_profile=linear_profile())
    assert (result[0, 0] == GREY).all()
    assert abs(result[0, 15] - 128).max() <= 4


def test_twelve_bit_tiff_is_scaled_by_its_own_white():
    values = ramp(4095, np.uint16).ravel()
    packed = bytearray()
    for first, second in values.reshape(-1, 2).tolist():
        packed += bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    data = bytearray(encoded(Image.new("L", (16, 16)), "TIFF"))
    with Image.open(io.BytesIO(data)) as image:
        assert image.tag_v2[258] == (8,)
    tagged = set_tag(data, 258, 12)
    tagged = set_tag(tagged, 273, len(data))
    tagged = set_tag(tagged, 279, len(packed))
    result = np.asarray(decode(bytes(tagged) + bytes(packed), LIMITS))[..., 0]
    assert abs(result.ravel().astype(int) - np.arange(256)).max() <= 1


def set_tag(data, tag, value):
    """Overwrite a number in the first directory of a little-endian TIFF."""
    start = int.from_bytes(data[4:8], "little")
    for n in range(int.from_bytes(data[start : start + 2], "little")):
        at = start + 2 + 12 * n
        if int.from_bytes(data[at : at + 2], "little") == tag:
            data[at + 8 : at + 12] = value.to_bytes(4, "little")
            return data
    raise LookupError(tag)
