"""Image formats by their bytes: the signature at the start, and whether a damaged file is complete. No decoding."""

import re
from collections.abc import Callable
from typing import Literal

#: Pillow names of the formats that are decoded. The rest of Pillow's decoders are never reached.
ALLOWED = frozenset({"JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"})

_PREFIXES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),  # BigTIFF
    (b"MM\x00+", "TIFF"),
    (b"8BPS", "PSD"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"IIU\x00", "raw (Panasonic)"),
    (b"IIRO", "raw (Olympus)"),
    (b"IIRS", "raw (Olympus)"),
    (b"MMOR", "raw (Olympus)"),
    (b"FUJIFILMCCD-RAW", "raw (Fujifilm)"),
    (b"FOVb", "raw (Sigma)"),
    (b"\x00MRM", "raw (Minolta)"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"icns", "ICNS"),
    (b"DDS ", "DDS"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"SIMPLE  =", "FITS"),
    (b"qoif", "QOI"),
    (b"FLIF", "FLIF"),
    (b"BPG\xfb", "BPG"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"AT&TFORM", "DjVu"),
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_BMP_HEADER_SIZES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})


def sniff(data: bytes) -> str | None:
    """Return the image format of the first bytes of `data`, or None if they are not a known signature.

    Names in `ALLOWED` are Pillow's; any other name is a recognised format that is not decoded.
    """
    if data[:4] in (b"II*\x00", b"MM\x00*") and data[8:10] == b"CR":
        return "raw (Canon)"
    by_prefix = next((name for prefix, name in _PREFIXES if data.startswith(prefix)), None)
    return by_prefix or next(filter(None, (signature(data) for signature in _SIGNATURES)), None)


def _iso_media(data: bytes) -> str | None:
    """AVIF, HEIC and Canon's CR3 share one container; the brands in its first box tell them apart."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), 4096)
    brands = {data[8:12]} | {data[at : at + 4] for at in range(16, end, 4)}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    if brands & _HEIF_BRANDS:
        return "HEIC"
    return "raw (Canon)" if data[8:12] == b"crx " else None


def _svg(data: bytes) -> str | None:
    head = data[:2048].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return "SVG" if head.startswith(b"<") and b"<svg" in head and b"<html" not in head else None


#: Signatures that are more than a prefix. Two letters are a weak one, so the size of BMP's header is checked, too.
_SIGNATURES: tuple[Callable[[bytes], str | None], ...] = (
    lambda data: "WEBP" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None,
    lambda data: "BMP" if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES else None,
    _iso_media,
    lambda data: "PNM" if re.match(rb"P[1-7][ \t\r\n]", data) else None,
    lambda data: "DICOM" if data[128:132] == b"DICM" else None,
    _svg,
)


def ends_early(data: bytes, image_format: str) -> bool:
    """Return whether bytes are missing at the end, by the lengths that the format declares. Never raises."""
    check = _STRUCTURES.get(image_format)
    return check is not None and check(data)


def _jpeg_ends_early(data: bytes) -> bool:
    return b"\xff\xd9" not in data[-4096:]


def _png_ends_early(data: bytes) -> bool:
    """Chunks are length, type, body, CRC; the last is IEND."""
    at = 8
    while at + 8 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return False
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return True


def _webp_ends_early(data: bytes) -> bool:
    return len(data) < 12 or int.from_bytes(data[4:8], "little") + 8 > len(data)


def _gif_ends_early(data: bytes) -> bool:
    return not data.rstrip(b"\x00").endswith(b"\x3b")


def _bmp_ends_early(data: bytes) -> bool:
    return len(data) < 26 or int.from_bytes(data[2:6], "little") > len(data)


def _avif_ends_early(data: bytes) -> bool:
    """Boxes are size, type, body; size 1 means a 64-bit size follows, 0 that the box runs to the end."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 0:
            return False
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        at += max(size, 8)
    return at != len(data)


def _tiff_ends_early(data: bytes) -> bool:
    """Return whether the first directory, or a value of it, lies beyond the end."""
    if len(data) < 8 or data[2:3] == b"+" or data[3:4] == b"+":
        return len(data) < 16
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    number: Callable[[int, int], int] = lambda at, size: int.from_bytes(data[at : at + size], order)  # noqa: E731
    directory = number(4, 4)
    entries = number(directory, 2)
    if directory + 2 + 12 * entries > len(data):
        return True
    return any(_out_of_line_end(number, directory + 2 + 12 * n) > len(data) for n in range(entries))


def _out_of_line_end(number: Callable[[int, int], int], at: int) -> int:
    """End of a directory entry's values, if they do not fit into the entry itself; else 0."""
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
    length = sizes.get(number(at + 2, 2), 0) * number(at + 4, 4)
    return number(at + 8, 4) + length if length > 4 else 0


_STRUCTURES: dict[str, Callable[[bytes], bool]] = {
    "JPEG": _jpeg_ends_early,
    "PNG": _png_ends_early,
    "WEBP": _webp_ends_early,
    "GIF": _gif_ends_early,
    "BMP": _bmp_ends_early,
    "AVIF": _avif_ends_early,
    "TIFF": _tiff_ends_early,
}
