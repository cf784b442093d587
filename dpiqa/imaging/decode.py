"""Decoding of an object's bytes to upright 8-bit sRGB pixels, within limits.

Pillow's exceptions become `ImageRejected` here and nowhere else. Limits are checked from the header, before any
pixel is decoded. Untrusted bytes belong in `dpiqa.imaging.pool`; this module runs in its processes.
"""

import io
import re
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt

from dpiqa.errors import ImageRejected
from dpiqa.imaging import tiff
from dpiqa.imaging.formats import ALLOWED, ends_early, sniff
from dpiqa.imaging.headers import Header, exif_orientation, read_header
from dpiqa.imaging.kinds import Kind, require_decoded
from dpiqa.imaging.measured import Measures
from dpiqa.imaging.measures import measure
from dpiqa.imaging.modes import to_rgb
from dpiqa.imaging.optional import OPTIONAL, RAW, decode_optional
from dpiqa.imaging.preprocessing import Preprocessing, prepare
from dpiqa.imaging.raw import is_raw
from dpiqa.types import Reason, Rendition

if TYPE_CHECKING:
    from dpiqa.settings import Settings

#: What turns an image of an EXIF orientation upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BAD_HEADER = "its header is damaged"
#: Format and start of an error that complete and sound files may cause, too -> what they are.
_NOT_DAMAGE = (
    ("TIFF", _BAD_HEADER, "with a combination of tags that is not decoded"),
    ("BMP", "not enough image data", "whose run lengths leave pixels out"),
    ("AVIF", "Conversion from YUV failed", "with matrix coefficients that are not converted"),
)
_ADDRESS = re.compile(r"<[^<>]* at 0x[0-9a-fA-F]+>|0x[0-9a-fA-F]{6,}")
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
    reduced_jpegs: bool = False  #: whether large JPEGs within the limits are decoded at reduced scale, too

    def for_reduced(self) -> "Limits":
        """Return the limits of a JPEG that is decoded at a reduced scale."""
        if not self.max_panorama_pixels:
            return self
        most = max(self.max_pixels, self.max_panorama_pixels)
        return self.model_copy(update={"max_pixels": most, "max_side": _MAX_JPEG_SIDE})

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
            reduced_jpegs=settings.reduced_jpegs,
        )


def decode_and_prepare(data: bytes, preprocessing: Preprocessing, limits: Limits) -> np.ndarray:
    """Object bytes -> (H, W, 3) uint8, the model's input. In this process, without a time limit.

    Raises `ImageRejected`.
    """
    return prepare(decode(data, limits, preprocessing), preprocessing)


def decode_and_measure(data: bytes, preprocessing: Preprocessing, limits: Limits) -> tuple[np.ndarray, Measures]:
    """Return the model's input as `decode_and_prepare`, and measures of the picture before it is resized.

    Raises `ImageRejected`.
    """
    picture = decode(data, limits, preprocessing)
    return prepare(picture, preprocessing), measure(picture)


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
            found = re.search(r"\d+ pixels", str(error))  # Pillow's own check of the header
            raise _too_large(found[0] if found else "too many pixels", limits, image_format) from None
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
        what = f"camera raw: {image_format}, which is"
        if image_format == "TIFF":
            what = "TIFF whose first picture is a preview, as in camera raw, is"
        hint = "DPIQA_RAW_PREVIEWS=true has the preview of camera raw scored"
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, f"{what} not decoded; {hint}")
    if image_format not in ALLOWED and image_format not in OPTIONAL:
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, f"{image_format} is not decoded")
    return image_format


def _decode_admitted(data: bytes, image_format: str, limits: Limits) -> Image.Image:
    if image_format in OPTIONAL:
        decoded = decode_optional(data, image_format, lambda width, height: _check_size(width, height, limits))
        if not isinstance(decoded, Image.Image):
            return _decode_admitted(decoded, "JPEG", limits)
        return _finished(decoded, Header(kind=Kind(format=image_format, colours="any"), body=data))
    header = _admitted_header(data, image_format)
    with _opened(header) as image:
        _check_size(*image.size, limits, image_format)
        return _finished(image, header)


def _decode_reduced(data: bytes, limits: Limits, preprocessing: Preprocessing) -> Image.Image:
    """Decode a large JPEG at the smallest scale whose sides are at least twice those of the model's input."""
    header = _admitted_header(data, "JPEG")
    with _opened(header) as image:
        _check_size(*image.size, limits.for_reduced())
        least = 2 * max(preprocessing.width, preprocessing.height)
        scale = next((scale for scale in (8, 4, 2) if min(image.size) // scale >= least), 1)
        image.draft(image.mode, (image.width // scale, image.height // scale))
        return _finished(image, header)


def _admitted_header(data: bytes, image_format: str) -> Header:
    """Read the header of a kind that is decoded. Of a file that ends early, what is missing may look like a kind."""
    try:
        header = read_header(data, image_format)
        require_decoded(header.kind)
    except ImageRejected as rejection:
        if ends_early(data, image_format):
            raise ImageRejected(Reason.TRUNCATED, f"{image_format} ends too early") from rejection
        raise
    return header


def _opened(header: Header) -> Image.Image:
    """Open what the header describes, so that Pillow reads it right."""
    kind = header.kind
    if kind.format == "TIFF":
        return tiff.opened(header.body, kind, header.tags)
    image = Image.open(io.BytesIO(header.body), formats=[kind.format])
    if kind.format == "BMP" and image.mode == "L" and kind.bits == "4" and kind.coding == "none":
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, "BMP of 4 bits with the greys 0 to 15")  # Pillow misreads it
    return image


def _finished(image: Image.Image, header: Header) -> Image.Image:
    """Decode what was opened; upright, sRGB."""
    image.info.pop("xmp", None)  # or a TIFF would be turned as its XMP says, which no browser does
    if getattr(image, "default_image", False):
        image.seek(1)  # a PNG's picture for programs that show no animations
    picture = _PICTURES[header.kind.format](image) if header.kind.format in _PICTURES else image
    picture.load()
    turn = _TURNS.get(exif_orientation(image.info.get("exif", b"")))
    return to_rgb(picture if turn is None else picture.transpose(turn), header)


def _whole_canvas(image: Image.Image) -> Image.Image:
    """Return the first frame of a GIF on its canvas, which is transparent where the frame does not cover it."""
    left, top, right, bottom = image.tile[0].extents  # type: ignore[attr-defined]
    if (left, top, right, bottom) == (0, 0, *image.size):
        return image
    canvas = Image.new("RGBA", image.size)
    canvas.paste(image.convert("RGBA").crop((left, top, right, bottom)), (left, top))
    return canvas


def _unpacked(image: Image.Image) -> Image.Image:
    """Return the first frame of a WebP. Pillow keeps libwebp's two canvases while it copies one: 400 MB of 50 MP."""
    webp: Any = image
    samples, _, _ = webp._get_next()
    webp._decoder = None
    picture = Image.frombytes(image.mode, image.size, samples, "raw", webp.rawmode)
    picture.info = image.info
    return picture


#: Formats whose picture is not what Pillow's image holds by itself.
_PICTURES = {"GIF": _whole_canvas, "WEBP": _unpacked}


def _check_size(width: int, height: int, limits: Limits, image_format: str = "") -> None:
    if width < 1 or height < 1:
        raise ImageRejected(Reason.CORRUPT, f"the header says {width}x{height} pixels")
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise _too_large(f"{width}x{height} pixels", limits, image_format)


def _too_large(size: str, limits: Limits, image_format: str) -> ImageRejected:
    """Return the error of an image above the limits; it names the setting that admits a JPEG."""
    allowed = f"at most {limits.max_pixels} pixels and {limits.max_side} a side"
    hint = "; DPIQA_MAX_PANORAMA_PIXELS admits larger JPEGs at a reduced scale" if image_format == "JPEG" else ""
    return ImageRejected(Reason.TOO_MANY_PIXELS, f"{size}, {allowed}{hint}")


def _damaged(data: bytes, image_format: str, error: Exception) -> ImageRejected:
    """Distinguish truncated from corrupt: one needs another upload, the other another file."""
    detail = _BAD_HEADER if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
    detail = _ADDRESS.sub("...", detail)[:200]
    if "truncated" in detail.lower() or ends_early(data, image_format):
        return ImageRejected(Reason.TRUNCATED, f"{image_format} ends too early: {detail}")
    for known_format, known, meaning in _NOT_DAMAGE:
        if image_format == known_format and detail.startswith(known):
            return ImageRejected(Reason.UNSUPPORTED_FORMAT, f"{image_format} {meaning}")
    return ImageRejected(Reason.CORRUPT, f"{image_format} cannot be decoded: {detail}")
