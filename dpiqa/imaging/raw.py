"""Camera raw files, told apart by their bytes, and their largest embedded preview (LibRaw through rawpy)."""

import io
import struct
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageOps

from dpiqa.errors import ImageRejected
from dpiqa.types import Reason

_TIFF_HEADS = {b"II*\x00": "<", b"MM\x00*": ">"}
_TAG_SUBFILE_TYPE, _TAG_ORIENTATION, _TAG_DNG_VERSION = 254, 274, 50706
_REDUCED_RESOLUTION = 1  #: bit of the subfile type
_MAX_ENTRIES = 1000  #: of a directory
#: LibRaw's turns of the raw picture -> EXIF orientation.
_ORIENTATION_OF_FLIP = {3: 3, 5: 8, 6: 6}


def is_raw(data: bytes, image_format: str | None) -> bool:
    """Return whether a file of this format, as `dpiqa.imaging.formats.sniff` names it, is a camera raw file."""
    return image_format is not None and (image_format.startswith("raw") or is_raw_tiff(data))


def is_raw_tiff(data: bytes) -> bool:
    """Return whether a TIFF is a camera raw file by its first directory: a DNG, or its first picture is a preview."""
    order = _TIFF_HEADS.get(data[:4])
    if order is None:
        return False
    try:
        (at,) = struct.unpack_from(f"{order}I", data, 4)
        (n,) = struct.unpack_from(f"{order}H", data, at)
        for entry in range(min(n, _MAX_ENTRIES)):
            tag, kind = struct.unpack_from(f"{order}HH", data, at + 2 + 12 * entry)
            if tag == _TAG_DNG_VERSION:
                return True
            if tag == _TAG_SUBFILE_TYPE:
                (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + 10 + 12 * entry)
                if value & _REDUCED_RESOLUTION:
                    return True
    except struct.error:
        pass
    return False


def extract_preview(data: bytes, check_size: Callable[[int, int], None]) -> bytes | Image.Image:
    """Return the largest embedded preview: a JPEG file, or a picture in mode RGB that is upright.

    Raises `ImageRejected` where there is none, or LibRaw does not know the file, and what `check_size` raises for its
    size; other errors mean damage.
    """
    rawpy = library()
    try:
        with rawpy.RawPy() as raw:
            raw.open_buffer(io.BytesIO(data))
            orientation = _ORIENTATION_OF_FLIP.get(raw.sizes.flip, 1)
            preview = raw.extract_thumb()
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, "camera raw without a preview that can be read") from None
    except (rawpy.LibRawFileUnsupportedError, rawpy.NotSupportedError):
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, "camera raw of a kind that LibRaw does not know") from None
    except rawpy.LibRawError as error:
        raise ValueError(f"LibRaw says: {error}") from None
    if preview.format != rawpy.ThumbFormat.JPEG:
        return _upright(Image.fromarray(preview.data).convert("RGB"), orientation)
    jpeg = bytes(preview.data)
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        check_size(*image.size)
        if orientation == 1 or _TAG_ORIENTATION in image.getexif():  # LibRaw adds it where the preview has no EXIF
            return jpeg
        return _upright(image.convert("RGB"), orientation)


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    picture.getexif()[_TAG_ORIENTATION] = orientation
    return ImageOps.exif_transpose(picture)


def library() -> Any:
    """Import rawpy. Raises `ImportError`."""
    import rawpy  # noqa: PLC0415 - an extra

    return rawpy
