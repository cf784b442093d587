"""Decode process: `python -m dpiqa.imaging.child FD LIMITS PARENT`. Started by `dpiqa.imaging.pool` only.

It reads requests from the socket `FD`, decodes, replies, and ends when its owner does. It has neither credentials nor
stderr nor torch.
"""

import ctypes
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable

import numpy as np
from PIL import AvifImagePlugin, Image

from dpiqa.errors import ImageRejected
from dpiqa.imaging import frames
from dpiqa.imaging.decode import Limits, decode_and_prepare
from dpiqa.imaging.optional import load_installed
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.types import Reason

Work = Callable[[bytes, Preprocessing, Limits], np.ndarray]
_PR_SET_PDEATHSIG = 1
_GRACE_SECONDS = 2  #: the owner ends a slow decode; the alarm does where the owner cannot


def main() -> None:
    """Entry point."""
    fd, limits, parent = int(sys.argv[1]), Limits.model_validate_json(sys.argv[2]), int(sys.argv[3])
    run(fd, limits, parent, decode_and_prepare)


def run(fd: int, limits: Limits, parent: int, work: Work) -> None:
    """Bind this process's lifetime to the owner's and limit it, then serve until the owner ends."""
    _bind_lifetime(parent)
    load_installed()
    _confine(limits)
    with socket.socket(fileno=fd) as owner:
        try:
            serve(owner, limits, work)
        except frames.PeerGoneError:
            return


def serve(owner: socket.socket, limits: Limits, work: Work) -> None:
    """Reply to requests without end. Raises `PeerGoneError` when the owner has ended."""
    owner.sendall(frames.READY)
    while True:
        data, preprocessing = frames.receive_request(owner)
        signal.alarm(int(limits.seconds) + _GRACE_SECONDS)
        try:
            frames.send_pixels(owner, work(data, preprocessing, limits))
        except ImageRejected as rejection:
            frames.send_rejection(owner, rejection)
        except MemoryError:
            frames.send_rejection(owner, ImageRejected(Reason.DECODE_CRASH, "the decoder ran out of memory"))
        signal.alarm(0)


def _bind_lifetime(parent: int) -> None:
    """Bind this process's lifetime to the thread that started it, even while a decoder never returns.

    On systems without this call (macOS), the closed socket ends an idle process and the alarm a busy one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)  # the parent died before the call


def _confine(limits: Limits) -> None:
    """Limit memory, write no core files, and ignore signals: only the owner ends this process."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    Image.MAX_IMAGE_PIXELS = max(limits.max_pixels, limits.max_panorama_pixels)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # one process per core already


if __name__ == "__main__":
    main()
