"""JPEG 2000, as JP2 or a bare codestream: headers are read here, Pillow (OpenJPEG) decodes.

Pillow ignores ICC profiles, takes every fourth component for alpha, and decodes what is left of a file that ends early.
So boxes and markers are read first, and only kinds that were compared with another decoder are admitted.
"""

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image

from dpiqa.errors import ImageRejected
from dpiqa.imaging import boxes
from dpiqa.types import Reason

_BARE = b"\xff\x4f\xff\x51"  #: markers SOC and SIZ
_SOT, _EOC = 0xFF90, 0xFFD9  # markers: start of a tile-part, end of the codestream
_SIZ = struct.Struct(">8I")  #: sides of the grid, offset of the image, sides of a tile, offset of the tiles
_CMYK, _SRGB, _GREY, _SYCC = 12, 16, 17, 18  # enumerated colour spaces
_CHANNELS = {_CMYK: 4, _SRGB: 3, _GREY: 1, _SYCC: 3}  # of each, without alpha
_CHANNELS_OF_PROFILE = {b"GRAY": 1, b"RGB ": 3}
_OPACITY, _PREMULTIPLIED = 1, 2  # types of channels
_MODES = {(1, False): ("L", "I;16"), (1, True): ("LA",), (3, False): ("RGB",), (3, True): ("RGBA",)}


@dataclass(frozen=True, slots=True)
class _Codestream:
    """The marker SIZ of a codestream."""

    width: int
    height: int
    n_tiles: int
    bits: tuple[int, ...]  #: of a sample of each component
    sampling: tuple[tuple[int, int], ...]  #: pixels of the grid for a sample of each component, across and down


@dataclass(slots=True)
class _Colour:
    """Colour as the boxes of a JP2 file declare it; a bare codestream declares nothing."""

    space: int | None = None  #: enumerated colour space
    profile: bytes | None = None  #: ICC
    alpha: int | None = None  #: type of the last channel, where it is the opacity


def decode(data: bytes, check_size: Callable[[int, int], None]) -> Image.Image:
    """Decode to mode L, I;16, LA, La, RGB, RGBA, RGBa or CMYK, with the ICC profile in `info`.

    Raises `ImageRejected`, and what `check_size` raises for the size in the header; other errors mean damage.
    """
    start, _ = _codestream_of(data)
    stream = _read_siz(data, start)
    check_size(stream.width, stream.height)
    if ends_early(data):
        raise ImageRejected(Reason.TRUNCATED, "JPEG 2000 ends too early")
    colour = _Colour() if start == 0 else _read_colour(data)
    modes = _modes(stream, colour)
    with Image.open(io.BytesIO(data), formats=["JPEG2000"]) as image:
        if image.size != (stream.width, stream.height):
            raise ValueError("boxes and codestream declare different sizes")
        if image.mode not in modes:
            raise _unsupported(f"{len(stream.bits)} components that are read as {image.mode}")
        image.load()
        decoded = _scaled(image, stream.bits[0])
        if colour.alpha == _PREMULTIPLIED:
            decoded = Image.frombytes(image.mode[:-1] + "a", image.size, image.tobytes())
    decoded.info = {"icc_profile": colour.profile} if colour.profile else {}
    return decoded


def ends_early(data: bytes) -> bool:
    """Return whether a box, or a tile, is incomplete or missing. Never raises."""
    if not data.startswith(_BARE) and boxes.ends_early(data, b"jp2c"):
        return True
    try:
        start, end = _codestream_of(data)
        return len(set(_tiles(data, start, end))) < _read_siz(data, start).n_tiles
    except (ValueError, struct.error):
        return True


def _unsupported(what: str) -> ImageRejected:
    return ImageRejected(Reason.UNSUPPORTED_FORMAT, f"JPEG 2000 with {what} is not decoded")


def _codestream_of(data: bytes) -> tuple[int, int]:
    """Return where the first codestream is. Raises `ValueError` where there is none."""
    if data.startswith(_BARE):
        return 0, len(data)
    box = boxes.find(data, b"jp2c")
    if box is None:
        raise ValueError("there is no codestream")
    return box.start, min(box.end, len(data))


def _read_siz(data: bytes, start: int) -> _Codestream:
    """Read the marker SIZ, the first of a codestream. Raises `ValueError`, `struct.error`."""
    if data[start : start + 4] != _BARE:
        raise ValueError("the codestream does not begin with its size")
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top = _SIZ.unpack_from(data, start + 8)
    (n_components,) = struct.unpack_from(">H", data, start + 40)
    components = [struct.unpack_from(">BBB", data, start + 42 + 3 * n) for n in range(n_components)]
    if not components or not tile_width or not tile_height or right <= left or bottom <= top:
        raise ValueError("a size is impossible")
    across, down = -(-(right - tile_left) // tile_width), -(-(bottom - tile_top) // tile_height)
    return _Codestream(
        right - left,
        bottom - top,
        across * down,
        bits=tuple((depth & 0x7F) + 1 for depth, _, _ in components),
        sampling=tuple((dx, dy) for _, dx, dy in components),
    )


def _tiles(data: bytes, start: int, end: int) -> Iterator[int]:
    """Yield the index of the tile of each tile-part. Raises `ValueError` for one that runs beyond the end."""
    at = start + 2
    while at + 4 <= end:
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == _EOC:
            return
        if marker != _SOT:
            at += 2 + length
            continue
        tile, part_length = struct.unpack_from(">HI", data, at + 4)
        stop = at + part_length if part_length else end
        if stop > end or 0 < part_length < 14:
            raise ValueError("a tile-part ends early")
        yield tile
        at = stop


def _read_colour(data: bytes) -> _Colour:
    """Read the boxes about colour. Raises `ImageRejected` for what is not decoded, `ValueError`, `struct.error`."""
    header = boxes.find(data, b"jp2h")
    if header is None:
        raise ValueError("there is no header")
    colour, is_specified = _Colour(), False
    for kind, start, end in boxes.boxes(data, header.start, header.end):
        if kind in (b"pclr", b"cmap"):
            raise _unsupported("a palette")
        if kind == b"bpcc":
            raise _unsupported("components of different depths")
        if kind == b"colr" and not is_specified:
            method = data[start]
            if method == 1:
                (colour.space,) = struct.unpack_from(">I", data, start + 3)
            elif method in (2, 3):
                colour.profile = data[start + 3 : end]
            is_specified = method in (1, 2, 3)
        if kind == b"cdef":
            colour.alpha = _alpha(data, start)
    return colour


def _alpha(data: bytes, start: int) -> int | None:
    """Return the type of the opacity channel of a channel definition. Raises `ImageRejected` for an unusual order."""
    (n,) = struct.unpack_from(">H", data, start)
    channels: list[tuple[int, ...]] = sorted(
        struct.unpack_from(">HHH", data, start + 2 + 6 * index) for index in range(n)
    )
    *colours, last = channels
    if last[1] in (_OPACITY, _PREMULTIPLIED) and last[2] == 0 and last[0] == n - 1:
        channels, alpha = colours, last[1]
    else:
        alpha = None
    if channels != [(index, 0, index + 1) for index in range(len(channels))]:
        raise _unsupported("channels in an unusual order")
    return alpha


def _modes(stream: _Codestream, colour: _Colour) -> tuple[str, ...]:
    """Return the modes that Pillow may decode to. Raises `ImageRejected` for kinds that were not proved."""
    if len(set(stream.bits)) > 1 or stream.bits[0] > 16:
        raise _unsupported(f"{'/'.join(map(str, sorted(set(stream.bits))))} bits per sample")
    if len(stream.bits) > 1 and stream.bits[0] > 8:  # Pillow turns nearly white into black: 65,408 + 128 overflows
        raise _unsupported(f"{stream.bits[0]} bits per colour component")
    has_alpha, n = colour.alpha is not None, len(stream.bits)
    n_colours = n - has_alpha
    if n_colours not in _expected_channels(colour):
        raise _unsupported(f"{n} components whose meaning is not declared")
    if set(stream.sampling) != {(1, 1)} and colour.space != _SYCC:
        raise _unsupported("subsampled components that are not YCbCr")
    if colour.space == _CMYK:
        if has_alpha or stream.bits[0] != 8:
            raise _unsupported("CMYK that has alpha or not 8 bits")
        return ("CMYK",)
    return _MODES[n_colours, has_alpha]


def _expected_channels(colour: _Colour) -> tuple[int, ...]:
    """Return the possible numbers of channels without alpha. Raises `ImageRejected` for another colour space."""
    if colour.space is not None:
        if colour.space not in _CHANNELS:
            raise ImageRejected(Reason.UNSUPPORTED_COLOUR, f"JPEG 2000 in the enumerated colour space {colour.space}")
        return (_CHANNELS[colour.space],)
    if colour.profile is not None:
        space = colour.profile[16:20]
        if space not in _CHANNELS_OF_PROFILE:
            raise ImageRejected(Reason.UNSUPPORTED_COLOUR, f"JPEG 2000 with an ICC profile for {space!r}")
        return (_CHANNELS_OF_PROFILE[space],)
    return 1, 3


def _scaled(image: Image.Image, bits: int) -> Image.Image:
    """Return samples of less than 8 bits, which Pillow shifts to the left, from 0 to 255; others unchanged."""
    if bits >= 8:
        return image.copy()
    white = (1 << bits) - 1
    table = [(value >> (8 - bits)) * 255 // white for value in range(256)]
    return image.point(table * len(image.getbands()))
