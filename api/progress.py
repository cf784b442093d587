"""Progress of jobs as server-sent events: one poll per job, however many clients follow it.

A client gets the newest progress when it is ready for it, and misses what came between: a slow one costs no memory.
Database connections are used by the polls alone, each for a short transaction.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from dpiqa.errors import DpiqaError, NotFound
from dpiqa.http_api.jobs import JobStatus
from dpiqa.storage.job_queries import JobReport
from dpiqa.types import ENDED_JOB_STATES

log = structlog.get_logger()

POLL_SECONDS = 1.0  #: between two looks at one job
HEARTBEAT_SECONDS = 15.0  #: silence after which a comment is sent: proxies close connections that say nothing
RETRY_MILLISECONDS = 3000  #: before a browser connects again
#: Fields that make no event of their own: clocks, and the report, which is written after the job's last event.
_NO_NEWS = {"duration_seconds", "mean_rate", "mean_rate_per_second", "report"}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The progress of a job at one moment."""

    id: str  #: alike for the same progress, in every process: `Last-Event-ID`
    data: str  #: a `JobStatus` as JSON
    ended: bool  #: the job has ended: nothing follows

    @classmethod
    def of(cls, report: JobReport) -> "Snapshot":
        """Take a snapshot: the body of `GET /v1/jobs/{id}`."""
        status = JobStatus.model_validate(report)
        identity = status.model_dump_json(exclude=_NO_NEWS)
        digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        return cls(digest, status.model_dump_json(), report.job.state in ENDED_JOB_STATES)

    def event(self) -> bytes:
        """Return the event: `end` for the last one, `progress` for those before."""
        name = "end" if self.ended else "progress"
        return format_sse_event(data_str=self.data, event=name, id=self.id, retry=RETRY_MILLISECONDS)


@dataclass
class _Feed:
    """The poll of one job and those who wait for it."""

    latest: Snapshot
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    n_readers: int = 0
    over: bool = False  #: nothing more comes: the job was deleted, or the poll failed
    poll: "asyncio.Task[None] | None" = None


class ProgressFeeds:
    """The polls of the jobs that clients follow. Of one event loop."""

    def __init__(self, read: Callable[[UUID], JobReport]) -> None:
        """`read` reports on a job, in a thread; it raises `DpiqaError`."""
        self._read = read
        self._feeds: dict[UUID, _Feed] = {}

    async def events(self, first: Snapshot, job_id: UUID, last_seen: str | None) -> AsyncIterator[bytes]:
        """Yield an event for each change of a job until it ends, and comments meanwhile.

        `first`: the progress just read; it is left out if the client has seen it.
        """
        async with self._reading(job_id, first) as feed:
            while True:
                snapshot = feed.latest
                if snapshot.id != last_seen:
                    last_seen = snapshot.id
                    yield snapshot.event()
                if snapshot.ended or feed.over:
                    return
                try:
                    await asyncio.wait_for(self._next(feed, last_seen), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield KEEPALIVE_COMMENT

    @staticmethod
    async def _next(feed: _Feed, last_seen: str | None) -> None:
        async with feed.changed:
            await feed.changed.wait_for(lambda: feed.over or feed.latest.id != last_seen)

    @asynccontextmanager
    async def _reading(self, job_id: UUID, first: Snapshot) -> AsyncIterator[_Feed]:
        """Join the readers of a job; the first starts the poll, the last ends it."""
        feed = self._feeds.get(job_id)
        if feed is None:
            feed = self._feeds[job_id] = _Feed(first)
            if not first.ended:
                feed.poll = asyncio.create_task(self._poll(job_id, feed))
        feed.n_readers += 1
        try:
            yield feed
        finally:
            feed.n_readers -= 1
            if not feed.n_readers:
                self._feeds.pop(job_id, None)
                if feed.poll is not None:
                    feed.poll.cancel()

    async def _poll(self, job_id: UUID, feed: _Feed) -> None:
        while not (feed.latest.ended or feed.over):
            await asyncio.sleep(POLL_SECONDS)
            try:
                snapshot = Snapshot.of(await run_in_threadpool(self._read, job_id))
            except NotFound:  # deleted meanwhile
                snapshot, feed.over = feed.latest, True
            except DpiqaError as error:  # the job goes on, and so does the client
                log.warning("progress_postponed", job=str(job_id), error=str(error))
                continue
            except Exception:
                feed.over = True
                log.exception("progress_failed", job=str(job_id))
                snapshot = feed.latest
            async with feed.changed:
                feed.latest = snapshot
                feed.changed.notify_all()

    def close(self) -> None:
        """End all polls and all streams."""
        for feed in self._feeds.values():
            feed.over = True
            if feed.poll is not None:
                feed.poll.cancel()
