"""Conversion of every Pillow mode to 8-bit sRGB; `docs/imaging.md` has the table.

Pillow's own `convert("RGB")` does not suffice: it clips 16-bit grey to white, drops transparency and refuses LAB.
"""

import io

import numpy as np
from PIL import Image

from dpiqa.imaging import tiff
from dpiqa.imaging.colour import lab_to_srgb, to_srgb
from dpiqa.imaging.headers import Header

GREY = (128, 128, 128)  #: below transparent pixels
_STRIP_PIXELS = 1 << 20  #: converted at a time
_ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
_INTEGER_MODES = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})


def to_rgb(image: Image.Image, header: Header) -> Image.Image:
    """Convert a decoded image of any mode to mode RGB, 8 bits, sRGB where the profile is usable.

    Raises `ValueError` for a mode that Pillow cannot convert.
    """
    profile = image.info.get("icc_profile") or header.profile
    if header.transparent is not None:
        opaque = ~_named(image, header, header.transparent)
        plain = Image.fromarray(_to_8_bit(image, header)) if image.mode in _INTEGER_MODES else image
        return _flatten(_colour(plain, profile), Image.fromarray(np.where(opaque, 255, 0).astype(np.uint8)))
    if image.mode in _INTEGER_MODES or image.mode == "F":
        return to_srgb(Image.fromarray(_to_8_bit(image, header)), profile)
    if image.mode == "LAB":
        return lab_to_srgb(image)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        return _over_grey(image, header, profile)
    return _colour(image, profile)


def _colour(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert without alpha. A profile fits the mode it was written for, so it is applied before any conversion."""
    plain = image if image.mode in ("RGB", "L", "CMYK") else image.convert("L" if image.mode == "1" else "RGB")
    return to_srgb(plain, profile)


def _over_grey(image: Image.Image, header: Header, profile: bytes | None) -> Image.Image:
    """Convert an image with an alpha channel. A BMP whose alpha is 0 throughout never had one.

    Strip by strip: of 50 megapixels each copy takes 200 MB.
    """
    is_opaque = header.kind.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0)
    result = Image.new("RGB", image.size)
    n_rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, n_rows):
        box = (0, top, image.width, min(top + n_rows, image.height))
        strip = image.crop(box)
        if strip.mode == "La":
            strip = strip.convert("LA")
        whole = strip if strip.mode in ("LA", "RGBA") else strip.convert("RGBA")
        colour = to_srgb(whole.convert("L" if whole.mode == "LA" else "RGB"), profile)
        result.paste(colour if is_opaque else _flatten(colour, whole.getchannel("A")), box)
    return result


def _flatten(colour: Image.Image, alpha: Image.Image) -> Image.Image:
    """Composite over mid-grey, so that invisible pixels do not count, and neither white nor black edges appear."""
    if alpha.getextrema() == (255, 255):
        return colour
    return Image.composite(colour, Image.new("RGB", colour.size, GREY), alpha)


def _named(image: Image.Image, header: Header, transparent: tuple[int, ...]) -> np.ndarray:
    """Return the pixels of the transparent colour, (H, W) bool. The colour is in samples of the file's depth."""
    bits = int(header.kind.bits)
    if bits == 16 and image.mode == "RGB":  # Pillow drops the low bytes: read once more, it drops the high ones
        high, low = (np.array([value >> shift & 255 for value in transparent]) for shift in (8, 0))
        same = (np.asarray(image) == high) & (np.asarray(_low_bytes(header.body)) == low)
        return np.asarray(same.all(axis=-1))
    scale = 255 // ((1 << bits) - 1) if bits < 8 else 1
    wanted = np.array(transparent) * scale if bits != 8 else np.array(transparent) & 255  # as browsers read them
    samples = np.asarray(image.convert("L") if image.mode == "1" else image)
    equal = samples.reshape(*samples.shape[:2], -1) == wanted
    return np.asarray(equal.all(axis=-1))


def _low_bytes(body: bytes) -> Image.Image:
    with Image.open(io.BytesIO(body), formats=["PNG"]) as image:
        image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
        image.load()
        return image


def _to_8_bit(image: Image.Image, header: Header) -> np.ndarray:
    """Grey with more than 8 bits -> (H, W) uint8, scaled rather than clipped."""
    values = np.asarray(image)
    if image.mode == "I" and header.kind.samples == "unsigned":
        values = values.view(np.uint32)
    grey = _scaled(values, header)
    return 255 - grey if header.kind.colours == "min-is-white" else grey


def _scaled(values: np.ndarray, header: Header) -> np.ndarray:
    """Scale to 0-255: by the known white of up to 16 bits, else by the values. What was not measured is black."""
    kind = header.kind
    measured = np.isfinite(values) if values.dtype == np.float32 else np.ones(values.shape, dtype=bool)
    no_data = tiff.no_data_value(header.tags)
    if no_data is not None and (kind.samples, kind.bits) not in (("unsigned", "12"), ("unsigned", "16")):
        measured &= values != np.float32(no_data)
    values = np.where(measured, values, values.dtype.type(0)) if not measured.all() else values
    known = values[measured]
    low, high = (known.min(), known.max()) if known.size else (0, 0)
    white = 4095 if kind.bits == "12" else 65535
    if values.dtype != np.float32 and low >= 0 and high <= white:
        table = ((np.arange(white + 1, dtype=np.uint32) * 255 + white // 2) // white).astype(np.uint8)
        return np.asarray(table[values])
    return np.where(measured, _stretch(values, float(low), float(high)), np.uint8(0))


def _stretch(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale values without a known white: 0-1 and 0-255 by their range, others from minimum to maximum."""
    if low >= 0 and high <= 255:
        scale = 255.0 if high <= 1 else 1.0
        return np.asarray(np.rint(values * scale), dtype=np.uint8)
    span = (high - low) or 1.0
    return np.asarray(np.rint((values.astype(np.float32) - low) * (255.0 / span)).clip(0, 255), dtype=np.uint8)
