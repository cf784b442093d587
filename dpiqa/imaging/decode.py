"""Decoding of an object's bytes to upright 8-bit sRGB pixels, within limits.

Pillow's exceptions become `ImageRejected` here and nowhere else. Limits are checked from the header, before any
pixel is decoded. Untrusted bytes belong in `dpiqa.imaging.pool`; this module runs in its processes.
"""

import contextlib
import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from dpiqa.errors import ImageRejected
from dpiqa.imaging.formats import ALLOWED, ends_early, sniff
from dpiqa.imaging.modes import to_rgb
from dpiqa.imaging.optional import OPTIONAL, decode_optional
from dpiqa.imaging.preprocessing import Preprocessing, prepare
from dpiqa.types import Reason

if TYPE_CHECKING:
    from dpiqa.settings import Settings

_TAG_SUBFILE_TYPE, _TAG_DNG_VERSION = 254, 50706
_REDUCED_RESOLUTION = 1  #: bit of the subfile type


class Limits(BaseModel):
    """Bounds on one image; an image beyond any of them is rejected, never scored from a part."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_bytes: PositiveInt = 64 * 1024 * 1024  #: of the file
    max_pixels: PositiveInt = 50_000_000  #: width x height, read from the header before decoding
    max_side: PositiveInt = 16_384  #: pixels, either side
    seconds: PositiveFloat = 10.0  #: wall time of decoding and resizing, enforced by `DecodePool`
    memory_bytes: PositiveInt = 2 * 1024**3  #: address space of a decode process, enforced by `DecodePool`

    @classmethod
    def from_settings(cls, settings: "Settings") -> "Limits":
        """Return the configured limits."""
        return cls(
            max_bytes=settings.max_image_bytes,
            max_pixels=settings.max_image_pixels,
            max_side=settings.max_image_side,
            seconds=settings.decode_seconds,
            memory_bytes=settings.decode_memory_bytes,
        )


def decode_and_prepare(data: bytes, preprocessing: Preprocessing, limits: Limits) -> np.ndarray:
    """Object bytes -> (H, W, 3) uint8, the model's input. In this process, without a time limit.

    Raises `ImageRejected`.
    """
    return prepare(decode(data, limits), preprocessing)


def decode(data: bytes, limits: Limits) -> Image.Image:
    """Object bytes -> mode RGB, upright, sRGB; the first frame of an animation.

    Raises `ImageRejected` with the reason. Changes Python's warning filters while it runs: not thread-safe.
    """
    image_format = _admit(data, limits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return _decode_admitted(data, image_format, limits)
        except ImageRejected:
            raise
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ImageRejected(Reason.TOO_MANY_PIXELS, str(error)) from None
        except MemoryError:
            raise ImageRejected(Reason.DECODE_CRASH, "the decoder ran out of memory") from None
        except Exception as error:  # Pillow's decoders raise a dozen unrelated classes on damaged data
            raise _damaged(data, image_format, error) from None


def _admit(data: bytes, limits: Limits) -> str:
    """Return the format by the first bytes, or raise the reason not to decode."""
    if not data:
        raise ImageRejected(Reason.EMPTY, "the object has no bytes")
    if len(data) > limits.max_bytes:
        raise ImageRejected(Reason.TOO_MANY_BYTES, f"{len(data)} bytes, at most {limits.max_bytes}")
    image_format = sniff(data)
    if image_format is None:
        raise ImageRejected(Reason.NOT_AN_IMAGE, "no known image signature")
    if image_format not in ALLOWED and image_format not in OPTIONAL:
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, f"{image_format} is not decoded")
    return image_format


def _decode_admitted(data: bytes, image_format: str, limits: Limits) -> Image.Image:
    with _open(data, image_format, limits) as image:
        _check_size(*image.size, limits)
        if image_format == "TIFF":
            # Camera raw files are TIFFs whose first picture is a thumbnail, and a thumbnail's score would mislead.
            tags: Any = image.tag_v2  # type: ignore[attr-defined]
            if _TAG_DNG_VERSION in tags or tags.get(_TAG_SUBFILE_TYPE, 0) & _REDUCED_RESOLUTION:
                raise ImageRejected(Reason.UNSUPPORTED_FORMAT, "camera raw (TIFF whose first picture is a preview)")
        image.load()
        with contextlib.suppress(Exception):  # broken EXIF is ignored, which fails in many ways: the pixels are intact
            ImageOps.exif_transpose(image, in_place=True)
        return to_rgb(image)


def _open(data: bytes, image_format: str, limits: Limits) -> Image.Image:
    """Open by Pillow, which decodes later, or decode at once by an optional decoder."""
    if image_format in OPTIONAL:
        return decode_optional(data, image_format, lambda width, height: _check_size(width, height, limits))
    return Image.open(io.BytesIO(data), formats=[image_format])


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width < 1 or height < 1:
        raise ImageRejected(Reason.CORRUPT, f"the header says {width}x{height} pixels")
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        allowed = f"at most {limits.max_pixels} pixels and {limits.max_side} a side"
        raise ImageRejected(Reason.TOO_MANY_PIXELS, f"{width}x{height} pixels, {allowed}")


def _damaged(data: bytes, image_format: str, error: Exception) -> ImageRejected:
    """Distinguish truncated from corrupt: one needs another upload, the other another file."""
    detail = " ".join(str(error).split())[:200]
    if "truncated" in detail.lower() or ends_early(data, image_format):
        return ImageRejected(Reason.TRUNCATED, f"{image_format} ends too early: {detail}")
    return ImageRejected(Reason.CORRUPT, f"{image_format} cannot be decoded: {detail}")
