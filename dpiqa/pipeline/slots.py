"""Slots of a worker: how many chunks it works on at once, and which queues it reads meanwhile.

Chunks of events do not need a slot, so that submitted work, however slow, keeps no event waiting.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from dpiqa.doorbell import Queue
from dpiqa.types import Stage

#: Chunks in work at once: while one is on the device, others are fetched and recorded.
CHUNKS_AT_ONCE = {Stage.STUDENT: 4, Stage.TEACHER: 2}
#: Threads beside them: chunks of events, chunks that wait for a slot, and messages that only take a moment.
SPARE_THREADS = 8


class Slots:
    """Counts the chunks in work. Thread-safe."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._changed = threading.Condition()
        self._n_waiting = 0
        self._ended: deque[float] = deque()  # when chunks of the last second ended
        self._closed = False

    def close(self) -> None:
        """Let those that wait for a slot go on without one."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @contextmanager
    def hold(self, queue: Queue) -> Iterator[None]:
        """Wait for a slot and hold it during the body; chunks of `live` do not need one."""
        if queue is Queue.LIVE:
            yield
            return
        with self._changed:
            self._n_waiting += 1
            self._changed.wait_for(lambda: self._free > 0 or self._closed)
            self._n_waiting -= 1
            self._free -= 1
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._ended.append(time.monotonic())
                self._changed.notify()

    def reads(self, queue: str) -> bool:
        """Return whether messages of this queue should be taken now.

        What waits here is what is worked off within the second that reading may take to begin again, and one more.
        """
        if queue in (Queue.LIVE, Queue.MAINTENANCE):
            return True
        with self._changed:
            while self._ended and self._ended[0] < time.monotonic() - 1:
                self._ended.popleft()
            return self._n_waiting < 1 + len(self._ended)
