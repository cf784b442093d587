"""AVIF by the boxes of its primary item: the kind of picture, and the colour space that Pillow does not report."""

import struct
from collections.abc import Iterator

from dpiqa.errors import ImageRejected
from dpiqa.imaging.boxes import Box, boxes, find
from dpiqa.imaging.colour import cicp_profile
from dpiqa.imaging.kinds import Kind
from dpiqa.types import Reason

#: Transfer characteristics of video (BT.709, BT.601, BT.2020): browsers show stills of them as sRGB's.
SHOWN_AS_SRGB = frozenset({1, 6, 11, 14, 15})
_SRGB_TRANSFER = 13
_IDENTITY = 0  #: matrix coefficients of pictures that are coded as RGB


def read_avif(data: bytes) -> tuple[Kind, bytes | None]:
    """Return the kind of picture, and the ICC profile of its colour space (nclx) if that is not sRGB.

    Raises `ImageRejected` for high dynamic range and cropped pictures, `ValueError` for a file without a picture.
    """
    meta = find(data, b"meta")
    if meta is None:
        raise ValueError("no meta box")
    parts = {box.kind: box for box in boxes(data, meta.start + 4, meta.end)}
    properties = list(_properties(data, parts[b"iprp"]))
    own = [properties[index - 1] for index in _associated(data, parts) if 0 < index <= len(properties)]
    if any(name == b"clap" for name, _ in own):
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, "AVIF that is cropped by its container (clap)")
    # A picture made of tiles has no configuration of its own: that of its tiles is the first one.
    codec = next(body for name, body in (*own, *properties) if name == b"av1C")
    colour = {body[:4]: body for name, body in own if name == b"colr"}
    primaries, transfer, matrix = _code_points(colour.get(b"nclx", b""))
    kind = Kind(
        format="AVIF",
        colours="grey" if codec[2] & 0x10 else "RGB" if matrix == _IDENTITY else "YCbCr",
        bits="12" if codec[2] & 0x20 else "10" if codec[2] & 0x40 else "8",
        alpha="channel" if any(name == b"auxC" and b":alpha" in body for name, body in properties) else "none",
        coding="AV1",
    )
    transfer = _SRGB_TRANSFER if transfer in SHOWN_AS_SRGB else transfer
    embedded = b"prof" in colour or b"rICC" in colour
    return kind, None if embedded else cicp_profile(primaries, transfer)


def _code_points(nclx: bytes) -> tuple[int, int, int]:
    """Return primaries, transfer and matrix; 2 each, unspecified, where there are none."""
    return struct.unpack(">3H", nclx[4:10]) if len(nclx) >= 10 else (2, 2, 2)


def _properties(data: bytes, iprp: Box) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and body of each property of the file's items."""
    container = find(data, b"ipco", iprp.start, iprp.end)
    for kind, start, end in boxes(data, container.start, container.end) if container else ():
        yield kind, data[start:end]


def _associated(data: bytes, parts: dict[bytes, Box]) -> Iterator[int]:
    """Yield the numbers, from 1, of the properties of the primary item."""
    at = parts[b"pitm"].start
    primary = int.from_bytes(data[at + 4 : at + (6 if data[at] == 0 else 8)], "big")
    for kind, start, end in boxes(data, parts[b"iprp"].start, parts[b"iprp"].end):
        if kind != b"ipma":
            continue
        id_bytes, index_bytes = (2 if data[start] == 0 else 4), (2 if data[start + 3] & 1 else 1)
        at = start + 8
        while at + id_bytes < end:
            item, count = int.from_bytes(data[at : at + id_bytes], "big"), data[at + id_bytes]
            at += id_bytes + 1
            if item == primary:
                for n in range(count):
                    value = int.from_bytes(data[at + n * index_bytes : at + (n + 1) * index_bytes], "big")
                    yield value & (0x7FFF if index_bytes == 2 else 0x7F)  # without the bit that says essential
            at += count * index_bytes
