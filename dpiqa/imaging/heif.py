"""HEIC and HEIF, decoded by pi-heif (libheif with libde265). Its primary picture counts.

libheif applies the boxes `clap`, `irot` and `imir`, and puts tiles and overlays together. The EXIF orientation says
the same a second time, so it is dropped.
"""

from collections.abc import Callable
from typing import Any

from PIL import Image

from dpiqa.errors import ImageRejected
from dpiqa.imaging import boxes
from dpiqa.types import Reason


def decode(data: bytes, check_size: Callable[[int, int], None]) -> Image.Image:
    """Decode to mode L, I;16, RGB, RGBA or RGBa, upright, with the ICC profile or `nclx_profile` in `info`.

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
    kept = ("icc_profile", "nclx_profile")
    image.info = {name: image.info[name] for name in kept if name in image.info}
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
