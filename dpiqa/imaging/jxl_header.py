"""Header of a JPEG XL codestream (ISO 18181-1): size, channels and colour, read before anything is decoded."""

from dataclasses import dataclass
from itertools import chain

from dpiqa.imaging.boxes import boxes

BARE = b"\xff\x0a"  #: beginning of a codestream, and of a file without boxes
_HEAD_BYTES = 64 * 1024  #: enough for the header of every sensible file; channels' names are its only long part
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_GREY, _XYB = 1, 2  # colour spaces
_ALPHA, _SPOT, _BLACK, _CFA = 0, 2, 4, 5  # types of extra channels
_CUSTOM = 2  # a white point or primaries given as numbers


@dataclass(frozen=True, slots=True)
class JxlHeader:
    """The header's fields that matter before decoding."""

    width: int  #: pixels, before the orientation is applied
    height: int
    is_srgb: bool = True  #: whether the colours are declared as sRGB in the short form
    transfer: int | None = None  #: transfer characteristics as in ITU-T H.273; None: a gamma, an ICC profile, or sRGB
    is_animated: bool = False
    is_premultiplied: bool = False  #: whether the colours are multiplied by the alpha channel
    has_black: bool = False  #: whether a channel is the black of CMYK


def codestream(data: bytes) -> bytes:
    """Return the beginning of the codestream: of the file itself, or of its boxes `jxlc` and `jxlp`."""
    if data.startswith(BARE):
        return data[:_HEAD_BYTES]
    parts = (
        data[box.start + 4 * (box.kind == b"jxlp") : min(box.end, box.start + _HEAD_BYTES)]  # a part has a number
        for box in boxes(data)
        if box.kind in (b"jxlc", b"jxlp")
    )
    return bytes(byte for byte, _ in zip(chain.from_iterable(parts), range(_HEAD_BYTES), strict=False))


def read_header(data: bytes) -> JxlHeader:
    """Read the header of a JPEG XL file. Raises `ValueError` where it ends early or is none."""
    stream = codestream(data)
    if not stream.startswith(BARE):
        raise ValueError("no codestream")
    bits = _Bits(stream[len(BARE) :])
    width, height = _size(bits)
    if bits.flag():  # all metadata are the default: 8 bits, sRGB
        return JxlHeader(width, height)
    is_animated = bits.flag() and _read_extra_fields(bits)
    _skip_bit_depth(bits)
    bits.read(1)  # whether 16-bit buffers suffice
    channels = [_extra_channel(bits) for _ in range(bits.u32((0, 0), (0, 1), (4, 2), (12, 1)))]
    bits.read(1)  # whether pixels are stored as XYB
    is_srgb = bits.flag()
    return JxlHeader(
        width,
        height,
        is_srgb,
        None if is_srgb else _transfer(bits),
        is_animated,
        is_premultiplied=next((associated for kind, associated in channels if kind == _ALPHA), False),
        has_black=any(kind == _BLACK for kind, _ in channels),
    )


class _Bits:
    """Reader of bits, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def read(self, n: int) -> int:
        """Return the next `n` bits. Raises `ValueError` at the end."""
        if n > self._left:
            raise ValueError("the header ends too early")
        value = self._value & ((1 << n) - 1)
        self._value >>= n
        self._left -= n
        return value

    def flag(self) -> bool:
        """Return the next bit."""
        return bool(self.read(1))

    def u32(self, *distributions: tuple[int, int]) -> int:
        """Return a number whose two leading bits choose how many bits follow, and what is added to them."""
        n, offset = distributions[self.read(2)]
        return self.read(n) + offset

    def enum(self) -> int:
        """Return the number of an enumeration."""
        return self.u32((0, 0), (0, 1), (4, 2), (6, 18))


def _size(bits: _Bits) -> tuple[int, int]:
    """Return width and height of a size header."""
    small = bits.flag()

    def side() -> int:
        return 8 * (bits.read(5) + 1) if small else bits.u32((9, 1), (13, 1), (18, 1), (30, 1))

    height = side()
    ratio = bits.read(3)
    if ratio == 0:
        return side(), height
    across, down = _RATIOS[ratio - 1]
    return height * across // down, height


def _read_extra_fields(bits: _Bits) -> bool:
    """Skip orientation, intrinsic size, preview and animation; return whether there is one."""
    bits.read(3)
    if bits.flag():
        _size(bits)
    if bits.flag():
        _skip_preview(bits)
    is_animated = bits.flag()
    if is_animated:
        bits.u32((0, 100), (0, 1000), (10, 1), (30, 1))
        bits.u32((0, 1), (0, 1001), (8, 1), (10, 1))
        bits.u32((0, 0), (3, 0), (16, 0), (32, 0))
        bits.read(1)
    return is_animated


def _skip_preview(bits: _Bits) -> None:
    small = bits.flag()
    sides = ((0, 16), (0, 32), (5, 1), (9, 33)) if small else ((6, 1), (8, 65), (10, 321), (12, 1345))
    bits.u32(*sides)
    if bits.read(3) == 0:
        bits.u32(*sides)


def _skip_bit_depth(bits: _Bits) -> None:
    if bits.flag():
        bits.u32((0, 32), (0, 16), (0, 24), (6, 1))
        bits.read(4)
    else:
        bits.u32((0, 8), (0, 10), (0, 12), (6, 1))


def _extra_channel(bits: _Bits) -> tuple[int, bool]:
    """Return the type of an extra channel, and whether it is alpha by which the colours are multiplied."""
    if bits.flag():
        return _ALPHA, False
    kind = bits.enum()
    _skip_bit_depth(bits)
    bits.u32((0, 0), (0, 3), (0, 4), (3, 1))
    for _ in range(bits.u32((0, 0), (4, 0), (5, 16), (10, 48))):
        bits.read(8)
    if kind == _ALPHA:
        return kind, bits.flag()
    if kind == _SPOT:
        bits.read(4 * 16)
    elif kind == _CFA:
        bits.u32((0, 1), (2, 0), (4, 3), (8, 19))
    return kind, False


def _transfer(bits: _Bits) -> int | None:
    """Return the transfer characteristics of a colour encoding; None for a gamma or an ICC profile."""
    has_profile, space = bits.flag(), bits.enum()
    if has_profile or space == _XYB:
        return None
    if bits.enum() == _CUSTOM:
        _skip_chromaticity(bits)
    if space != _GREY and bits.enum() == _CUSTOM:
        for _ in range(3):
            _skip_chromaticity(bits)
    if bits.flag():
        bits.read(24)
        return None
    return bits.enum()


def _skip_chromaticity(bits: _Bits) -> None:
    for _ in range(2):
        bits.u32((19, 0), (19, 524288), (20, 1048576), (21, 2097152))
