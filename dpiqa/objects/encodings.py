"""Content encodings: objects that were stored compressed and say so in `Content-Encoding`, as their bytes were before.

S3 returns such an object as it was stored; a browser undoes the encoding before it shows the picture.
"""

import zlib
from collections.abc import Callable

from dpiqa.errors import ImageRejected
from dpiqa.extras import EXTRA_OF_MODULE
from dpiqa.types import Reason

_MAX_ENCODINGS = 4  #: of one object
_MAX_MEMBERS = 10_000  #: of one gzip file
_CHUNK_BYTES = 64 * 1024  #: of input that is given to a decoder at once
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
#: Left behind by uploads in signed chunks: nothing of the stored bytes is encoded.
_NO_ENCODING = frozenset({"", "identity", "aws-chunked", "utf-8", "binary", "none"})


def decoded(data: bytes, content_encoding: str | None, max_bytes: int) -> bytes:
    """Return the bytes of an object as they were before its encodings; as they are where they are not encoded.

    Raises `ImageRejected` with `UNSUPPORTED_ENCODING`, with `TOO_MANY_BYTES` where there are more than `max_bytes`,
    with `TRUNCATED` or `CORRUPT` where the encoded bytes end early or are damaged, and with `EMPTY`.
    """
    names = [name.strip().lower() for name in (content_encoding or "").split(",")]
    encodings = [name for name in names if name not in _NO_ENCODING]
    if len(encodings) > _MAX_ENCODINGS:
        raise ImageRejected(Reason.UNSUPPORTED_ENCODING, f"{len(encodings)} content encodings")
    for name in reversed(encodings):
        if name not in _DECODERS:
            raise ImageRejected(Reason.UNSUPPORTED_ENCODING, f"Content-Encoding {name[:40]!r} is not undone")
        data = _DECODERS[name](data, max_bytes)
        if len(data) > max_bytes:
            message = f"more than {max_bytes} bytes once Content-Encoding {name} is undone"
            raise ImageRejected(Reason.TOO_MANY_BYTES, message)
        if not data:
            raise ImageRejected(Reason.EMPTY, f"no bytes once Content-Encoding {name} is undone")
    return data


def _gunzip(data: bytes, max_bytes: int) -> bytes:
    return _inflate(data, max_bytes, _GZIP) if data.startswith(b"\x1f\x8b") else data  # the header is not true


def _undeflate(data: bytes, max_bytes: int) -> bytes:
    """Undo `deflate`: a zlib stream or, as some servers understood it, a raw one."""
    if data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2]) % 31 == 0:  # the header of a zlib stream
        return _inflate(data, max_bytes, _ZLIB)
    try:
        return _inflate(data, max_bytes, _RAW)
    except ImageRejected as error:
        if error.reason is Reason.TOO_MANY_BYTES:
            raise
        return data  # the header is not true


def _inflate(data: bytes, max_bytes: int, window_bits: int) -> bytes:
    """Return more than `max_bytes` by at most one. A gzip file may consist of several members."""
    parts: list[bytes] = []
    position, left, n_members = 0, max_bytes + 1, 0
    stream = zlib.decompressobj(window_bits)
    while left > 0:
        chunk = data[position : position + _CHUNK_BYTES]
        if not chunk:
            raise ImageRejected(Reason.TRUNCATED, "it ends before the end of its Content-Encoding")
        try:
            parts.append(stream.decompress(chunk, left))
        except zlib.error as error:
            if n_members:
                break  # padding after the last member
            raise ImageRejected(Reason.CORRUPT, f"its Content-Encoding cannot be undone: {error}") from None
        left -= len(parts[-1])
        position += len(chunk) - len(stream.unused_data or stream.unconsumed_tail)
        if stream.eof:
            n_members += 1
            if window_bits != _GZIP or position >= len(data):
                break
            if n_members > _MAX_MEMBERS:
                raise ImageRejected(Reason.CORRUPT, f"more than {_MAX_MEMBERS} gzip members")
            stream = zlib.decompressobj(window_bits)
    return b"".join(parts)


def _unbrotli(data: bytes, max_bytes: int) -> bytes:
    try:
        import brotli  # noqa: PLC0415 - an extra
    except ImportError:
        extra = f"pip install 'dpiqa[{EXTRA_OF_MODULE['brotli']}]'"
        raise ImageRejected(Reason.UNSUPPORTED_ENCODING, f"Content-Encoding br needs brotli: {extra}") from None
    stream, parts, left = brotli.Decompressor(), list[bytes](), max_bytes + 1
    try:
        parts.append(stream.process(data, output_buffer_limit=left))
        while not stream.is_finished() and (left := left - len(parts[-1])) > 0 and not stream.can_accept_more_data():
            parts.append(stream.process(b"", output_buffer_limit=left))
    except brotli.error:
        return data  # brotli has no signature: the header may be untrue, and the decoder knows what it is
    whole = b"".join(parts)
    if not stream.is_finished() and len(whole) <= max_bytes:
        raise ImageRejected(Reason.TRUNCATED, "it ends before the end of its Content-Encoding")
    return whole


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _undeflate,
    "br": _unbrotli,
}
