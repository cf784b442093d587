"""Health of buckets, as the fetches of this process see it: a bucket that fails is postponed, for all workers.

A bucket whose latest fetches failed (time-outs, 503, 403) is not read until a time that grows with each failed try.
The rows of `dpiqa.storage.postponed_buckets` are the truth for all workers; this copy is exchanged at each poll of the
feeder, and holds by itself while the database is unavailable. Single failures are left to the items' own delays.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Connection

from dpiqa.errors import ImageRejected, StoreUnavailable
from dpiqa.pipeline import metrics
from dpiqa.storage import postponed_buckets
from dpiqa.text import first_line
from dpiqa.types import Reason

log = structlog.get_logger()

LATEST = 16  #: fetches of a bucket that are judged together
MOST = 12  #: failures among them that postpone the bucket
IN_A_ROW = 8  #: fetches that the store did not answer, one after another, that postpone it
PROBES = 3  #: fetches that succeed one after another until a postponed bucket is read as before


@dataclass(slots=True)
class _Health:
    """Latest fetches of one bucket, and whether it is postponed."""

    failed: deque[bool] = field(default_factory=lambda: deque(maxlen=LATEST))  #: the latest fetches
    unanswered: int = 0  #: fetches in a row that the store did not answer
    succeeded: int = 0  #: fetches in a row
    error: str = ""  #: of the last failure
    closed_until: float | None = None  #: by `time.monotonic`; in the past: it is being tried; None: it is read
    changed: bool = False  #: `closed_until` is not in the database yet


class Buckets:
    """Buckets with failed fetches, and those that are postponed. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._health: dict[str, _Health] = {}

    def observe(self, bucket: str, error: BaseException | None) -> bool:
        """Count the end of a fetch. Returns whether the bucket was postponed, or is read again, by this one."""
        is_unanswered = isinstance(error, StoreUnavailable)
        is_denied = isinstance(error, ImageRejected) and error.reason is Reason.ACCESS_DENIED
        with self._lock:
            health = self._health.get(bucket)
            if health is None:
                if not (is_unanswered or is_denied):
                    return False  # nothing is kept of healthy buckets
                health = self._health[bucket] = _Health()
            health.failed.append(is_unanswered or is_denied)
            if error is not None and health.failed[-1]:
                health.unanswered, health.succeeded = health.unanswered + is_unanswered, 0
                health.error = first_line(error)
                return self._postpone(bucket, health)
            health.unanswered, health.succeeded = 0, health.succeeded + 1
            return self._readmit(bucket, health)

    def closed(self) -> dict[str, float]:
        """Return the postponed buckets, and for how many seconds from now."""
        now = time.monotonic()
        with self._lock:
            ends = {bucket: health.closed_until for bucket, health in self._health.items()}
        return {bucket: until - now for bucket, until in ends.items() if until is not None and until > now}

    def is_probed(self, bucket: str) -> bool:
        """Return whether the bucket was postponed and is being tried again, by single fetches."""
        with self._lock:
            health = self._health.get(bucket)
            return health is not None and health.closed_until is not None

    def require_open(self, bucket: str) -> None:
        """Raise `StoreUnavailable` where the bucket is postponed."""
        with self._lock:
            health = self._health.get(bucket)
            left = 0.0 if health is None or health.closed_until is None else health.closed_until - time.monotonic()
            error = "" if health is None else health.error
        if left > 0:
            raise StoreUnavailable(f"bucket {bucket} is not read for {left:.0f} s: {error}")

    def exchange(self, c: Connection) -> None:
        """Write what changed here, and take over what other workers wrote."""
        with self._lock:
            changed = {bucket: health for bucket, health in self._health.items() if health.changed}
            errors = {bucket: health.error for bucket, health in changed.items() if health.closed_until is not None}
            for health in changed.values():
                health.changed = False
        try:
            for bucket in sorted(changed):
                if bucket in errors:
                    postponed_buckets.postpone(c, bucket, errors[bucket])
                else:
                    postponed_buckets.readmit(c, bucket)
            rows = {row.bucket: row for row in postponed_buckets.read_postponed(c)}
        except BaseException:  # written at the next exchange
            with self._lock:
                for health in changed.values():
                    health.changed = True
            raise
        now = time.monotonic()
        with self._lock:
            for bucket, row in rows.items():
                health = self._health.setdefault(bucket, _Health(error=row.detail))
                if not health.changed:
                    health.closed_until = now + row.seconds_left
            for bucket in self._health.keys() - rows.keys():
                if not self._health[bucket].changed:
                    self._health[bucket].closed_until = None
        metrics.show_only(metrics.POSTPONED, [bucket for bucket, row in rows.items() if row.seconds_left > 0])

    def _postpone(self, bucket: str, health: _Health) -> bool:
        """Postpone the bucket where its latest fetches say so; the lock is held."""
        now = time.monotonic()
        if health.closed_until is not None and health.closed_until > now:
            return False  # a fetch from before
        was_probed = health.closed_until is not None
        if not was_probed and health.unanswered < IN_A_ROW and sum(health.failed) < MOST:
            return False
        health.closed_until, health.changed = now + postponed_buckets.FIRST_SECONDS, True
        health.failed.clear()
        health.unanswered = 0
        metrics.POSTPONEMENTS.labels(bucket).inc()
        log.warning("bucket_postponed", bucket=bucket, error=health.error)
        return True

    def _readmit(self, bucket: str, health: _Health) -> bool:
        """Read the bucket again where its probes succeeded; the lock is held."""
        if health.closed_until is None:
            if not any(health.failed) and not health.changed:
                del self._health[bucket]
            return False
        if health.succeeded < PROBES:
            return False
        health.closed_until, health.changed = None, True
        health.failed.clear()
        log.info("bucket_readmitted", bucket=bucket)
        return True
