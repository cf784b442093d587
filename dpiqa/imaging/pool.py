"""Pool of decode processes. One that hangs, crashes or uses up its memory affects only its own image.

Each thread of the pool owns one process and one socket to it, so a process killed at any moment leaves no lock
behind, and the kernel can end the process with its thread. (A pool whose processes share one queue, as in pebble
or `concurrent.futures`, stops forever when a process is killed while it holds the queue's lock.) Processes are
started by `exec`, with an environment that holds no secret, and never re-import the program that owns the pool.
"""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np
import structlog

from dpiqa.errors import ImageRejected, Unavailable
from dpiqa.imaging import frames
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.types import Reason

log = structlog.get_logger()
#: -P prevents files in the working directory from shadowing modules.
CHILD = (sys.executable, "-P", "-m", "dpiqa.imaging.child")
_START_SECONDS = 60.0  #: until a decode process must be ready, on a busy machine
_TRIES = 2  #: a process may have been killed for reasons that are not the image's
#: Variables that a decode process sees of the environment; any other may be a secret.
_ALLOWED_VARIABLES = frozenset(
    {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME"}
)


class DecodePool:
    """Up to `processes` decoders, each started when first needed. Thread-safe.

    Use as a context manager, or call `close`; processes also end with this process, however it ends.
    """

    def __init__(self, processes: int, limits: Limits, *, command: Sequence[str] = CHILD) -> None:
        self._limits = limits
        self._command = tuple(command)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._decoders: set[_Decoder] = set()
        self._closed = False
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="decode")

    def submit(self, data: bytes, preprocessing: Preprocessing) -> Future[np.ndarray]:
        """Decode, turn upright, convert and resize: a future of (H, W, 3) uint8.

        It raises `ImageRejected`, among others with `DECODE_TIMEOUT` and `DECODE_CRASH`, or `Unavailable` when no
        process can be started or the pool is closed. Raises `RuntimeError` itself after `close`.
        """
        return self._threads.submit(self._decode, data, preprocessing)

    def close(self) -> None:
        """End all processes at once. Running work fails with `Unavailable`, waiting work is cancelled. Idempotent."""
        with self._lock:
            self._closed = True
            for decoder in self._decoders:
                decoder.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        while self._decoders:
            self._decoders.pop().end()

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _decode(self, data: bytes, preprocessing: Preprocessing) -> np.ndarray:
        if len(data) > self._limits.max_bytes:
            raise ImageRejected(Reason.TOO_MANY_BYTES, f"{len(data)} bytes, at most {self._limits.max_bytes}")
        exit_code: int | None = None
        for _ in range(_TRIES):
            decoder = self._decoder()
            try:
                return decoder.decode(data, preprocessing, frames.Deadline.after(self._limits.seconds))
            except ImageRejected as rejection:
                if rejection.reason is Reason.DECODE_CRASH:
                    self._replace(decoder)  # its memory is in an unknown state
                raise
            except TimeoutError:
                self._replace(decoder)
                raise ImageRejected(Reason.DECODE_TIMEOUT, f"not decoded within {self._limits.seconds:g} s") from None
            except frames.PeerGoneError:
                exit_code = self._replace(decoder)
        raise ImageRejected(Reason.DECODE_CRASH, f"the decode process died twice, exit code {exit_code}")

    def _decoder(self) -> "_Decoder":
        """Return this thread's process, started if it has none, and ready. Raises `Unavailable`."""
        exit_code: int | None = None
        for _ in range(_TRIES):
            decoder = self._start_decoder()
            try:
                decoder.wait_ready()
            except (frames.PeerGoneError, TimeoutError):
                exit_code = self._replace(decoder)
            else:
                return decoder
        raise Unavailable(
            f"a decode process does not start, exit code {exit_code}",
            hint=f"see the output of `{' '.join(self._command)}`; DPIQA_DECODE_MEMORY_BYTES may be too small",
        )

    def _start_decoder(self) -> "_Decoder":
        decoder: _Decoder | None = getattr(self._local, "decoder", None)
        if decoder is None:
            with self._lock:
                self._check_open()
                decoder = self._local.decoder = _Decoder.start(self._command, self._limits)
                self._decoders.add(decoder)
        return decoder

    def _replace(self, decoder: "_Decoder") -> int | None:
        """End a process that must not be used again; the next image starts another. Returns its exit code."""
        with self._lock:
            self._decoders.discard(decoder)
            self._local.decoder = None
        exit_code = decoder.end()
        self._check_open()
        log.info("decoder_replaced", exit_code=exit_code)
        return exit_code

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the decode pool is closed")


class _Decoder:
    """One decode process and the socket to it. Used by one thread; `kill` by any."""

    def __init__(self, process: subprocess.Popen[bytes], peer: socket.socket) -> None:
        self._process = process
        self._peer = peer
        self._is_ready = False

    @classmethod
    def start(cls, command: Sequence[str], limits: Limits) -> "_Decoder":
        """Start a process without waiting for it. Raises `Unavailable` when the system has no resources for one."""
        ours, theirs = socket.socketpair()
        arguments = (str(theirs.fileno()), limits.model_dump_json(), str(os.getpid()))
        try:
            process = subprocess.Popen(
                (*command, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # libtiff writes there, and hostile files make it write a lot
                pass_fds=(theirs.fileno(),),
                env=child_environment(os.environ),
                start_new_session=True,  # Ctrl-C is for the owner
            )
        except OSError as error:
            ours.close()
            raise Unavailable(f"cannot start a decode process: {error.strerror}", hint="free memory") from None
        finally:
            theirs.close()
        return cls(process, ours)

    def wait_ready(self) -> None:
        """Wait until it has started, the first time. Raises `PeerGoneError` or `TimeoutError`."""
        if not self._is_ready:
            frames.receive_ready(self._peer, frames.Deadline.after(_START_SECONDS))
            self._is_ready = True

    def decode(self, data: bytes, preprocessing: Preprocessing, deadline: frames.Deadline) -> np.ndarray:
        """Decode one image in the process. Raises `ImageRejected`, `TimeoutError`, `PeerGoneError`."""
        frames.send_request(self._peer, data, preprocessing, deadline)
        return frames.receive_reply(self._peer, preprocessing, deadline)

    def kill(self) -> None:
        """End it now, from any thread; the owning thread then gets `PeerGoneError`."""
        self._process.kill()

    def end(self) -> int | None:
        """Kill, reap and close. Returns the exit code (negative: the signal)."""
        self._process.kill()
        self._peer.close()
        return self._process.wait()


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a decode process: allowed variables, and the path of this dpiqa."""
    allowed = {name: value for name, value in environment.items() if name in _ALLOWED_VARIABLES}
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, allowed.get("PYTHONPATH"))))
    return {**allowed, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
