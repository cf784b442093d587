"""Decode process: `python -m dpiqa.imaging.child FD LIMITS PARENT MEMORY`. Started by `dpiqa.imaging.pool` only.

It reads requests from the socket `FD`, decodes into the memory `MEMORY`, replies, and ends when its owner does. It has
neither credentials nor stderr nor torch.
"""

import contextlib
import ctypes
import io
import mmap
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import AvifImagePlugin, Image

from dpiqa.errors import ImageRejected
from dpiqa.imaging import frames, sandbox
from dpiqa.imaging.decode import Limits, decode_and_measure, decode_and_prepare, out_of_memory
from dpiqa.imaging.optional import load_installed
from dpiqa.imaging.preprocessing import Preprocessing

Work = Callable[[bytes, Preprocessing, Limits], np.ndarray]
_PR_SET_PDEATHSIG = 1
_GRACE_SECONDS = 2  #: the owner ends a slow decode; the alarm does where the owner cannot
#: Lower than of the owner: a model on the CPU waits for its slowest thread at every layer, so its threads come first.
_NICENESS = 10
_FIRST_TO_BE_KILLED = 1000  #: by the kernel where memory runs out: rather a decoder than its owner
#: Formats and modes of the images that load what decoders load lazily.
_SAMPLES = (("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "I;16"), ("WEBP", "RGB"), ("GIF", "P"),
            ("TIFF", "LAB"), ("BMP", "RGB"), ("AVIF", "RGB"), ("JPEG2000", "RGB"))  # fmt: skip


def main() -> None:
    """Entry point."""
    run(sys.argv, decode_and_prepare)


def run(arguments: Sequence[str], work: Work) -> None:
    """Bind this process's lifetime to the owner's, limit and confine it, then serve until the owner ends."""
    fd, limits, parent = int(arguments[1]), Limits.model_validate_json(arguments[2]), int(arguments[3])
    _bind_lifetime(parent)
    os.nice(_NICENESS)
    shared = frames.map_memory(int(arguments[4]))
    load_installed()
    _limit(limits)
    with socket.socket(fileno=fd) as owner:
        confinement = sandbox.NOTHING if limits.sandbox == "off" else sandbox.enter(lambda: _load_decoders(limits))
        try:
            serve(owner, shared, limits, work, confinement)
        except frames.PeerGoneError:
            return


def serve(
    owner: socket.socket, shared: mmap.mmap, limits: Limits, work: Work, confinement: sandbox.Confinement
) -> None:
    """Reply to requests without end. Raises `PeerGoneError` when the owner has ended."""
    frames.send_ready(owner, confinement)
    while True:
        data, preprocessing, is_measured = frames.receive_request(owner)
        signal.alarm(int(limits.wall_seconds) + _GRACE_SECONDS)
        # Whole seconds, so up to one more. Beyond it the kernel ends this process by SIGXCPU.
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + limits.seconds) + 1, most))
        try:
            if is_measured:
                frames.send_pixels(owner, shared, *decode_and_measure(data, preprocessing, limits))
            else:
                frames.send_pixels(owner, shared, work(data, preprocessing, limits))
        except ImageRejected as rejection:
            frames.send_rejection(owner, rejection)
        except MemoryError:
            frames.send_rejection(owner, out_of_memory(limits))
        signal.alarm(0)


def _bind_lifetime(parent: int) -> None:
    """Bind this process's lifetime to the thread that started it, even while a decoder never returns.

    On systems without this call (macOS), the closed socket ends an idle process and the alarm a busy one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)  # the parent died before the call


def _limit(limits: Limits) -> None:
    """Limit memory, write no core files, and ignore signals: only the owner ends this process."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        n_pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = n_pages * resource.getpagesize() + limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        with contextlib.suppress(OSError):  # in some containers it may not be changed
            Path("/proc/self/oom_score_adj").write_text(str(_FIRST_TO_BE_KILLED))
    Image.MAX_IMAGE_PIXELS = max(limits.max_pixels, limits.max_panorama_pixels)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # one process per core already


def _load_decoders(limits: Limits) -> None:
    """Decode and measure a small image of each format, so that nothing has to be read from disk later."""
    Image.init()
    for image_format, mode in _SAMPLES:
        file = io.BytesIO()
        with contextlib.suppress(Exception):  # a format that this Pillow lacks
            Image.new(mode, (24, 24)).save(file, image_format)
            decode_and_measure(file.getvalue(), Preprocessing(width=8, height=8), limits)


if __name__ == "__main__":
    main()
