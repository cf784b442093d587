"""The rendition of an image's bytes that the settings ask for. Headers only: nothing is decoded."""

import struct

from dpiqa.imaging.decode import Limits
from dpiqa.imaging.formats import sniff
from dpiqa.imaging.raw import is_raw
from dpiqa.types import Rendition

#: Pixels of the shorter side from which a JPEG is decoded at 1/2 or less for a model's input of 512x512, that of the
#: bundled and the published DP-IQA models. Fixed, since an image has one rendition for all models that score it.
_LARGE = 4 * 512
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})  # markers of a JPEG without a body
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers that begin a frame


def rendition_of(data: bytes, limits: Limits) -> Rendition:
    """Return what is to be decoded: the picture, unless a setting admits a preview or a reduced scale. Never raises."""
    if limits.raw_previews and is_raw(data, sniff(data)):
        return Rendition.PREVIEW
    if (limits.max_panorama_pixels or limits.reduced_jpegs) and data.startswith(b"\xff\xd8\xff"):
        width, height = jpeg_size(data) or (0, 0)
        is_too_large = width * height > limits.max_pixels or max(width, height) > limits.max_side
        if is_too_large:
            is_reduced = width * height <= limits.max_panorama_pixels
        else:
            is_reduced = limits.reduced_jpegs and min(width, height) >= _LARGE
        return Rendition.REDUCED if is_reduced else Rendition.FULL
    return Rendition.FULL


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG's first frame; None where there is none."""
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if marker == 0xFF:  # a byte that fills
            at += 1
        elif marker in _NO_LENGTH:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
