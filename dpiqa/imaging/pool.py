"""Pool of decode processes. One that hangs, crashes or uses up its memory affects only its own image.

Each thread of the pool owns one process and one socket to it, so a process killed at any moment leaves no lock
behind, and the kernel can end the process with its thread. (A pool whose processes share one queue, as in pebble
or `concurrent.futures`, stops forever when a process is killed while it holds the queue's lock.) Processes are
started by `exec`, with an environment that holds no secret, and never re-import the program that owns the pool.
"""

import contextlib
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np
import psutil
import structlog

from dpiqa.errors import ConfigurationError, DecoderKilled, DpiqaError, ImageRejected, Unavailable
from dpiqa.imaging import frames
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.measured import Measures
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.imaging.sandbox import NOTHING, Confinement
from dpiqa.types import Reason

log = structlog.get_logger()
#: -P prevents files in the working directory from shadowing modules.
CHILD = (sys.executable, "-P", "-m", "dpiqa.imaging.child")
_START_SECONDS = 60.0  #: until a decode process must be ready, on a busy machine
_TRIES = 2  #: of a process that does not start, and of an image whose process dies
#: Signals of the kernel to a process that does something wrong: the image caused it. Others come from outside.
_FAULTS = {
    signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP,
}  # fmt: skip
#: Counters of processes that the kernel ended because memory ran out: of this container, and of the machine.
_OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/proc/vmstat")
#: Variables that a decode process sees of the environment; any other may be a secret.
_ALLOWED_VARIABLES = frozenset(
    {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME"}
)
#: Settings of glibc: memory for one image of up to 8 MP stays with its process for the next. To get pages from the
#: kernel for every image, and to give them back, costs as much as to decode it.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(32 << 20)}


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
        self._confinement: Confinement | None = None  # of the decoders so far
        self._oom_kills = count_oom_kills()
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="decode")

    def start(self) -> Confinement:
        """Start one process; return what confines it.

        Raises `Unavailable` when none can be started, and `ConfigurationError` where the limits require a sandbox that
        this machine does not have.
        """
        return self._threads.submit(lambda: self._decoder().confinement).result()

    def submit(self, data: bytes, preprocessing: Preprocessing) -> Future[np.ndarray]:
        """Decode, turn upright, convert and resize: a future of (H, W, 3) uint8.

        It raises `ImageRejected`, among others with `DECODE_TIMEOUT` and `DECODE_CRASH`; `Unavailable` when no process
        can be started, when the pool is closed, and, as `DecoderKilled`, when the process was ended from outside; and
        `DpiqaError` when the kernel ended it for lack of memory. Raises `RuntimeError` itself after `close`, and
        `ConfigurationError` for more pixels than decode processes return.
        """
        frames.require_shareable(preprocessing)
        return self._threads.submit(lambda: self._decode(data, preprocessing)[0])

    def submit_measured(self, data: bytes, preprocessing: Preprocessing) -> Future[tuple[np.ndarray, Measures | None]]:
        """Do the same, and measure the decoded picture before it is resized. Raises as `submit`."""
        frames.require_shareable(preprocessing)
        return self._threads.submit(self._decode, data, preprocessing, is_measured=True)

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

    def _decode(
        self, data: bytes, preprocessing: Preprocessing, *, is_measured: bool = False
    ) -> tuple[np.ndarray, Measures | None]:
        if len(data) > self._limits.max_bytes:
            raise ImageRejected(Reason.TOO_MANY_BYTES, f"{len(data)} bytes, at most {self._limits.max_bytes}")
        errors: list[DpiqaError] = []
        while len(errors) < _TRIES:
            decoder = self._decoder()
            try:
                patience = frames.Patience(self._limits.wall_seconds)
                return decoder.decode(data, preprocessing, patience, is_measured=is_measured)
            except ImageRejected as rejection:
                if rejection.reason is Reason.DECODE_CRASH:
                    self._replace(decoder)  # its memory is in an unknown state
                raise
            except TimeoutError:
                raise self._timed_out(decoder) from None
            except frames.InvalidReplyError:
                self._replace(decoder)
                errors.append(ImageRejected(Reason.DECODE_CRASH, "the decode process sent an invalid reply twice"))
            except frames.PeerGoneError:
                errors.append(self._ended(decoder))
            if isinstance(errors[-1], ImageRejected) and errors[-1].reason is Reason.DECODE_TIMEOUT:
                break  # it would take as long again
        # Lack of memory counts; one end from outside leaves open what the image does.
        unclear = [error for error in errors if not isinstance(error, ImageRejected)]
        raise next((error for error in unclear if not isinstance(error, Unavailable)), (unclear or errors)[-1])

    def _timed_out(self, decoder: "_Decoder") -> DpiqaError:
        """End a process that does not answer; return the error, by what it did at last."""
        hangs = decoder.sleeps()
        self._replace(decoder)
        seconds = f"not decoded within {self._limits.wall_seconds:g} s"
        if hangs:
            return ImageRejected(Reason.DECODE_TIMEOUT, f"{seconds}: the decoder hangs")
        hint = "this machine is too busy: give it fewer processes, or set DPIQA_DECODE_WALL_SECONDS"
        return DecoderKilled(f"{seconds}, of which it computed less than {self._limits.seconds:g} s", hint=hint)

    def _ended(self, decoder: "_Decoder") -> DpiqaError:
        """Reap a process that ended while it decoded; return the error, by who ended it."""
        exit_code = self._replace(decoder)
        if exit_code == -signal.SIGXCPU:
            seconds = f"{self._limits.seconds:g} s of processor time"
            return ImageRejected(Reason.DECODE_TIMEOUT, f"decoding takes more than {seconds}")
        if exit_code is None or exit_code >= 0 or -exit_code in _FAULTS:
            return ImageRejected(Reason.DECODE_CRASH, f"the decode process died twice, exit code {exit_code}")
        name = signal.Signals(-exit_code).name
        with self._lock:
            before, self._oom_kills = self._oom_kills, count_oom_kills()
            lacks_memory = exit_code == -signal.SIGKILL and self._oom_kills != before
        if lacks_memory:
            hint = "give this machine or container more memory, or fewer DPIQA_DECODE_PROCESSES"
            return DpiqaError("the kernel ended the decode process twice, because memory ran out", hint=hint)
        return DecoderKilled(f"the decode process was ended from outside twice ({name})")

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
                self._check(decoder.confinement)
                return decoder
        raise Unavailable(
            f"a decode process does not start, exit code {exit_code}",
            hint=f"see the output of `{' '.join(self._command)}`; DPIQA_DECODE_MEMORY_BYTES may be too small",
        )

    def _check(self, confinement: Confinement) -> None:
        """Log, once, where the sandbox is incomplete. Raises `ConfigurationError` where that is not enough."""
        if confinement is self._confinement:
            return
        self._confinement = confinement
        if self._limits.sandbox == "require" and not confinement.is_complete:
            raise ConfigurationError(
                f"decode processes are confined by {confinement}, and DPIQA_DECODE_SANDBOX=require demands seccomp",
                hint="use a kernel or container runtime with seccomp, or set DPIQA_DECODE_SANDBOX=auto",
            )
        if not confinement.is_complete and self._limits.sandbox != "off":
            log.warning("sandbox_incomplete", confined_by=str(confinement))

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

    def __init__(self, process: subprocess.Popen[bytes], peer: socket.socket, shared: mmap.mmap) -> None:
        self._process = process
        self._peer = peer
        self._shared = shared
        self._is_ready = False
        self.confinement = NOTHING  #: once it is ready

    @classmethod
    def start(cls, command: Sequence[str], limits: Limits) -> "_Decoder":
        """Start a process without waiting for it. Raises `Unavailable` when the system has no resources for one."""
        ours, theirs = socket.socketpair()
        memory = frames.share_memory()
        arguments = (str(theirs.fileno()), limits.model_dump_json(), str(os.getpid()), str(memory))
        try:
            shared = frames.map_memory(os.dup(memory))
            process = subprocess.Popen(
                (*command, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # libtiff writes there, and hostile files make it write a lot
                pass_fds=(theirs.fileno(), memory),
                env=child_environment(os.environ),
                start_new_session=True,  # Ctrl-C is for the owner
            )
        except OSError as error:
            ours.close()
            raise Unavailable(f"cannot start a decode process: {error.strerror}", hint="free memory") from None
        finally:
            theirs.close()
            os.close(memory)
        return cls(process, ours, shared)

    def wait_ready(self) -> None:
        """Wait until it has started, the first time. Raises `PeerGoneError` or `TimeoutError`."""
        if not self._is_ready:
            self.confinement = frames.receive_ready(self._peer, frames.Patience(_START_SECONDS))
            self._is_ready = True

    def decode(
        self, data: bytes, preprocessing: Preprocessing, patience: frames.Patience, *, is_measured: bool
    ) -> tuple[np.ndarray, Measures | None]:
        """Decode one image in the process. Raises `ImageRejected`, `TimeoutError`, `PeerGoneError`."""
        frames.send_request(self._peer, data, preprocessing, patience, is_measured=is_measured)
        return frames.receive_reply(self._peer, self._shared, preprocessing, patience, is_measured=is_measured)

    def sleeps(self) -> bool:
        """Return whether it waits for something by itself: it neither computes nor was stopped."""
        try:
            return bool(psutil.Process(self._process.pid).status() == psutil.STATUS_SLEEPING)
        except psutil.Error:
            return False

    def kill(self) -> None:
        """End it now, from any thread; the owning thread then gets `PeerGoneError`."""
        self._process.kill()

    def end(self) -> int | None:
        """Kill, reap and close. Returns the exit code (negative: the signal), of a process that was ending its own."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._is_closed():
                self._process.wait(1)
        self._process.kill()
        self._peer.close()
        return self._process.wait()

    def _is_closed(self) -> bool:
        """Return whether the process has closed its socket, as it does when it ends."""
        try:
            return self._peer.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a decode process: allowed variables, and the path of this dpiqa."""
    allowed = {name: value for name, value in environment.items() if name in _ALLOWED_VARIABLES}
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, allowed.get("PYTHONPATH"))))
    return {**allowed, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **_KEEP_MEMORY}


def count_oom_kills() -> tuple[int, ...]:
    """Return how many processes the kernel ended because memory ran out, by each counter that this system has."""
    counts = []
    for path in _OOM_COUNTERS:
        with contextlib.suppress(OSError, ValueError):
            values = dict(line.split() for line in Path(path).read_text("ascii").splitlines())
            counts.append(int(values.get("oom_kill", 0)))
    return tuple(counts)
