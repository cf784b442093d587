"""Lists the objects of a submitted job into the database, page by page, and resumes where a killed process stopped."""

import threading
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

import structlog
from sqlalchemy import Connection, Engine

from dpiqa.doorbell import Doorbell, Ring, ring_score
from dpiqa.errors import (
    ConfigurationError,
    Conflict,
    DatabaseUnavailable,
    InvalidRequest,
    LeaseLost,
    StoreUnavailable,
)
from dpiqa.objects.store import ObjectStore
from dpiqa.pipeline.job_source import open_job_source
from dpiqa.retries import retry_transaction
from dpiqa.settings import Settings
from dpiqa.sources.selection import Selection, select
from dpiqa.storage.engine import transaction
from dpiqa.storage.feed import ring_now
from dpiqa.storage.images import add_images
from dpiqa.storage.jobs import Job, fail_listing, finish_listing, save_cursor, start_listing

log = structlog.get_logger()
T = TypeVar("T")


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

        A source that does not exist, is denied or malformed fails the job, with one line. While S3 or Postgres is
        unavailable the listing lease ends, and the feeder announces the job again. Stops between pages once `stopping`
        is set.
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
        source = open_job_source(job, self._store, self._commit, self._settings)
        try:
            for selection in select(source, job.source, job.cursor, job.tally):
                if self._stopping.is_set():
                    return
                ring_score(self._doorbell, self._add(job, selection))
        except Conflict as error:  # somebody ended the job meanwhile
            log.info("listing_ended", job=str(job.id), error=str(error))
        except (ConfigurationError, InvalidRequest) as error:
            log.warning("listing_failed", job=str(job.id), error=str(error))
            message = str(error)
            self._commit(lambda c: fail_listing(c, job, message))
        else:
            self._commit(lambda c: finish_listing(c, job))

    def _add(self, job: Job, selection: Selection) -> list[Ring]:
        """Add a page and save the cursor in one transaction; return the rings."""
        settings = self._settings

        def add(c: Connection) -> list[Ring]:
            items = add_images(c, job, selection.refs)
            save_cursor(c, job, selection.cursor, selection.tally, settings.lease_seconds)
            return ring_now(c, items, window=settings.window_items, chunk=settings.chunk_items)

        return self._commit(add)

    def _commit(self, statements: Callable[[Connection], T]) -> T:
        """Run a whole transaction, again where Postgres asks for it. Raises `DatabaseUnavailable`."""

        def attempt() -> T:
            with transaction(self._engine) as c:
                return statements(c)

        return retry_transaction(attempt)
