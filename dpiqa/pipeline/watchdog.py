"""Ends a process whose device hangs: no call into a hung kernel ever returns, and its lease gives the work back."""

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger()

DEVICE_BROKEN = 70  #: exit code: the device's context is lost
DEVICE_HANGS = 71  #: exit code: a batch took too long


class Watchdog:
    """Calls `exit_process(71)` when one watched step takes longer than `seconds`."""

    def __init__(self, seconds: float, exit_process: Callable[[int], object] = os._exit) -> None:
        self._seconds, self._exit = seconds, exit_process
        self._deadline = math.inf
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def watch(self, seconds: float = 0.0) -> Iterator[None]:
        """Watch the body, which may take `seconds` where that is more than the usual. One body at a time."""
        self._deadline = time.monotonic() + max(self._seconds, seconds)
        try:
            yield
        finally:
            self._deadline = math.inf

    def close(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(min(1.0, self._seconds / 4)):
            if time.monotonic() > self._deadline:
                log.critical("device_hangs", exit_code=DEVICE_HANGS)
                self._exit(DEVICE_HANGS)
                return
