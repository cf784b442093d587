"""Decoding of an object's bytes to upright 8-bit sRGB pixels, within limits.

Pillow's exceptions become `ImageRejected` here and nowhere else. Limits are checked from the header, before any
pixel is decoded. Untrusted bytes belong in `dpiqa.imaging.pool`; this module runs in its processes.
"""

import contextlib
import io
import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt

from dpiqa.errors import ImageRejected
from dpiqa.imaging.formats import ALLOWED, ends_early, sniff
from dpiqa.imaging.modes import to_rgb
from dpiqa.imaging.optional import OPTIONAL, RAW, decode_optional
from dpiqa.imaging.preprocessing import Preprocessing, prepare
from dpiqa.imaging.raw import is_raw
from dpiqa.types import Reason, Rendition

if TYPE_CHECKING:
    from dpiqa.settings import Settings

_MAX_JPEG_SIDE = 65_535  #: pixels; the format has no more


class Limits(BaseModel):
    """Bounds on one image; an image beyond any of them is rejected, never scored from a part."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_bytes: PositiveInt = 64 * 1024 * 1024  #: of the file
    max_pixels: PositiveInt = 50_000_000  #: width x height, read from the header before decoding
    max_side: PositiveInt = 16_384  #: pixels, either side
    seconds: PositiveFloat = 10.0  #: processor time of decoding and resizing, enforced by its process
    wall_seconds: PositiveFloat = 120.0  #: time on the clock, enforced by `DecodePool`
    memory_bytes: PositiveInt = 608 * 1024**2  #: that decoding may add to its process, enforced there
    sandbox: Literal["auto", "require", "off"] = "auto"  #: of its process, see `dpiqa.imaging.sandbox`
    raw_previews: bool = False  #: whether of camera raw files the largest preview is decoded
    max_panorama_pixels: NonNegativeInt = 0  #: of a JPEG above `max_pixels` or `max_side`, decoded at reduced scale

    def for_panoramas(self) -> "Limits":
        """Return the limits of a JPEG that is decoded at a reduced scale."""
        return self.model_copy(update={"max_pixels": self.max_panorama_pixels or 1, "max_side": _MAX_JPEG_SIDE})

    @classmethod
    def from_settings(cls, settings: "Settings") -> "Limits":
        """Return the configured limits."""
        return cls(
            max_bytes=settings.max_image_bytes,
            max_pixels=settings.max_image_pixels,
            max_side=settings.max_image_side,
            seconds=settings.decode_seconds,
            wall_seconds=settings.decode_wall_seconds,
            sandbox=settings.decode_sandbox,
            memory_bytes=settings.decode_memory_bytes,
            raw_previews=settings.raw_previews,
            max_panorama_pixels=settings.max_panorama_pixels,
        )


def decode_and_prepare(data: bytes, preprocessing: Preprocessing, limits: Limits) -> np.ndarray:
    """Object bytes -> (H, W, 3) uint8, the model's input. In this process, without a time limit.

    Raises `ImageRejected`.
    """
    return prepare(decode(data, limits, preprocessing), preprocessing)


def decode(data: bytes, limits: Limits, preprocessing: Preprocessing | None = None) -> Image.Image:
    """Object bytes -> mode RGB, upright, sRGB; the first frame of an animation.

    `preprocessing` says which rendition is decoded, and how small it may be. Raises `ImageRejected` with the reason.
    Changes Python's warning filters while it runs: not thread-safe.
    """
    rendition = Rendition.FULL if preprocessing is None else preprocessing.rendition
    image_format = _admit(data, limits, rendition)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            if preprocessing is not None and rendition is Rendition.REDUCED:
                return _decode_reduced(data, limits, preprocessing)
            return _decode_admitted(data, image_format, limits)
        except ImageRejected:
            raise
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ImageRejected(Reason.TOO_MANY_PIXELS, str(error)) from None
        except MemoryError:
            raise out_of_memory(limits) from None
        except Exception as error:  # Pillow's decoders raise a dozen unrelated classes on damaged data
            raise _damaged(data, image_format, error) from None


def out_of_memory(limits: Limits) -> ImageRejected:
    """Return the error of an image that needs more memory than a decode process may take."""
    most = f"{limits.memory_bytes // 1024**2} MiB of DPIQA_DECODE_MEMORY_BYTES"
    return ImageRejected(Reason.DECODE_CRASH, f"decoding needs more memory than the {most}")


def _admit(data: bytes, limits: Limits, rendition: Rendition) -> str:
    """Return the format by the first bytes, or raise the reason not to decode."""
    if not data:
        raise ImageRejected(Reason.EMPTY, "the object has no bytes")
    if len(data) > limits.max_bytes:
        raise ImageRejected(Reason.TOO_MANY_BYTES, f"{len(data)} bytes, at most {limits.max_bytes}")
    image_format = sniff(data)
    if image_format is None:
        raise ImageRejected(Reason.NOT_AN_IMAGE, "no known image signature")
    if is_raw(data, image_format):  # the first picture is a thumbnail, and its score would mislead
        if rendition is Rendition.PREVIEW:
            return RAW
        known = "" if image_format == "TIFF" else f": {image_format}"
        hint = "DPIQA_RAW_PREVIEWS=true has its preview scored"
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, f"camera raw{known}, which is not decoded; {hint}")
    if image_format not in ALLOWED and image_format not in OPTIONAL:
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, f"{image_format} is not decoded")
    return image_format


def _decode_admitted(data: bytes, image_format: str, limits: Limits) -> Image.Image:
    if image_format in OPTIONAL:
        decoded = decode_optional(data, image_format, lambda width, height: _check_size(width, height, limits))
        return to_rgb(decoded) if isinstance(decoded, Image.Image) else _decode_admitted(decoded, "JPEG", limits)
    with Image.open(io.BytesIO(data), formats=[image_format]) as image:
        _check_size(*image.size, limits)
        return _loaded(image)


def _decode_reduced(data: bytes, limits: Limits, preprocessing: Preprocessing) -> Image.Image:
    """Decode a large JPEG at the smallest scale whose sides are at least twice those of the model's input."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        _check_size(*image.size, limits.for_panoramas())
        least = 2 * max(preprocessing.width, preprocessing.height)
        scale = next((scale for scale in (8, 4, 2) if min(image.size) // scale >= least), 1)
        image.draft(image.mode, (image.width // scale, image.height // scale))
        return _loaded(image)


def _loaded(image: Image.Image) -> Image.Image:
    """Decode what was opened; upright, sRGB."""
    image.load()
    with contextlib.suppress(Exception):  # broken EXIF is ignored, which fails in many ways: the pixels are intact
        ImageOps.exif_transpose(image, in_place=True)
    return to_rgb(image)


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
