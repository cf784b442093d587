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

from dpiqa.types import LOOP_STUCK

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
    exit_code: int
    thread: int
    beat_at: float = field(default_factory=time.monotonic)

    def beat(self) -> None:
        """Note that it comes round."""
        self.beat_at = time.monotonic()


class Watchdog:
    """Watches the loops of a process in a thread. The process ends with the loop's exit code and one log line."""

    def __init__(
        self, exit_process: Callable[[int], object] = os._exit, *, tick_seconds: float = _TICK_SECONDS
    ) -> None:
        self._exit, self._tick = exit_process, tick_seconds
        self._loops: set[Loop] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self, name: str, seconds: float, exit_code: int = LOOP_STUCK) -> Iterator[Loop]:
        """Watch the body: `beat` must be called in this thread, or that of the loop it gets, at least every `seconds`.

        Answers of the database and waits between retries beat by themselves. Bodies may be nested: only the inner one
        is watched meanwhile.
        """
        loop = Loop(name, seconds, exit_code, threading.get_ident())
        outer: Loop | None = getattr(_current, "loop", None)
        with self._lock:
            self._loops.add(loop)
            self._loops -= {outer}
            if self._thread is None:
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

    def _run(self) -> None:
        checked_at = time.monotonic()
        while True:
            time.sleep(self._tick)
            now = time.monotonic()
            with self._lock:
                loops = list(self._loops)
            if now - checked_at > self._tick + 3:  # the whole process was stopped, or the machine slept
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
            exit_code=loop.exit_code,
            at=[line.strip().splitlines()[0] for line in stack[-6:]],
        )
        self._exit(loop.exit_code)


WATCHDOG = Watchdog()  #: of this process
