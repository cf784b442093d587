"""Frames between a decode process and its owner over a socket: bytes, never pickles.

A decoder that an attacker took over can reply with wrong pixels of the right size, and with nothing else.
"""

import json
import socket
import struct
import time
from dataclasses import dataclass

import numpy as np

from dpiqa.errors import ImageRejected
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.types import Reason

READY = b"R"
_REQUEST = struct.Struct("!II")  #: bytes of preprocessing as JSON, bytes of the object
_REPLY = struct.Struct("!cII")  #: kind, then (height, width) or (bytes of JSON, 0)
_PIXELS, _REJECTED = b"P", b"X"
_MAX_REASON_BYTES = 4096


class PeerGoneError(Exception):
    """The other side closed the socket or violated the protocol."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """Time until which a whole exchange must be done."""

    at: float | None  #: by `time.monotonic`; None: never

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Return the deadline that many seconds from now."""
        return cls(time.monotonic() + seconds)

    def apply(self, peer: socket.socket) -> None:
        """Set the timeout of the next call on the socket. Raises `TimeoutError` when the deadline has passed."""
        if self.at is None:
            return
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        peer.settimeout(left)


FOREVER = Deadline(None)


def send_request(peer: socket.socket, data: bytes, preprocessing: Preprocessing, deadline: Deadline) -> None:
    """Send an image, owner to decoder."""
    head = preprocessing.model_dump_json().encode()
    _send(peer, _REQUEST.pack(len(head), len(data)) + head, deadline)
    _send(peer, data, deadline)


def receive_request(peer: socket.socket) -> tuple[bytes, Preprocessing]:
    """Wait for an image from the owner. Raises `PeerGoneError` when the owner has ended."""
    head_bytes, data_bytes = _REQUEST.unpack(_receive(peer, _REQUEST.size, FOREVER))
    preprocessing = Preprocessing.model_validate_json(_receive(peer, head_bytes, FOREVER))
    return bytes(_receive(peer, data_bytes, FOREVER)), preprocessing


def send_pixels(peer: socket.socket, pixels: np.ndarray) -> None:
    """Send (H, W, 3) uint8, decoder to owner."""
    height, width, _ = pixels.shape
    _send(peer, _REPLY.pack(_PIXELS, height, width), FOREVER)
    _send(peer, np.ascontiguousarray(pixels).data.cast("B"), FOREVER)


def send_rejection(peer: socket.socket, rejection: ImageRejected) -> None:
    """Send the reason why there are no pixels, decoder to owner."""
    body = json.dumps({"reason": rejection.reason, "message": rejection.message[:500]}).encode()
    _send(peer, _REPLY.pack(_REJECTED, len(body), 0) + body, FOREVER)


def receive_reply(peer: socket.socket, preprocessing: Preprocessing, deadline: Deadline) -> np.ndarray:
    """Wait for (H, W, 3) uint8 of the requested size.

    Raises `ImageRejected`, `TimeoutError`, and `PeerGoneError` for a dead decoder or an invalid reply.
    """
    kind, first, second = _REPLY.unpack(_receive(peer, _REPLY.size, deadline))
    if kind == _PIXELS and (first, second) == (preprocessing.height, preprocessing.width):
        pixels = np.frombuffer(_receive(peer, first * second * 3, deadline), dtype=np.uint8)
        return pixels.reshape(first, second, 3)
    if kind == _REJECTED and first <= _MAX_REASON_BYTES:
        raise _rejection(_receive(peer, first, deadline))
    raise PeerGoneError("invalid reply")


def _rejection(body: bytearray) -> Exception:
    try:
        rejection = json.loads(body)
        return ImageRejected(Reason(rejection["reason"]), str(rejection["message"]))
    except (ValueError, KeyError, TypeError):
        return PeerGoneError("invalid reply")


def receive_ready(peer: socket.socket, deadline: Deadline) -> None:
    """Wait for a new decoder. Raises `PeerGoneError` or `TimeoutError` when it did not start."""
    if _receive(peer, 1, deadline) != READY:
        raise PeerGoneError("not a decoder")


def _send(peer: socket.socket, data: bytes | memoryview, deadline: Deadline) -> None:
    deadline.apply(peer)
    try:
        peer.sendall(data)
    except TimeoutError:
        raise
    except OSError as error:
        raise PeerGoneError(str(error)) from None


def _receive(peer: socket.socket, size: int, deadline: Deadline) -> bytearray:
    buffer = bytearray(size)
    view, done = memoryview(buffer), 0
    while done < size:
        deadline.apply(peer)
        try:
            count = peer.recv_into(view[done:])
        except TimeoutError:
            raise
        except OSError as error:
            raise PeerGoneError(str(error)) from None
        if not count:
            raise PeerGoneError("closed")
        done += count
    return buffer
