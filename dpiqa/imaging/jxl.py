"""JPEG XL, decoded by pillow-jxl-plugin (libjxl). Its decoder is called directly.

The plugin's Pillow class decodes while it opens, applies the EXIF orientation a second time, shows the last frame of an
animation, and mistakes the samples of 16-bit grey with alpha.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from dpiqa.errors import ImageRejected
from dpiqa.imaging import boxes
from dpiqa.imaging.jxl_header import BARE, JxlHeader, read_header
from dpiqa.types import Reason

_PQ, _HLG = 16, 18  # transfer characteristics of ITU-T H.273


def decode(data: bytes, check_size: Callable[[int, int], None]) -> bytes | Image.Image:
    """Decode to mode L, I;16, LA, RGB or RGBA, upright, with the ICC profile of the samples in `info`.

    A recompressed JPEG becomes that JPEG file again. Raises `ImageRejected`, and what
    `check_size` raises for the size in the header; other errors mean damage.
    """
    if ends_early(data):
        raise ImageRejected(Reason.TRUNCATED, "JPEG XL ends too early")
    header = read_header(data)
    check_size(header.width, header.height)
    _admit(header)
    try:
        is_jpeg, info, pixels, profile, _ = library().Decoder(num_threads=0)(data)
    except RuntimeError:
        # Its own text is about how to build libjxl. It does not say which of the two it is.
        raise ImageRejected(Reason.CORRUPT, "JPEG XL is damaged or ends too early") from None
    if is_jpeg:
        return bytes(pixels)
    samples = _samples(pixels, (info.height, info.width, info.num_channels + info.has_alpha_channel))
    image = Image.fromarray(samples)
    image.info = {} if header.is_srgb or not profile else {"icc_profile": bytes(profile)}
    return image


def ends_early(data: bytes) -> bool:
    """Return whether a box is incomplete, or the codestream is missing. A bare codestream has no length to compare."""
    if data.startswith(BARE):
        return False
    return boxes.ends_early(data, b"jxlc") and boxes.ends_early(data, b"jxlp")


def library() -> Any:
    """Import pillow-jxl-plugin. Raises `ImportError`."""
    import pillow_jxl  # noqa: PLC0415 - an extra

    return pillow_jxl


def _admit(header: JxlHeader) -> None:
    """Raise `ImageRejected` for what would be shown wrong."""
    if header.transfer in (_PQ, _HLG):
        name = "PQ" if header.transfer == _PQ else "HLG"
        raise ImageRejected(Reason.UNSUPPORTED_COLOUR, f"JPEG XL in high dynamic range ({name})")
    unproved = {
        "an animation": header.is_animated,
        "CMYK": header.has_black,
        "colours multiplied by their alpha": header.is_premultiplied,
    }
    for what, is_there in unproved.items():
        if is_there:
            raise ImageRejected(Reason.UNSUPPORTED_FORMAT, f"JPEG XL with {what} is not decoded")


def _samples(pixels: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Return (H, W) or (H, W, C): uint8, or uint16 for grey without alpha. Floats are 0 to 1, others are cut off.

    The library returns colours in 8 bits, and grey with as many bytes per sample as the file has.
    """
    n_bytes, rest = divmod(len(pixels), shape[0] * shape[1] * shape[2])
    if rest or n_bytes not in (1, 2, 4):
        raise ValueError("libjxl returned another number of samples")
    kind = {1: np.uint8, 2: np.uint16, 4: np.float32}[n_bytes]
    samples: np.ndarray = np.frombuffer(pixels, kind).reshape(shape if shape[2] > 1 else shape[:2])
    if n_bytes == 4:
        samples = np.rint(np.nan_to_num(samples).clip(0, 1) * 255).astype(np.uint8)
    return (samples >> 8).astype(np.uint8) if n_bytes == 2 and shape[2] > 1 else samples
