"""Lanes: threads for the work on slow buckets, apart from the slots of a worker.

A lane keeps the ids of items, not claims: their announcements stay unanswered, so the feeder does not announce more of
the job than its share of the window, and another worker may take them.
"""

import threading
from collections.abc import Callable, Iterable, Sequence

import structlog

from dpiqa.text import first_line

log = structlog.get_logger()

MOST_AT_WORK = 8  #: lanes that work at once; the others wait


class Lanes:
    """One thread for each slow bucket with waiting items, and another for its items of events. Thread-safe."""

    def __init__(self, work: Callable[[list[int]], object], chunk: int) -> None:
        self._work, self._chunk = work, chunk
        self._lock = threading.Lock()
        self._at_work = threading.Semaphore(MOST_AT_WORK)
        self._waiting: dict[tuple[str, str], dict[int, None]] = {}  # by bucket and queue: item ids in order
        self._threads: set[threading.Thread] = set()
        self._closed = False

    def add(self, bucket: str, queue: str, item_ids: Iterable[int]) -> None:
        """Let items of a slow bucket wait for its lane."""
        with self._lock:
            is_new = (bucket, queue) not in self._waiting
            self._waiting.setdefault((bucket, queue), {}).update(dict.fromkeys(item_ids))
            if not is_new or self._closed:
                return
            thread = threading.Thread(target=self._run, args=(bucket, queue), name=f"lane {bucket}", daemon=True)
            self._threads.add(thread)
        log.info("lane_opened", bucket=bucket, queue=queue)
        thread.start()

    def close(self) -> Sequence[int]:
        """Wait until the chunks in work have ended; return the ids that still wait. Idempotent."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        for thread in threads:
            thread.join()
        with self._lock:
            left = [item_id for ids in self._waiting.values() for item_id in ids]
            self._waiting.clear()
        return left

    def _run(self, bucket: str, queue: str) -> None:
        while chunk := self._next(bucket, queue):
            try:
                with self._at_work:
                    self._work(chunk)
            except Exception as error:  # as of a task: leases end, and the feeder announces the items again
                log.error("lane_failed", bucket=bucket, error=first_line(error), exc_info=error)
        log.info("lane_closed", bucket=bucket, queue=queue)
        with self._lock:
            self._threads.discard(threading.current_thread())

    def _next(self, bucket: str, queue: str) -> list[int]:
        """Take a chunk of ids; none once the lane has ended, which the next `add` opens again."""
        with self._lock:
            waiting = self._waiting[bucket, queue]
            if self._closed:
                return []
            chunk = list(waiting)[: self._chunk]
            for item_id in chunk:
                del waiting[item_id]
            if not chunk:
                del self._waiting[bucket, queue]
            return chunk
