"""HEIC and HEIF, decoded by pi-heif (libheif with libde265). Its primary picture counts.

libheif applies the boxes `clap`, `irot` and `imir`, and puts tiles and overlays together. The EXIF orientation says
the same a second time, so it is dropped.
"""

from collections.abc import Callable
from typing import Any

from PIL import Image

from dpiqa.errors import ImageRejected
from dpiqa.imaging import boxes
from dpiqa.imaging.avif import SHOWN_AS_SRGB
from dpiqa.imaging.colour import cicp_profile
from dpiqa.types import Reason

_SRGB_TRANSFER = 13  # transfer characteristics of ITU-T H.273


def decode(data: bytes, check_size: Callable[[int, int], None]) -> Image.Image:
    """Decode to mode L, I;16, RGB, RGBA or RGBa, upright, with the ICC profile in `info`.

    Raises `ImageRejected`, and what `check_size` raises for the size in the header; other errors mean damage.
    """
    if boxes.find(data, b"meta") is None and boxes.find(data, b"moov") is not None:
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, "HEIC that holds only a sequence is not decoded")
    if ends_early(data):
        raise ImageRejected(Reason.TRUNCATED, "HEIC ends too early")
    pi_heif = library()
    try:
        file = pi_heif.open_heif(data, convert_hdr_to_8bit=True)
        primary = file[file.primary_index]
        check_size(*primary.size)
        image: Image.Image = primary.to_pillow()
    except SyntaxError as error:  # a feature or codec that libheif, or this build of it, does not have
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, f"HEIC is not decoded: {error}") from None
    check_size(*image.size)  # the coded picture may be larger than the header says
    profile, nclx = image.info.get("icc_profile"), image.info.get("nclx_profile")
    if profile is None and nclx is not None:
        transfer = int(nclx["transfer_characteristics"])
        transfer = _SRGB_TRANSFER if transfer in SHOWN_AS_SRGB else transfer
        profile = cicp_profile(int(nclx["color_primaries"]), transfer)
    image.info = {"icc_profile": profile} if profile else {}
    return image


def ends_early(data: bytes) -> bool:
    """Return whether a box is incomplete, or the one with the items is missing. Never raises."""
    return boxes.ends_early(data, b"meta")


def library() -> Any:
    """Import pi-heif and set it to one thread, and to the primary picture alone. Raises `ImportError`."""
    import pi_heif  # noqa: PLC0415 - an extra
    from pi_heif import options  # noqa: PLC0415 - an extra

    options.DECODE_THREADS = 1  # one process per core already
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    return pi_heif
