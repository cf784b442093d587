"""Whether a damaged file is a complete one: only the lengths that formats declare are followed, no pixels."""

from collections.abc import Callable
from typing import Literal


def ends_early(data: bytes, image_format: str) -> bool:
    """Whether the structure of the format says that bytes are missing at the end. Never raises."""
    check = _CHECKS.get(image_format)
    return check is not None and check(data)


def _jpeg(data: bytes) -> bool:
    return b"\xff\xd9" not in data[-4096:]


def _png(data: bytes) -> bool:
    """Chunks are length, type, body, CRC; the last is IEND."""
    at = 8
    while at + 8 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return False
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return True


def _webp(data: bytes) -> bool:
    return len(data) < 12 or int.from_bytes(data[4:8], "little") + 8 > len(data)


def _gif(data: bytes) -> bool:
    return not data.rstrip(b"\x00").endswith(b"\x3b")


def _bmp(data: bytes) -> bool:
    return len(data) < 26 or int.from_bytes(data[2:6], "little") > len(data)


def _avif(data: bytes) -> bool:
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


def _tiff(data: bytes) -> bool:
    """Whether the first directory lies beyond the end, or what it points to."""
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
    """Where the values of a directory entry end, when they do not fit into the entry itself."""
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
    length = sizes.get(number(at + 2, 2), 0) * number(at + 4, 4)
    return number(at + 8, 4) + length if length > 4 else 0


_CHECKS: dict[str, Callable[[bytes], bool]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "BMP": _bmp,
    "AVIF": _avif,
    "TIFF": _tiff,
}
