"""Lists the objects of a submitted job into the database, page by page, and resumes where a killed process stopped."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from uuid import UUID

import structlog
from sqlalchemy import Connection, Engine

from dpiqa.doorbell import Doorbell, Ring, ring_score
from dpiqa.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    ImageRejected,
    LeaseLost,
    ObjectGone,
    StoreUnavailable,
)
from dpiqa.objects.store import ObjectStore
from dpiqa.retries import retry_transaction
from dpiqa.settings import Settings
from dpiqa.storage.engine import transaction
from dpiqa.storage.feed import ring_now
from dpiqa.storage.images import add_images
from dpiqa.storage.jobs import Job, fail_listing, finish_listing, read_keys, save_cursor, start_listing
from dpiqa.types import ImageRef, JobKind

log = structlog.get_logger()
T = TypeVar("T")

PAGE_KEYS = 100  #: of a list job; few enough to be looked up well within a listing lease


class Lister:
    """Lists jobs, one worker at a time per job, by a lease."""

    def __init__(
        self,
        engine: Engine,
        store: ObjectStore,
        doorbell: Doorbell,
        settings: Settings,
        stopping: threading.Event,
    ) -> None:
        self._engine, self._store, self._doorbell = engine, store, doorbell
        self._settings, self._stopping = settings, stopping

    def list_job(self, job_id: str) -> None:
        """List a job that waits for it. Does nothing when another worker lists it, or when it is listed.

        A bucket that does not exist or is denied fails the job, with one line. While S3 or Postgres is unavailable
        the listing lease ends, and the feeder announces the job again. Stops between pages once `stopping` is set.
        """
        try:
            job = self._commit(lambda c: start_listing(c, UUID(job_id), self._settings.lease_seconds))
            if job is not None:
                self._list(job)
        except (DatabaseUnavailable, StoreUnavailable) as error:
            log.warning("listing_postponed", job=job_id, error=str(error))
        except LeaseLost as error:
            log.info("listing_taken_over", job=job_id, error=str(error))

    def _list(self, job: Job) -> None:
        """Add page after page. Raises `LeaseLost` when another worker took the listing over."""
        try:
            for cursor, page in self._keys(job) if job.kind is JobKind.LIST else self._prefix(job):
                if self._stopping.is_set():
                    return
                ring_score(self._doorbell, self._add(job, page, cursor))
        except ConfigurationError as error:
            log.warning("listing_failed", job=str(job.id), error=str(error))
            message = str(error)
            self._commit(lambda c: fail_listing(c, job, message))
        else:
            self._commit(lambda c: finish_listing(c, job))

    def _prefix(self, job: Job) -> Iterator[tuple[str, list[ImageRef]]]:
        """Yield pages of objects, each with the cursor to resume after it; begins after `job.cursor`."""
        for page in self._store.list(job.bucket, job.prefix, start_after=job.cursor):
            yield page[-1].key, page

    def _keys(self, job: Job) -> Iterator[tuple[str, list[ImageRef]]]:
        """Yield pages of the keys that a list job names, as `_prefix` does."""
        after = int(job.cursor or 0)

        def read_page(c: Connection) -> list[tuple[int, str]]:
            return read_keys(c, job.id, after=after, limit=PAGE_KEYS)

        def look_up(key: str) -> ImageRef:
            return self._look_up(job.bucket, key)

        with ThreadPoolExecutor(self._settings.fetch_threads, thread_name_prefix="head") as pool:
            while page := self._commit(read_page):
                after = page[-1][0]
                yield str(after), list(pool.map(look_up, [key for _, key in page]))

    def _look_up(self, bucket: str, key: str) -> ImageRef:
        """Return the object under a key.

        A key without an object still becomes an item, so that its job says why it has no score: with an empty ETag
        the worker gets the same error and records it.
        """
        try:
            return self._store.head(bucket, key)
        except (ObjectGone, ImageRejected):
            return ImageRef(bucket=bucket, key=key, etag="")

    def _add(self, job: Job, page: Sequence[ImageRef], cursor: str) -> list[Ring]:
        """Add a page and save the cursor in one transaction; return the rings."""
        settings = self._settings

        def add(c: Connection) -> list[Ring]:
            items = add_images(c, job, page)
            save_cursor(c, job, cursor, settings.lease_seconds)
            return ring_now(c, items, window=settings.window_items, chunk=settings.chunk_items)

        return self._commit(add)

    def _commit(self, statements: Callable[[Connection], T]) -> T:
        """Run a whole transaction, again where Postgres asks for it. Raises `DatabaseUnavailable`."""

        def attempt() -> T:
            with transaction(self._engine) as c:
                return statements(c)

        return retry_transaction(attempt)
