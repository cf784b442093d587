"""Which image format bytes claim to be, by signature alone. Nothing is parsed, nothing is decoded."""

from collections.abc import Callable

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
    """Name of the image format that `data` starts like, or None when it is no image that we know.

    Names in `ALLOWED` are Pillow's; any other name is a format that is recognised and not decoded.
    """
    if data[:4] in (b"II*\x00", b"MM\x00*") and data[8:10] == b"CR":
        return "raw (Canon)"
    by_prefix = next((name for prefix, name in _PREFIXES if data.startswith(prefix)), None)
    return by_prefix or next(filter(None, (check(data) for check in _CHECKS)), None)


def _riff(data: bytes) -> str | None:
    return "WEBP" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _bmp(data: bytes) -> str | None:
    """Two letters are a weak signature, so the size of the header that follows is looked at too."""
    is_bmp = data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES
    return "BMP" if is_bmp else None


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


def _netpbm(data: bytes) -> str | None:
    return "PNM" if data[:1] == b"P" and data[1:2] in b"1234567" and data[2:3] in b" \t\r\n" and data[2:3] else None


def _dicom(data: bytes) -> str | None:
    return "DICOM" if data[128:132] == b"DICM" else None


def _svg(data: bytes) -> str | None:
    head = data[:2048].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return "SVG" if head.startswith(b"<") and b"<svg" in head and b"<html" not in head else None


_CHECKS: tuple[Callable[[bytes], str | None], ...] = (_riff, _bmp, _iso_media, _netpbm, _dicom, _svg)
