"""Previews of camera raw files and JPEGs at reduced scale: only by a setting, and said in the version."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.camera_raw import dng
from support.images import encoded, photograph

from dpiqa.errors import ImageRejected
from dpiqa.imaging import optional
from dpiqa.imaging.decode import Limits, decode
from dpiqa.imaging.pool import DecodePool
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.imaging.renditions import jpeg_size, rendition_of
from dpiqa.types import Reason, Rendition

PHOTO = photograph(480, 320)
HEIC = Path(__file__).parents[2] / "golden/formats/rgb.heic"
SQUASH = Preprocessing(width=32, height=32)
PREVIEW = SQUASH.rendered(Rendition.PREVIEW)
REDUCED = SQUASH.rendered(Rendition.REDUCED)
WITH_RAW = Limits(raw_previews=True)
PANORAMAS = Limits(max_pixels=480 * 320 - 1, max_panorama_pixels=480 * 320)


def rejected(data, limits, preprocessing=None):
    with pytest.raises(ImageRejected) as caught:
        decode(data, limits, preprocessing)
    return caught.value


def difference(image, expected):
    assert (image.mode, image.size) == ("RGB", expected.size)
    return np.abs(np.asarray(image, dtype=float) - np.asarray(expected, dtype=float)).mean()


def test_the_version_says_what_was_decoded():
    assert PREVIEW.version == f"{SQUASH.version}+preview"
    assert REDUCED.version == f"{SQUASH.version}+reduced"
    assert SQUASH.rendered(Rendition.FULL) is SQUASH
    assert "rendition" not in SQUASH.model_dump_json()  # cards of the picture are as before
    assert Preprocessing.model_validate_json(PREVIEW.model_dump_json()) == PREVIEW


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_largest_preview_of_a_raw_file_is_decoded_upright(orientation):
    turns = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
    expected = PHOTO if turns[orientation] is None else PHOTO.transpose(turns[orientation])
    data = dng(PHOTO, orientation=orientation)
    assert rendition_of(data, WITH_RAW) is Rendition.PREVIEW
    assert difference(decode(data, WITH_RAW, PREVIEW), expected) < 2


def test_a_preview_that_is_turned_itself_is_not_turned_twice():
    exif = Image.Exif()
    exif[274] = 6
    data = dng(PHOTO, orientation=6, jpeg=encoded(PHOTO, "JPEG", quality=95, exif=exif))
    assert difference(decode(data, WITH_RAW, PREVIEW), PHOTO.transpose(Image.Transpose.ROTATE_270)) < 2
    exif = Image.Exif()
    exif[271] = "Acme"  # EXIF without an orientation: that of the raw file counts
    data = dng(PHOTO, orientation=6, jpeg=encoded(PHOTO, "JPEG", quality=95, exif=exif))
    assert difference(decode(data, WITH_RAW, PREVIEW), PHOTO.transpose(Image.Transpose.ROTATE_270)) < 2


def test_without_the_setting_a_raw_file_is_rejected_with_its_name():
    data = dng(PHOTO)
    assert rendition_of(data, Limits()) is Rendition.FULL
    rejection = rejected(data, Limits())
    assert rejection.reason is Reason.UNSUPPORTED_FORMAT
    assert "DPIQA_RAW_PREVIEWS" in rejection.message
    assert "Canon" in rejected(b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(64), Limits()).message


def test_limits_hold_for_previews():
    data = dng(PHOTO)
    small = Limits(raw_previews=True, max_pixels=480 * 320 - 1)
    assert rejected(data, small, PREVIEW).reason is Reason.TOO_MANY_PIXELS


@pytest.mark.parametrize("data", [dng(PHOTO)[:1000], b"FUJIFILMCCD-RAW " + bytes(4000), b"IIU\x00" + bytes(900)])
def test_a_damaged_raw_file_is_rejected(data):
    assert rendition_of(data, WITH_RAW) is Rendition.PREVIEW
    reasons = {Reason.CORRUPT, Reason.UNSUPPORTED_FORMAT, Reason.TRUNCATED}
    assert rejected(data, WITH_RAW, PREVIEW).reason in reasons


def test_without_the_extra_the_rejection_names_it(monkeypatch):
    optional.is_installed.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    rejection = rejected(dng(PHOTO), WITH_RAW, PREVIEW)
    optional.is_installed.cache_clear()
    assert rejection.reason is Reason.DECODER_MISSING
    assert "pip install 'dpiqa[raw]'" in rejection.message


def test_a_large_jpeg_is_admitted_by_the_setting_and_decoded_at_reduced_scale():
    data = encoded(PHOTO, "JPEG", quality=95)
    assert jpeg_size(data) == (480, 320)
    assert rendition_of(data, PANORAMAS) is Rendition.REDUCED
    image = decode(data, PANORAMAS, REDUCED)
    assert image.size == (120, 80)  # a quarter: the next scale has less than twice the sides of the model's input
    assert difference(image, PHOTO.resize((120, 80), Image.Resampling.BOX)) < 2
    rejection = rejected(data, PANORAMAS)
    assert rejection.reason is Reason.TOO_MANY_PIXELS
    assert "480x320" in rejection.message
    assert "DPIQA_MAX_PANORAMA_PIXELS" in rejection.message


def test_the_decode_process_says_how_large_an_image_is(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # as a decode process sets it: Pillow looks first
    message = rejected(encoded(PHOTO, "JPEG"), Limits(max_pixels=1000)).message
    assert "153600 pixels, at most 1000 pixels" in message
    assert "bomb" not in message


def test_a_large_jpeg_is_turned_upright_at_reduced_scale():
    exif = Image.Exif()
    exif[274] = 6
    assert decode(encoded(PHOTO, "JPEG", exif=exif), PANORAMAS, REDUCED).size == (80, 120)


@pytest.mark.parametrize(
    ("data", "limits"),
    [
        (encoded(PHOTO, "JPEG"), Limits(max_pixels=480 * 320 - 1)),
        (encoded(PHOTO, "JPEG"), Limits(max_pixels=480 * 320 - 1, max_panorama_pixels=480 * 320 - 1)),
        (encoded(PHOTO, "JPEG"), Limits(max_pixels=480 * 320, max_panorama_pixels=10**9)),
        (encoded(PHOTO, "PNG"), PANORAMAS),
        (encoded(PHOTO, "JPEG")[:20], PANORAMAS),
        (b"\xff\xd8\xff", PANORAMAS),
        (b"\xff\xd8" + b"\xff" * 5000, PANORAMAS),
        (b"", PANORAMAS),
    ],
)
def test_everything_else_is_decoded_in_full(data, limits):
    assert rendition_of(data, limits) is Rendition.FULL


def test_a_long_side_alone_makes_a_panorama():
    data = encoded(photograph(600, 20), "JPEG")
    assert rendition_of(data, Limits(max_side=599, max_panorama_pixels=600 * 20)) is Rendition.REDUCED


def test_large_jpegs_within_the_limits_are_reduced_only_on_request():
    flat = Image.new("RGB", (2304, 2048), (90, 120, 60))
    data, asked = encoded(flat, "JPEG"), Limits(reduced_jpegs=True)
    assert rendition_of(data, Limits()) is Rendition.FULL
    assert rendition_of(data, asked) is Rendition.REDUCED
    assert rendition_of(encoded(flat.crop((0, 0, 2304, 2047)), "JPEG"), asked) is Rendition.FULL
    assert rendition_of(encoded(flat, "PNG"), asked) is Rendition.FULL
    squash = Preprocessing(width=512, height=512, rendition=Rendition.REDUCED)
    assert decode(data, asked, squash).size == (1152, 1024)
    narrow = asked.model_copy(update={"max_pixels": 2304 * 2048 - 1})  # the request admits nothing larger
    assert rendition_of(data, narrow) is Rendition.FULL
    assert rejected(data, narrow, squash).reason is Reason.TOO_MANY_PIXELS


def test_the_decode_process_obeys_the_rendition():
    limits = Limits(raw_previews=True, max_pixels=480 * 320 - 1, max_panorama_pixels=480 * 320, seconds=60)
    small = photograph(240, 160)
    with DecodePool(1, limits) as pool:
        reduced = pool.submit(encoded(PHOTO, "JPEG", quality=95), REDUCED).result()
        preview = pool.submit(dng(small), PREVIEW).result()
        heic = pool.submit(HEIC.read_bytes(), SQUASH).result()
    for pixels, picture in ((reduced, PHOTO), (preview, small), (heic, photograph())):
        expected = np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR), dtype=float)
        assert np.abs(pixels - expected).mean() < 3
