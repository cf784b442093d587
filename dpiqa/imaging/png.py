"""PNG by its chunks: the kind of picture, what its numbers mean, and the chunks that hold the picture.

Pillow gets only those chunks. Of the others it would reject long texts and profiles, which are none of the picture,
and read an orientation out of texts, which no browser does.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from dpiqa.errors import ImageRejected
from dpiqa.imaging.colour import SRGB_PRIMARIES, cicp_profile, gamma_profile, is_usable
from dpiqa.imaging.kinds import Kind
from dpiqa.types import Reason

SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Ancillary chunks that the picture needs: frames of an animation, and the orientation.
_FOR_PILLOW = frozenset({b"acTL", b"fcTL", b"fdAT"})
_BEFORE_DATA = frozenset({b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"eXIf", b"tRNS"})
_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey", 6: "RGB"}
_PALETTE, _ALPHA_TYPES = 3, (4, 6)
_MAX_PROFILE_BYTES = 16 * 1024 * 1024
_SRGB_GAMMA = 45455  #: x 100,000; values within 5 % count as sRGB where no chromaticities are named, as in browsers
_TOLERANCE = 0.05


@dataclass(slots=True)
class Chunks:
    """The chunks of a PNG, sorted by use."""

    header: bytes = b""
    palette: bytes = b""
    before_data: dict[bytes, bytes] = field(default_factory=dict)  #: the first of each name, with a right checksum
    pieces: list[bytes | memoryview] = field(default_factory=list)  #: the PNG that Pillow gets

    @property
    def bits(self) -> int:
        """Bits per sample."""
        return self.header[8]

    @property
    def colour_type(self) -> int:
        """Colour type, a number of the specification."""
        return self.header[9]

    @property
    def is_animated(self) -> bool:
        """Return whether frames are to be shown one after the other."""
        return any(bytes(piece[4:8]) == b"acTL" for piece in self.pieces)

    @property
    def transparent(self) -> tuple[int, ...] | None:
        """The transparent colour of a picture of grey or RGB, in samples of its own depth; None: there is none."""
        body = self.before_data.get(b"tRNS", b"")
        count = {0: 1, 2: 3}.get(self.colour_type)
        return struct.unpack(f">{count}H", body) if count and len(body) == 2 * count else None

    @property
    def kind(self) -> Kind:
        """The kind of picture."""
        named = self.transparent is not None or (self.colour_type == _PALETTE and b"tRNS" in self.before_data)
        return Kind(
            format="PNG",
            colours=_COLOURS.get(self.colour_type, f"colour type {self.colour_type}"),
            bits=str(self.bits),
            alpha="channel" if self.colour_type in _ALPHA_TYPES else "named" if named else "none",
            planes="interlaced" if self.header[12] else "plain",
            coding="deflate",
        )


def read_chunks(data: bytes) -> Chunks:
    """Sort the chunks of a PNG up to a break of its structure. Raises `ValueError` if there is no header."""
    chunks = Chunks(pieces=[SIGNATURE])
    view = memoryview(data)
    is_before_data = True
    for name, start, end in _chunks(data):
        whole, body = view[start:end], view[start + 8 : end - 4]
        if name == b"IHDR":
            chunks.header = bytes(body)
        elif name == b"PLTE":
            chunks.palette = bytes(body)
            whole = memoryview(_chunk(name, _padded(chunks.palette, 3)))
        is_before_data = is_before_data and name != b"IDAT"
        if name in _BEFORE_DATA:
            is_intact = zlib.crc32(view[start + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")
            if is_intact and is_before_data and name not in chunks.before_data:
                chunks.before_data[name] = bytes(body)
                _keep_meaningful(chunks, name, whole)
        elif name in _FOR_PILLOW or name[:1].isupper():
            chunks.pieces.append(whole)
    if len(chunks.header) != 13:
        raise ValueError("no header")
    return chunks


def _keep_meaningful(chunks: Chunks, name: bytes, whole: memoryview) -> None:
    """Hand on the transparency of a palette, and an orientation as browsers read it."""
    body = chunks.before_data[name]
    if name == b"tRNS" and chunks.colour_type == _PALETTE:
        is_full = 3 * len(body) >= len(chunks.palette) > 0
        chunks.pieces.append(_chunk(name, _padded(body[: len(chunks.palette) // 3], 1) if is_full else body))
    elif name == b"eXIf" and body[:2] in (b"II", b"MM"):
        chunks.pieces.append(whole)


def _padded(entries: bytes, size: int) -> bytes:
    """Repeat the last of the entries up to 256: browsers take it for indexes beyond the palette."""
    return entries + entries[-size:] * (256 - len(entries) // size)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of each complete chunk up to the last one."""
    at, name = len(SIGNATURE), b""
    while at + 12 <= len(data) and name != b"IEND":
        name = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            break
        yield name, at, end
        at = end


def profile_of(chunks: Chunks) -> bytes | None:
    """Return the ICC profile of the picture's numbers by the priority of the specification; None: sRGB.

    cICP, then iCCP, then sRGB, then gAMA with cHRM. Raises `ImageRejected` with `UNSUPPORTED_COLOUR`.
    """
    found = chunks.before_data
    if len(cicp := found.get(b"cICP", b"")) == 4:
        if cicp[2] != 0:
            raise ImageRejected(Reason.UNSUPPORTED_COLOUR, f"cICP with matrix coefficients {cicp[2]}, not RGB")
        return cicp_profile(cicp[0], cicp[1])
    if b"iCCP" in found and (profile := _embedded(found[b"iCCP"])):
        return profile
    if b"sRGB" in found or len(found.get(b"gAMA", b"")) != 4:
        return None
    gamma = int.from_bytes(found[b"gAMA"], "big")
    chromaticities = found.get(b"cHRM", b"")
    if (len(chromaticities) != 32 and abs(gamma / _SRGB_GAMMA - 1) <= _TOLERANCE) or not gamma:
        return None
    values = struct.unpack(">8I", chromaticities) if len(chromaticities) == 32 else None
    points = SRGB_PRIMARIES if values is None else tuple(value / 100_000 for value in values)
    return gamma_profile(100_000 / gamma, points)


def _embedded(body: bytes) -> bytes | None:
    """Return the ICC profile in the body of an iCCP chunk; None where it is broken."""
    _, _, rest = body.partition(b"\0")
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(rest[1:], _MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    if unpacker.unconsumed_tail:
        raise ImageRejected(Reason.UNSUPPORTED_COLOUR, f"ICC profile of more than {_MAX_PROFILE_BYTES} bytes")
    return profile if is_usable(profile) else None
