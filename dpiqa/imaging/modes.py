"""Conversion of every Pillow mode to 8-bit sRGB; `docs/imaging.md` has the table.

Pillow's own `convert("RGB")` does not suffice: it clips 16-bit grey to white, drops transparency and refuses LAB.
"""

import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

GREY = (128, 128, 128)  #: below transparent pixels
_TAG_BITS_PER_SAMPLE = 258
_ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
_INTEGER_MODES = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded image of any mode to mode RGB, 8 bits, sRGB where the embedded profile is usable.

    Raises `ValueError` for a mode that Pillow cannot convert.
    """
    profile = image.info.get("icc_profile")
    if image.mode in _INTEGER_MODES or image.mode == "F":
        return _with_profile(Image.fromarray(_to_8_bit(image)), profile)
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        return _flatten(image.convert("RGBA"), profile)
    if image.mode == "P":
        has_alpha = image.palette is not None and image.palette.mode.endswith("A")
        return _flatten(image.convert("RGBA"), profile) if has_alpha else _colour(image, profile)
    return _colour(image, profile)


def _colour(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert without alpha. A profile fits the mode it was written for, so it is applied before any conversion."""
    plain = image if image.mode in ("RGB", "L", "CMYK") else image.convert("L" if image.mode == "1" else "RGB")
    return _with_profile(plain, profile)


def _flatten(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Composite RGBA over mid-grey, so that invisible pixels do not count, and neither white nor black edges appear."""
    colour = _with_profile(image.convert("RGB"), profile)
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return colour
    return Image.composite(colour, Image.new("RGB", image.size, GREY), alpha)


def _to_8_bit(image: Image.Image) -> np.ndarray:
    """Grey with more than 8 bits -> (H, W) uint8, scaled rather than clipped."""
    values = np.asarray(image)
    if image.mode == "F":
        return _stretch(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0))
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    tags: Any = getattr(image, "tag_v2", None)
    bits = tags.get(_TAG_BITS_PER_SAMPLE, (16,)) if tags is not None else (16,)
    white = 4095 if bits and bits[0] == 12 else 65535  # 12 bits if a TIFF's tags say so
    if low < 0 or high > white:
        return _stretch(values)
    table = ((np.arange(white + 1, dtype=np.uint32) * 255 + white // 2) // white).astype(np.uint8)
    scaled: np.ndarray = table[values]
    return scaled


def _stretch(values: np.ndarray) -> np.ndarray:
    """Scale values without a known white: 0-1 and 0-255 by their range, others from minimum to maximum."""
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 255:
        scale = 255.0 if high <= 1 else 1.0
        return np.asarray(np.rint(values * scale), dtype=np.uint8)
    span = (high - low) or 1.0
    return np.asarray(np.rint((values.astype(np.float32) - low) * (255.0 / span)).clip(0, 255), dtype=np.uint8)


def _with_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB, L or CMYK -> RGB through its ICC profile. A profile that is broken or of another mode is ignored."""
    if profile:
        try:
            return _through_icc(image, profile)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
    return image.convert("RGB")


def _through_icc(image: Image.Image, profile: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if image.mode == "RGB" and "srgb" in (source.profile.profile_description or "").lower():
        return image  # the transform is the identity but for rounding, and takes 100 ms for 12 megapixels
    converted = ImageCms.profileToProfile(image, source, _srgb(), outputMode="RGB")
    if converted is None:
        raise ValueError("no transform")
    return converted


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    converted = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, _srgb(), "LAB", "RGB"))
    if converted is None:
        raise ValueError("no LAB transform")
    return converted
