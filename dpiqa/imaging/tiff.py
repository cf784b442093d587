"""TIFF by its first directory: the kind of picture, and corrections of what Pillow makes of it."""

import io
import sys
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImagePalette, TiffImagePlugin

from dpiqa.errors import ImageRejected
from dpiqa.imaging.kinds import Kind
from dpiqa.types import Reason

SUBFILE_TYPE, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 254, 258, 259, 262, 266
HEIGHT, STRIP_OFFSETS, ROWS_PER_STRIP = 257, 273, 278
SAMPLES_PER_PIXEL, PLANAR, COLOUR_MAP, INK_SET = 277, 284, 320, 332
EXTRA_SAMPLES, SAMPLE_FORMAT, COEFFICIENTS, SUBSAMPLING = 338, 339, 529, 530
GDAL_NODATA, DNG_VERSION = 42113, 50706
_REDUCED_RESOLUTION = 1  #: bit of the subfile type
_COLOURS = {0: "min-is-white", 1: "min-is-black", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}
_COLOURS |= {4: "a mask", 9: "ICCLab", 10: "ITULab", 32803: "a colour filter array", 34892: "linear raw"}
_COLOURS |= {32844: "LogL", 32845: "LogLuv"}
_N_COLOURS = {2: 3, 5: 4, 6: 3, 8: 3, 9: 3, 10: 3, 32845: 3}  #: samples per pixel without extra ones; others: 1
_CODINGS = {1: "none", 2: "CCITT RLE", 3: "CCITT G3", 4: "CCITT G4", 5: "LZW", 6: "old-style JPEG", 7: "JPEG"}
_CODINGS |= {8: "deflate", 32946: "deflate", 32773: "PackBits", 34925: "LZMA", 50000: "Zstandard", 34712: "JPEG 2000"}
_CODINGS |= {50001: "WebP", 50002: "JPEG XL", 34887: "LERC", 32809: "ThunderScan", 34676: "SGI LogLuv"}
_FAX = (2, 3, 4)  #: codings that have black and white, and no other meaning
_SAMPLES = {1: "unsigned", 2: "signed", 3: "float", 4: "undefined", 5: "complex", 6: "complex"}
_ALPHA = {(): "none", (0,): "ignored", (1,): "premultiplied", (2,): "channel", (999,): "channel"}
_SUBSAMPLINGS = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0"}
_BT601 = (0.299, 0.587, 0.114)
#: Kinds that Pillow's decoders read and its table lacks: byte order, photometric interpretation, sample format,
#: fill order, bits, extra samples -> mode and raw mode.
_MORE_MODES: dict[Any, tuple[str, str]] = {
    (b"MM", 0, (1,), 1, (16,), ()): ("I;16B", "I;16B"),
    (b"MM", 1, (1,), 1, (32,), ()): ("I", "I;32BS"),
}
#: Modes of Pillow that swap bytes which libtiff has already swapped.
_NATIVE = {"F;32BF": "F;32F", "I;32BS": "I;32S", "I;16BS": "I;16S"} if sys.byteorder == "little" else {}


def read_directory(data: bytes) -> Mapping[int, Any]:
    """Return the tags of the first directory.

    Raises `ImageRejected` for big-endian BigTIFF, which Pillow does not read, and others for a damaged directory.
    """
    if data[:4] == b"MM\x00+":
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, "BigTIFF in big-endian byte order is not decoded")
    head_bytes = 16 if data[2:4] == b"+\x00" else 8
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[:head_bytes])
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    return tags


def kind_of(tags: Mapping[int, Any]) -> Kind:
    """Return the kind of picture. Raises `ImageRejected` for a preview, or for what the kind cannot say."""
    if DNG_VERSION in tags:
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, "camera raw (DNG)")
    if tags.get(SUBFILE_TYPE, 0) & _REDUCED_RESOLUTION:
        # Camera raw files are TIFFs whose first picture is a thumbnail, and a thumbnail's score would mislead.
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, "TIFF whose first picture is a reduced copy, as in camera raw")
    photometric, coding = tags.get(PHOTOMETRIC, 0), tags.get(COMPRESSION, 1)
    bits, samples = _list(tags, BITS, 1), _list(tags, SAMPLE_FORMAT, 1)
    count = tags.get(SAMPLES_PER_PIXEL, len(bits))
    extra = tuple(_list(tags, EXTRA_SAMPLES)) if EXTRA_SAMPLES in tags else ()
    if count != _N_COLOURS.get(photometric, 1) + len(extra):
        raise ImageRejected(
            Reason.UNSUPPORTED_FORMAT, f"TIFF of {count} samples per pixel, of which {len(extra)} are declared extra"
        )
    if coding in (1, 5, 8, 32946, 32773) and tags.get(FILL_ORDER, 1) != 1 and set(bits) != {1}:
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, "TIFF with reversed bits (FillOrder 2)")
    if PHOTOMETRIC not in tags and coding not in _FAX:
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, "TIFF that does not say what its samples mean")
    if photometric == 5 and tags.get(INK_SET, 1) != 1:
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, "TIFF of inks that are not CMYK")
    kind = Kind(
        format="TIFF",
        colours=_colours(tags, photometric, coding),
        bits="+".join(map(str, sorted(set(bits)))),
        samples="+".join(sorted({_SAMPLES.get(sample, str(sample)) for sample in samples})),
        alpha=_alpha(extra),
        planes="separate" if tags.get(PLANAR, 1) == 2 and count > 1 else "plain",
        coding=_CODINGS.get(coding, f"compression {coding}"),
    )
    _require_strips(tags, count if kind.planes == "separate" else 1)
    return kind


def _require_strips(tags: Mapping[int, Any], n_planes: int) -> None:
    """Raise `ImageRejected` where the directory names too few strips: Pillow leaves the rest of the picture black."""
    if STRIP_OFFSETS not in tags:
        return  # of tiles, or no picture
    height = tags.get(HEIGHT, 0)
    rows = min(tags.get(ROWS_PER_STRIP, height), height) or 1
    there, needed = len(_list(tags, STRIP_OFFSETS)), -(-height // rows) * n_planes
    if there < needed:
        raise ImageRejected(Reason.CORRUPT, f"TIFF of {needed} strips, of which {there} are there")


def _list(tags: Mapping[int, Any], tag: int, default: int = 0) -> list[int]:
    value = tags.get(tag, default)
    return list(value) if isinstance(value, tuple) else [value]


def _colours(tags: Mapping[int, Any], photometric: int, coding: int) -> str:
    colours = _COLOURS.get(photometric, f"photometric interpretation {photometric}")
    if photometric != 6 or coding == 7:
        return colours
    across, down = tags.get(SUBSAMPLING, (2, 2))
    name = _SUBSAMPLINGS.get((across, down), f"{across}x{down}")
    plain = all(abs(float(a) - b) < 0.002 for a, b in zip(tags.get(COEFFICIENTS, _BT601), _BT601, strict=True))
    return f"{colours} {name}" + ("" if plain else " with coefficients of its own")


def _alpha(extra: tuple[int, ...]) -> str:
    """Return the meaning of the extra samples: the first may be alpha, others are left out."""
    if extra[:1] not in _ALPHA or any(extra[1:]):
        return f"extra samples {extra}"
    return _ALPHA[extra[:1]] + (" + more" if len(extra) > 1 else "")


def opened(data: bytes, kind: Kind, tags: Mapping[int, Any]) -> Image.Image:
    """Open a TIFF of a kind in the way in which Pillow reads it right. Changes Pillow's settings: not thread-safe."""
    libtiff, more = TiffImagePlugin.READ_LIBTIFF, _MORE_MODES.keys() - TiffImagePlugin.OPEN_INFO.keys()
    TiffImagePlugin.READ_LIBTIFF = libtiff or kind.planes == "separate"  # Pillow's own decoder mixes up such samples
    TiffImagePlugin.OPEN_INFO.update(_MORE_MODES)
    try:
        image = Image.open(io.BytesIO(data), formats=["TIFF"])
    finally:
        TiffImagePlugin.READ_LIBTIFF = libtiff
        for key in more:
            del TiffImagePlugin.OPEN_INFO[key]
    image.tile = [_corrected(tile) for tile in image.tile]
    colours = tags.get(COLOUR_MAP)
    if image.mode in ("P", "PA") and colours and max(colours) < 256:  # of 8 bits instead of 16, as libtiff reads it
        image.palette = ImagePalette.raw("RGB;L", bytes(colours))
    return image


def _corrected(tile: Any) -> Any:
    if tile.codec_name != "libtiff":
        return tile
    mode, *rest = tile.args
    return tile._replace(args=(_NATIVE.get(mode, mode), *rest))


def no_data_value(tags: Mapping[int, Any]) -> float | None:
    """Return the value of GDAL's `GDAL_NODATA`, of samples that were not measured; None: there is none."""
    try:
        return float(str(tags[GDAL_NODATA]).strip("\0 "))
    except (KeyError, ValueError):
        return None
