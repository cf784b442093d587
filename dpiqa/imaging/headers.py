"""Headers of image files: the kind of picture, what its numbers mean, and the bytes for the decoder. No decoding."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from dpiqa.errors import ImageRejected
from dpiqa.imaging import png, tiff
from dpiqa.imaging.avif import read_avif
from dpiqa.imaging.kinds import Kind
from dpiqa.types import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Facts that a file states about its picture, apart from those that Pillow reads by itself."""

    kind: Kind
    body: bytes  #: for Pillow
    profile: bytes | None = None  #: ICC profile that was not embedded as one; None: Pillow's, or sRGB
    transparent: tuple[int, ...] | None = None  #: transparent colour of a PNG of grey or RGB, in its own samples
    tags: Any = field(default_factory=dict)  #: of the first directory of a TIFF


def read_header(data: bytes, image_format: str) -> Header:
    """Read the header of a format of `formats.ALLOWED`.

    Raises `ImageRejected` where the kind is decided by the header, and other exceptions for a damaged file.
    """
    return _READERS[image_format](data)


def _png(data: bytes) -> Header:
    chunks = png.read_chunks(data)
    return Header(
        kind=chunks.kind,
        body=b"".join(chunks.pieces),
        profile=png.profile_of(chunks),
        transparent=chunks.transparent,
    )


def _tiff(data: bytes) -> Header:
    tags = tiff.read_directory(data)
    return Header(kind=tiff.kind_of(tags), body=data, tags=tags)


def exif_orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block, 1 to 8; 1 (upright) where there is none as browsers read it."""
    block = exif.removeprefix(b"Exif\0\0")
    order: Literal["little", "big"] = "little" if block[:2] == b"II" else "big"
    start = int.from_bytes(block[4:8], order)
    if block[:2] not in (b"II", b"MM") or start < 8:
        return 1
    for n in range(int.from_bytes(block[start : start + 2], order)):
        entry = block[start + 2 + 12 * n : start + 14 + 12 * n]
        if entry[:8] == b"".join(value.to_bytes(size, order) for value, size in ((274, 2), (3, 2), (1, 4))):
            value = int.from_bytes(entry[8:10], order)
            return value if 1 <= value <= 8 else 1
        if len(entry) < 12:
            break
    return 1


_CODINGS = {
    0xC0: "baseline",
    0xC1: "extended",
    0xC2: "progressive",
    0xC3: "lossless",
    0xC9: "arithmetic",
    0xCA: "arithmetic progressive",
    0xCB: "arithmetic lossless",
}
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_SCAN = 0xDA


def _jpeg(data: bytes) -> Header:
    """Read the frame header, and Adobe's segment before it, which says whether 4 components are YCCK."""
    adobe = None
    for marker, start, end in _segments(data):
        if marker == 0xEE and data[start : start + 5] == b"Adobe" and end - start >= 12:
            adobe = data[start + 11]
        if marker in _FRAMES:
            bits, height, _, count = struct.unpack(">BHHB", data[start : start + 6])
            if height == 0:
                raise ImageRejected(Reason.UNSUPPORTED_FORMAT, "JPEG whose height comes after its picture (DNL)")
            colours = {1: "grey", 3: "RGB" if adobe == 0 else "YCbCr", 4: "YCCK" if adobe == 2 else "CMYK"}
            kind = Kind(
                format="JPEG",
                colours=colours.get(count, f"{count} components"),
                bits=str(bits),
                coding=_CODINGS.get(marker, f"frame type {marker - 0xC0}"),
            )
            return Header(kind=kind, body=data)
    raise ValueError("no frame header")


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of the body of each segment before the first scan."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1  # bytes between segments are passed over, as decoders do
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker == 0 or 0xD0 <= marker <= 0xD9 or marker == 1:
            at += 2
        elif marker == _SCAN:
            return
        else:
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            yield marker, at + 4, end
            at = max(end, at + 4)


def _webp(data: bytes) -> Header:
    """Read the head of one lossy or lossless picture, or of the first one in a list of chunks (VP8X)."""
    name, flags = data[12:16], 0
    at = 12
    if name == b"VP8X":
        flags = data[20]
        while at + 8 <= len(data) and name not in (b"VP8 ", b"VP8L"):
            name = data[at : at + 4]
            at += 24 if name == b"ANMF" else 8 + int.from_bytes(data[at + 4 : at + 8], "little") + (data[at + 4] & 1)
    lossless = name == b"VP8L"
    has_alpha = bool(flags & 0x10) if flags or name == b"VP8 " else bool(data[24] & 0x10)
    kind = Kind(
        format="WEBP",
        colours="RGB" if lossless else "YCbCr",
        alpha="channel" if has_alpha else "none",
        coding="lossless" if lossless else "lossy",
    )
    return Header(kind=kind, body=data)


def _gif(data: bytes) -> Header:
    return Header(kind=Kind(format="GIF", colours="palette", coding="LZW"), body=data)


_BMP_CODINGS = {0: "none", 1: "RLE8", 2: "RLE4", 3: "none", 4: "JPEG", 5: "PNG", 6: "alpha bit fields"}
_BMP_PLAIN, _BMP_BITFIELDS = 0, 3
_BMP_V3, _BMP_V4, _BMP_V5, _BMP_OS2 = 56, 108, 124, (16, 64)  #: sizes of headers; from V3 on they have masks
_EMBEDDED = b"DEBM"  #: type of colour space of a V5 header that has an ICC profile


def _bmp(data: bytes) -> Header:
    """Read bits per pixel, compression, and the masks that say which bits are which colour."""
    size = int.from_bytes(data[14:18], "little")
    if size == 12:
        bits, compression, masks = int.from_bytes(data[24:26], "little"), _BMP_PLAIN, (0, 0, 0, 0)
    else:
        bits, compression = struct.unpack("<HI", data[28:34])
        masks = struct.unpack("<4I", data[54:70])
    coding = _BMP_CODINGS.get(compression, f"compression {compression}")
    body = data
    if compression == _BMP_PLAIN and size >= _BMP_V4 and bits == 32 and masks[3]:
        body = data[:30] + bytes([_BMP_BITFIELDS]) + data[31:]  # browsers obey such masks, Pillow obeys them only so
    elif compression != _BMP_BITFIELDS:
        masks = (0, 0, 0, 0)
    elif size in _BMP_OS2:
        coding = "Huffman"
    if size < _BMP_V3:
        masks = (*masks[:3], 0)
    plain = {16: "5:5:5", 24: "8:8:8", 32: "8:8:8"}.get(bits, str(bits))
    kind = Kind(
        format="BMP",
        colours="palette" if bits <= 8 else "RGB",
        bits=":".join(str(mask.bit_count()) for mask in masks[:3]) if any(masks) else plain,
        alpha="channel" if masks[3] else "none",
        coding=coding,
    )
    return Header(kind=kind, body=_with_colours(body, size, bits), profile=_bmp_profile(data, size))


def _with_colours(data: bytes, size: int, bits: int) -> bytes:
    """Return a BMP of 4 or 8 bits that names one colour more: Pillow takes a palette of black and white for 1 bit."""
    if size == 12 or bits not in (4, 8):
        return data
    used = int.from_bytes(data[46:50], "little") or 1 << bits
    if used > 2 and (bits, used) != (4, 16):
        return data
    return data[:46] + (used + 1).to_bytes(4, "little") + data[50:]


def _bmp_profile(data: bytes, size: int) -> bytes | None:
    if size != _BMP_V5 or data[70:74] != _EMBEDDED:
        return None
    start, length = struct.unpack("<II", data[126:134])
    return data[14 + start : 14 + start + length]


def _avif(data: bytes) -> Header:
    kind, profile = read_avif(data)
    return Header(kind=kind, body=data, profile=profile)


_READERS: dict[str, Callable[[bytes], Header]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "TIFF": _tiff,
    "BMP": _bmp,
    "AVIF": _avif,
}
