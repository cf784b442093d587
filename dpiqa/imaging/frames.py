"""Frames between a decode process and its owner over a socket: bytes, never pickles. Pixels go through shared memory.

A decoder that an attacker took over can reply with wrong pixels of the right size and wrong measures, and with nothing
else.
"""

import fcntl
import json
import math
import mmap
import os
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

from dpiqa.errors import ConfigurationError, ImageRejected
from dpiqa.imaging.measured import MEASURE_DIGITS, MEASURE_NAMES, Measures
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.imaging.sandbox import Confinement
from dpiqa.types import Reason

T = TypeVar("T")

_READY = struct.Struct("!cI")  #: kind, then the confinement in force
_IS_READY = b"R"
_REQUEST = struct.Struct("!II?")  #: bytes of preprocessing as JSON, bytes of the object, whether it is measured
_REPLY = struct.Struct("!cII")  #: kind, then (height, width) or (bytes of JSON, 0); pixels may be followed by measures
_PIXELS, _REJECTED = b"P", b"X"
_MEASURES = struct.Struct("!II7f")  #: `MEASURE_NAMES`
_MAX_REASON_BYTES = 4096
#: Bytes of the memory that a decode process shares with its owner: 4,600 x 4,600 pixels. Only what is used is there.
SHARED_BYTES = 64 * 1024 * 1024


class PeerGoneError(Exception):
    """The other side closed the socket."""


class InvalidReplyError(PeerGoneError):
    """The other side violated the protocol."""


@dataclass(slots=True)
class Patience:
    """Time for which a whole exchange may still be waited for.

    A wait counts for one second at most: while this process itself is stopped, or the machine sleeps, it does not run
    out.
    """

    seconds: float | None  #: None: for ever

    def during(self, peer: socket.socket, call: Callable[[memoryview], T], data: memoryview) -> T:
        """Return the result of a call on the socket. Raises `TimeoutError`, and `PeerGoneError` for an `OSError`."""
        while True:
            began, part = time.monotonic(), 1.0
            if self.seconds is not None:
                part = min(part, self.seconds)
                if part <= 0:
                    raise TimeoutError
                peer.settimeout(part)
            try:
                return call(data)
            except TimeoutError:
                continue
            except OSError as error:
                raise PeerGoneError(str(error)) from None
            finally:
                if self.seconds is not None:
                    self.seconds -= min(part, time.monotonic() - began)


def forever() -> Patience:
    """Return patience without end."""
    return Patience(None)


def share_memory() -> int:
    """Return the file descriptor of new memory for one decode process; it cannot be made smaller, on Linux."""
    if sys.platform != "linux":
        with tempfile.TemporaryFile() as file:
            os.truncate(file.fileno(), SHARED_BYTES)
            return os.dup(file.fileno())
    fd = os.memfd_create("dpiqa-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(fd, SHARED_BYTES)
    # A process that shrank it would end its owner by SIGBUS.
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def map_memory(fd: int) -> mmap.mmap:
    """Map the memory of `share_memory`, and close its file descriptor."""
    try:
        return mmap.mmap(fd, SHARED_BYTES)
    finally:
        os.close(fd)


def require_shareable(preprocessing: Preprocessing) -> None:
    """Raise `ConfigurationError` for pixels that are too many for the shared memory."""
    if preprocessing.width * preprocessing.height * 3 > SHARED_BYTES:
        size = f"{preprocessing.width}x{preprocessing.height}"
        raise ConfigurationError(
            f"a model's input of {size} pixels is larger than decode processes return",
            hint=f"at most {SHARED_BYTES // 3} pixels",
        )


@lru_cache(maxsize=64)
def _preprocessing(head: bytes) -> Preprocessing:
    return Preprocessing.model_validate_json(head)


def send_request(
    peer: socket.socket, data: bytes, preprocessing: Preprocessing, patience: Patience, *, is_measured: bool = False
) -> None:
    """Send an image, owner to decoder."""
    head = preprocessing.model_dump_json().encode()
    _send(peer, _REQUEST.pack(len(head), len(data), is_measured) + head, patience)
    _send(peer, data, patience)


def receive_request(peer: socket.socket) -> tuple[bytes, Preprocessing, bool]:
    """Wait for an image from the owner, and whether it is measured. Raises `PeerGoneError` when the owner has ended."""
    head_bytes, data_bytes, is_measured = _REQUEST.unpack(_receive(peer, _REQUEST.size, forever()))
    preprocessing = _preprocessing(bytes(_receive(peer, head_bytes, forever())))
    return bytes(_receive(peer, data_bytes, forever())), preprocessing, is_measured


def send_pixels(peer: socket.socket, shared: mmap.mmap, pixels: np.ndarray, measures: Measures | None = None) -> None:
    """Hand over (H, W, 3) uint8, and the measures of the picture where they were asked for, decoder to owner."""
    height, width, _ = pixels.shape
    np.frombuffer(shared, np.uint8, pixels.size).reshape(pixels.shape)[...] = pixels
    tail = b"" if measures is None else _MEASURES.pack(*astuple(measures))
    _send(peer, _REPLY.pack(_PIXELS, height, width) + tail, forever())


def send_rejection(peer: socket.socket, rejection: ImageRejected) -> None:
    """Send the reason why there are no pixels, decoder to owner."""
    body = json.dumps({"reason": rejection.reason, "message": rejection.message[:500]}).encode()
    _send(peer, _REPLY.pack(_REJECTED, len(body), 0) + body, forever())


def receive_reply(
    peer: socket.socket,
    shared: mmap.mmap,
    preprocessing: Preprocessing,
    patience: Patience,
    *,
    is_measured: bool = False,
) -> tuple[np.ndarray, Measures | None]:
    """Wait for (H, W, 3) uint8 of the requested size, a copy, which the process cannot change any more, and measures.

    Raises `ImageRejected`, `TimeoutError`, `PeerGoneError` for a dead decoder, and `InvalidReplyError`.
    """
    kind, first, second = _REPLY.unpack(_receive(peer, _REPLY.size, patience))
    if kind == _PIXELS and preprocessing.admits(first, second):
        measures = _measures(_receive(peer, _MEASURES.size, patience)) if is_measured else None
        return np.frombuffer(shared, np.uint8, first * second * 3).reshape(first, second, 3).copy(), measures
    if kind == _REJECTED and first <= _MAX_REASON_BYTES:
        raise _rejection(_receive(peer, first, patience))
    raise InvalidReplyError("invalid reply")


def _measures(body: bytearray) -> Measures:
    """Return measures that can be stored: a size that images have, and numbers that are finite or NaN."""
    width, height, *numbers = _MEASURES.unpack(body)
    if not (0 < width < 1 << 31 and 0 < height < 1 << 31) or any(map(math.isinf, numbers)):
        raise InvalidReplyError("invalid measures")
    rounded = (round(number, MEASURE_DIGITS) for number in numbers)
    return Measures(**dict(zip(MEASURE_NAMES, (width, height, *rounded), strict=True)))


def _rejection(body: bytearray) -> Exception:
    try:
        rejection = json.loads(body)
        return ImageRejected(Reason(rejection["reason"]), str(rejection["message"]))
    except (ValueError, KeyError, TypeError):
        return InvalidReplyError("invalid reply")


def send_ready(peer: socket.socket, confinement: Confinement) -> None:
    """Say that this decoder has started, and what confines it."""
    _send(peer, _READY.pack(_IS_READY, confinement.value), forever())


def receive_ready(peer: socket.socket, patience: Patience) -> Confinement:
    """Wait for a new decoder. Raises `PeerGoneError` or `TimeoutError` when it did not start."""
    kind, parts = _READY.unpack(_receive(peer, _READY.size, patience))
    if kind != _IS_READY:
        raise InvalidReplyError("not a decoder")
    return Confinement(parts)


def _send(peer: socket.socket, data: bytes | memoryview, patience: Patience) -> None:
    left = memoryview(data)
    while left:
        left = left[patience.during(peer, peer.send, left) :]


def _receive(peer: socket.socket, size: int, patience: Patience) -> bytearray:
    buffer = bytearray(size)
    left = memoryview(buffer)
    while left:
        count = patience.during(peer, peer.recv_into, left)
        if not count:
            raise PeerGoneError("closed")
        left = left[count:]
    return buffer
