"""Renewal of the leases that this process holds."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from dpiqa.errors import DatabaseUnavailable
from dpiqa.pipeline import metrics
from dpiqa.text import first_line
from dpiqa.watchdog import WATCHDOG, Watchdog, beat

log = structlog.get_logger()

#: Takes `(item_id, fence)` pairs to renew, returns the ids still held.
Renew = Callable[[Sequence[tuple[int, int]]], set[int]]


def note_expired(n: int) -> None:
    """Count leases that ran out, of whatever worker, and name their number in the log."""
    if n:
        metrics.EXPIRED.inc(n)
        log.warning("leases_expired", n=n)


@dataclass(slots=True)
class _Lease:
    fence: int
    until: float  #: monotonic seconds; earlier than the end in the database, because counted from before the call
    is_lost: bool = False


class LeaseKeeper:
    """Renews every held lease each `lease_seconds / 3` in a thread, and marks those that were lost.

    This only saves work: the fence in the database keeps a lost lease from writing.
    """

    def __init__(
        self,
        renew: Renew,
        lease_seconds: float,
        *,
        loop_seconds: float = 90.0,
        watchdog: Watchdog = WATCHDOG,
    ) -> None:
        """`loop_seconds`: that a renewal takes at most; after that the process counts as stuck."""
        self._watchdog, self._loop_seconds = watchdog, loop_seconds
        self._renew, self._seconds = renew, lease_seconds
        self._leases: dict[int, _Lease] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._thread.start()

    def hold(self, leases: Iterable[tuple[int, int]], claimed_at: float) -> None:
        """Start renewing `(item_id, fence)` pairs; `claimed_at`: `time.monotonic()` before they were claimed."""
        with self._lock:
            for item_id, fence in leases:
                self._leases[item_id] = _Lease(fence, claimed_at + self._seconds)

    def drop(self, leases: Iterable[tuple[int, int]]) -> None:
        """Stop renewing leases that were recorded, released or lost."""
        with self._lock:
            for item_id, fence in leases:
                if item_id in self._leases and self._leases[item_id].fence == fence:
                    del self._leases[item_id]

    def holds(self, item_id: int, fence: int) -> bool:
        """Return whether the lease is held, as far as this process knows."""
        with self._lock:
            lease = self._leases.get(item_id)
        return lease is not None and lease.fence == fence and time.monotonic() < lease.until

    def renew_all(self) -> None:
        """Renew all held leases once. Raises `DatabaseUnavailable`."""
        with self._lock:
            lost = [(item_id, lease.fence) for item_id, lease in self._leases.items() if lease.is_lost]
            leases = [(item_id, lease.fence) for item_id, lease in self._leases.items() if not lease.is_lost]
        if lost:
            log.warning("leases_lost", items=len(lost))
            self.drop(lost)
        if leases:
            called_at = time.monotonic()
            self._update(leases, self._renew(leases), called_at)

    def _update(self, leases: Iterable[tuple[int, int]], held_ids: set[int], renewed_at: float) -> None:
        """Move the end of the leases that are held; mark the others as lost. What was dropped meanwhile stays dropped.

        A renewal may have waited for the transaction that recorded the item. Such a lease is dropped within moments,
        so the loss of what is still here at the next renewal is what is logged.
        """
        with self._lock:
            for item_id, fence in leases:
                lease = self._leases.get(item_id)
                if lease is not None and lease.fence == fence:
                    lease.is_lost = item_id not in held_ids
                    lease.until = 0.0 if lease.is_lost else renewed_at + self._seconds

    def close(self) -> None:
        """Stop renewing."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with self._watchdog.watch("leases", self._seconds / 3 + self._loop_seconds):
            while not self._stopped.wait(self._seconds / 3):
                beat()
                try:
                    self.renew_all()
                except DatabaseUnavailable as error:
                    log.warning("leases_not_renewed", error=str(error))
                except Exception as error:  # without this thread every long batch would lose its work
                    log.error("leases_not_renewed", error=first_line(error))
