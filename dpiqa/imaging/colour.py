"""Colours: conversion to sRGB through ICC profiles, and profiles made of what PNG and AVIF say without one.

A colour space is named by code points of ITU-T H.273 (*CICP*), or by a gamma and chromaticities. It becomes a small
ICC profile, so that every conversion goes the same way, through LittleCMS.
"""

import io
import struct
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageCms

from dpiqa.errors import ImageRejected
from dpiqa.types import Reason

#: Chromaticities of white, red, green and blue (x, y), by code point of H.273, table 2. 2 is unspecified: sRGB's.
_D65 = (0.3127, 0.329)
PRIMARIES: dict[int, tuple[float, ...]] = {
    1: (*_D65, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06),  # BT.709, sRGB
    2: (*_D65, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06),
    4: (0.31, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),  # BT.470 M
    5: (*_D65, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),  # BT.470 BG
    6: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),  # BT.601
    7: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),  # SMPTE 240M
    8: (0.31, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),  # film
    9: (*_D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),  # BT.2020
    10: (1 / 3, 1 / 3, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),  # XYZ
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),  # DCI-P3
    12: (*_D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),  # Display P3
    22: (*_D65, 0.63, 0.34, 0.295, 0.605, 0.155, 0.077),  # EBU 3213
}
SRGB_PRIMARIES = PRIMARIES[1]
_HIGH_DYNAMIC_RANGE = {16: "PQ", 18: "HLG"}  #: transfer characteristics without a fixed white
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])
_CURVE_POINTS = 1021  #: of a tone curve in a profile: 4 steps between the values of 8-bit samples
_SAME = 2  #: largest difference of a sample from sRGB up to which a profile counts as sRGB
_MODES_OF_SPACE = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}

_Curve = Callable[[np.ndarray], np.ndarray]


def _piecewise(limit: float, slope: float, offset: float, gamma: float) -> _Curve:
    """Return a curve that is linear up to `limit`, and a shifted power above."""

    def curve(v: np.ndarray) -> np.ndarray:
        return np.where(v < limit, v / slope, ((v + offset) / (1 + offset)) ** gamma)

    return curve


def _power(gamma: float) -> _Curve:
    return lambda v: v**gamma


_BT1886 = _power(2.4)  #: the display that video of BT.709, BT.601 and BT.2020 is made for, and so browsers' choice
#: Encoded value in [0, 1] -> light in [0, 1], by code point of H.273, table 3.
_TRANSFERS: dict[int, _Curve] = {
    1: _BT1886,
    4: _power(2.2),
    5: _power(2.8),
    6: _BT1886,
    7: _piecewise(0.0912, 4.0, 0.1115, 1 / 0.45),
    8: _power(1.0),
    11: _BT1886,
    14: _BT1886,
    15: _BT1886,
    17: lambda v: np.minimum(v**2.6 * (52.37 / 48), 1.0),
}
_UNSPECIFIED, _SRGB_TRANSFER = 2, 13
_SRGB_CURVE = _piecewise(0.04045, 12.92, 0.055, 2.4)


@lru_cache(maxsize=64)
def cicp_profile(primaries: int, transfer: int) -> bytes | None:
    """Return the ICC profile of a colour space of H.273; None: sRGB.

    Raises `ImageRejected` with `UNSUPPORTED_COLOUR` for high dynamic range, and for code points without a definition.
    """
    if transfer in _HIGH_DYNAMIC_RANGE:
        name = _HIGH_DYNAMIC_RANGE[transfer]
        raise ImageRejected(Reason.UNSUPPORTED_COLOUR, f"high dynamic range ({name}) is not converted")
    curve = _SRGB_CURVE if transfer in (_UNSPECIFIED, _SRGB_TRANSFER) else _TRANSFERS.get(transfer)
    if curve is None or primaries not in PRIMARIES:
        text = f"colour primaries {primaries} with transfer characteristics {transfer} are not converted"
        raise ImageRejected(Reason.UNSUPPORTED_COLOUR, text)
    if curve is _SRGB_CURVE and PRIMARIES[primaries] == SRGB_PRIMARIES:
        return None
    return _matrix_profile(PRIMARIES[primaries], curve)


@lru_cache(maxsize=64)
def gamma_profile(gamma: float, chromaticities: tuple[float, ...]) -> bytes | None:
    """Return the ICC profile of a pure power with these chromaticities; None where these define no colour space."""
    try:
        return _matrix_profile(chromaticities, _power(gamma))
    except (np.linalg.LinAlgError, ZeroDivisionError, OverflowError, struct.error):
        return None


def _matrix_profile(chromaticities: Sequence[float], curve: _Curve) -> bytes:
    """Return an ICC profile, version 4, of three primaries and one tone curve."""
    white, *colours = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in _pairs(chromaticities))
    columns = np.array(colours).T
    matrix = columns * np.linalg.solve(columns, white)
    gains = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    matrix = np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD @ matrix
    if not np.isfinite(matrix).all():
        raise ZeroDivisionError
    points = np.rint(curve(np.linspace(0, 1, _CURVE_POINTS)) * 65535).astype(">u2")
    tone = b"curv" + bytes(4) + struct.pack(">I", _CURVE_POINTS) + points.tobytes()
    elements = {
        b"wtpt": _xyz(_D50),
        b"rXYZ": _xyz(matrix[:, 0]),
        b"gXYZ": _xyz(matrix[:, 1]),
        b"bXYZ": _xyz(matrix[:, 2]),
    }
    elements |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), tone)
    table, body = struct.pack(">I", len(elements)), b""
    start = 128 + 4 + 12 * len(elements)
    for tag, element in elements.items():
        table += tag + struct.pack(">II", start + len(body), len(element))
        body += element + bytes(-len(element) % 4)
    return _profile_header(start + len(body)) + table + body


def _pairs(values: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(values[::2], values[1::2], strict=True))


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(value) * 65536) for value in values))


def _profile_header(size: int) -> bytes:
    kinds = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x04200000, b"mntr", b"RGB ", b"XYZ ")
    made = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    return kinds + made + b"acsp" + bytes(28) + _xyz(_D50)[8:] + bytes(48)


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB, L or CMYK -> RGB, 8 bits, sRGB, through an ICC profile (perceptual).

    Grey goes through a profile of RGB as R = G = B. A profile that is broken or of another colour space is ignored.
    An image that needs no conversion is returned itself.
    """
    if profile:
        mode = _mode(profile)
        if image.mode == "L" and mode == "RGB":
            image = image.convert("RGB")
        if image.mode == mode and not _is_srgb(profile):
            transform = _transform(profile, mode)
            if transform is not None:
                return ImageCms.applyTransform(image, transform) or image.convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # `convert` would copy what is RGB already


def is_usable(profile: bytes) -> bool:
    """Return whether an ICC profile is sound.

    Raises `ImageRejected` with `UNSUPPORTED_COLOUR` if it is, but for other colours than RGB, grey and CMYK.
    """
    opened = _opened(profile)
    if opened is None:
        return False
    mode = _mode(profile)
    if mode is None:
        space = opened.profile.xcolor_space.strip()
        raise ImageRejected(Reason.UNSUPPORTED_COLOUR, f"ICC profile of {space}, not of RGB, grey or CMYK")
    return _transform(profile, mode) is not None


def _mode(profile: bytes) -> str | None:
    """Return the mode of the images that an ICC profile is for; None where it is broken or for others."""
    opened = _opened(profile)
    return None if opened is None else _MODES_OF_SPACE.get(opened.profile.xcolor_space)


@lru_cache(maxsize=8)
def _opened(profile: bytes) -> ImageCms.ImageCmsProfile | None:
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from a profile to sRGB; None: the profile is broken."""
    opened = _opened(profile)
    if opened is None:
        return None
    try:
        return ImageCms.buildTransform(opened, _srgb(), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@lru_cache(maxsize=64)
def _is_srgb(profile: bytes) -> bool:
    """Return whether a profile is sRGB, by what it does to a grid of colours; its name may say anything.

    The transform would be the identity but for rounding, and takes 100 ms for 12 megapixels.
    """
    transform = _transform(profile, "RGB") if _mode(profile) == "RGB" else None
    if transform is None:
        return False
    before = _grid()
    changed = np.asarray(ImageCms.applyTransform(before, transform), dtype=int) - np.asarray(before, dtype=int)
    return bool(np.abs(changed).max() <= _SAME)


@cache
def _grid() -> Image.Image:
    """Return an image of 18 x 18 x 18 colours."""
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(18, -1, 3))


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """LAB (D50) -> RGB. Raises `ValueError` without a transform."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    converted = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, _srgb(), "LAB", "RGB"))
    if converted is None:
        raise ValueError("no LAB transform")
    return converted
