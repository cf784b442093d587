"""Watchdog of a process: ends it when one of its loops has not come round in time.

Every wait for something outside is bounded, so a loop that does not come round waits for something that nobody thought
of. A process that hangs is not started again by any supervisor; one that has ended is.
"""

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from dpiqa.exit_codes import WorkerExitCode

log = structlog.get_logger()

_TICK_SECONDS = 1.0
_current = threading.local()


def beat() -> None:
    """Note that the watched loop of this thread goes on. Does nothing in a thread without one."""
    loop: Loop | None = getattr(_current, "loop", None)
    if loop is not None:
        loop.beat()


@dataclass(eq=False, slots=True)
class Loop:
    """A loop of one thread, or a piece of work of a known length."""

    name: str
    seconds: float  #: it may take from one beat to the next
    exit_code: WorkerExitCode
    thread: int
    beat_at: float = field(default_factory=time.monotonic)

    def beat(self) -> None:
        """Note that it comes round."""
        self.beat_at = time.monotonic()


class Watchdog:
    """Watches the loops of a process in a thread. The process ends with the loop's exit code and one log line."""

    def __init__(self, exit_process: Callable[[int], object] = os._exit) -> None:
        self._exit = exit_process
        self._loops: set[Loop] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self, name: str, seconds: float, exit_code: WorkerExitCode = WorkerExitCode.LOOP_STUCK) -> Iterator[Loop]:
        """Watch the body, which must call `beat` at least every `seconds`, in this thread or of the loop it gets.

        Every answer of the database beats by itself. Bodies may be nested: the inner one is watched meanwhile.
        """
        loop = Loop(name, seconds, exit_code, threading.get_ident())
        outer: Loop | None = getattr(_current, "loop", None)
        with self._lock:
            self._loops.add(loop)
            self._loops -= {outer}
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()
        _current.loop = loop
        try:
            yield loop
        finally:
            _current.loop = outer
            with self._lock:
                self._loops.discard(loop)
                if outer is not None:
                    outer.beat()
                    self._loops.add(outer)

    def close(self) -> None:
        """Stop watching."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        checked_at = time.monotonic()
        while not self._stopped.wait(_TICK_SECONDS):
            now = time.monotonic()
            with self._lock:
                loops = list(self._loops)
            if now - checked_at > 3 * _TICK_SECONDS:  # the whole process was stopped, or the machine slept
                for loop in loops:
                    loop.beat_at += now - checked_at
            checked_at = now
            for loop in loops:
                if now - loop.beat_at > loop.seconds:
                    self._end(loop, now)
                    return

    def _end(self, loop: Loop, now: float) -> None:
        frame = sys._current_frames().get(loop.thread)
        stack = traceback.format_stack(frame) if frame is not None else []
        log.critical(
            "loop_stuck",
            loop=loop.name,
            seconds=round(now - loop.beat_at),
            limit=loop.seconds,
            exit_code=int(loop.exit_code),
            at=[line.strip().splitlines()[0] for line in stack[-6:]],
        )
        self._exit(int(loop.exit_code))
