"""Boxes of ISO media files, JPEG 2000 and JPEG XL: size, type, body. Nothing is decoded."""

from collections.abc import Iterator
from typing import NamedTuple

_CONTAINERS = frozenset({b"ftyp", b"meta", b"mdat", b"moov", b"free", b"jp2h", b"jp2c", b"jxlc", b"jxlp", b"jbrd"})


class Box(NamedTuple):
    """One box. `end` is what its header says, and may lie beyond the file."""

    kind: bytes  #: four characters
    start: int  #: of the body
    end: int


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Yield the boxes between two positions; ends at one that runs beyond `end` or has an impossible size.

    Size 1 means that a 64-bit size follows the type, 0 that the box runs to `end`.
    """
    limit = len(data) if end is None else end
    at = start
    while at + 8 <= limit:
        size, kind, body = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if size == 1:
            size, body = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        elif size == 0:
            size = limit - at
        if size < body - at:
            return
        yield Box(kind, body, at + size)
        at += size


def find(data: bytes, kind: bytes, start: int = 0, end: int | None = None) -> Box | None:
    """Return the first box of a type between two positions; None where there is none."""
    return next((box for box in boxes(data, start, end) if box.kind == kind), None)


def ends_early(data: bytes, needed: bytes) -> bool:
    """Return whether a box of the format runs beyond the end of the file, or no box of the type `needed` is there.

    What follows the last box, such as the film of a motion photo, is not looked at.
    """
    found = False
    for box in boxes(data):
        if box.end > len(data) and box.kind in _CONTAINERS:
            return True
        found = found or box.kind == needed
    return not found
