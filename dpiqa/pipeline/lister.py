"""Lists the objects of a submitted job into the database, page by page, and resumes where a killed process stopped."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

import structlog
from sqlalchemy import Connection, Engine

from dpiqa.access import Grants
from dpiqa.doorbell import Doorbell, Ring, ring_score
from dpiqa.errors import (
    ConfigurationError,
    Conflict,
    DatabaseUnavailable,
    InvalidRequest,
    LeaseLost,
    StoreUnavailable,
)
from dpiqa.objects.granted import within
from dpiqa.objects.store import ObjectStore
from dpiqa.pipeline.job_source import look_up, open_job_source
from dpiqa.pipeline.stage_times import STAGES, Step
from dpiqa.retries import retry_transaction
from dpiqa.settings import Settings
from dpiqa.sources.selection import Selection, select
from dpiqa.sources.spec import SourceSpec
from dpiqa.storage.engine import transaction
from dpiqa.storage.feed import ring_now
from dpiqa.storage.images import add_images
from dpiqa.storage.jobs import Job
from dpiqa.storage.listings import fail_listing, finish_listing, save_cursor, start_listing
from dpiqa.types import ImageRef

log = structlog.get_logger()
T = TypeVar("T")

#: Objects of a transaction, as many as the pages that reach it. It holds the bucket's lock, for which live events wait:
#: some 100 ms. Twice as many are added no faster.
BATCH_REFS = 4096
BATCH_SECONDS = 1.0  #: what a slow source yields is added at least this often


def batches(selections: Iterable[Selection]) -> Iterator[Selection]:
    """Yield selections joined to larger ones, but the first objects at once: workers begin with them.

    What was read before an error comes before it.
    """
    refs: list[ImageRef] = []
    last: Selection | None = None
    began, is_first = time.monotonic(), True
    try:
        for selection in selections:
            refs += selection.refs
            last = selection
            is_due = len(refs) >= BATCH_REFS or time.monotonic() - began >= BATCH_SECONDS
            if is_due or (is_first and refs):
                yield replace(last, refs=refs)
                is_first = is_first and not refs
                refs, last, began = [], None, time.monotonic()
    except Exception:  # a source that fails again and again must not list the same pages each time
        if last is not None:
            yield replace(last, refs=refs)
        raise
    if last is not None:
        yield replace(last, refs=refs)


def read_ahead(values: Iterator[T]) -> Iterator[T]:
    """Yield the values of a slow iterator; a thread reads the next one while the caller works on the last."""
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        coming = pool.submit(next, values, None)
        while (value := coming.result()) is not None:
            coming = pool.submit(next, values, None)
            yield value


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
        """Add batch after batch. Raises `LeaseLost` when another worker took the listing over.

        Rings until the window is full; from then on the feeder does.
        """
        grants = Grants.of(job.grants)
        store = within(self._store, grants)
        source = open_job_source(job, store, self._commit)
        # the filters of an upload were applied when it was stored
        spec = job.source if job.source.upload is None else SourceSpec(all_names=True, max_malformed=1)
        has_room = True
        try:
            selected = select(source, spec, job.cursor, job.tally, grants)
            found = look_up(store, selected, job, self._settings.fetch_threads)
            for selection in read_ahead(_timed(batches(found))):
                if self._stopping.is_set():
                    return
                with STAGES.time(Step.LIST, images=len(selection.refs)):
                    n_waiting, rings = self._add(job, selection, ring=has_room)
                ring_score(self._doorbell, rings)
                has_room = has_room and sum(len(ids) for _, ids in rings) == n_waiting
        except Conflict as error:  # somebody ended the job meanwhile
            log.info("listing_ended", job=str(job.id), error=str(error))
        except (ConfigurationError, InvalidRequest) as error:
            log.warning("listing_failed", job=str(job.id), error=str(error))
            message = str(error)
            self._commit(lambda c: fail_listing(c, job, message))
        else:
            self._commit(lambda c: finish_listing(c, job))

    def _add(self, job: Job, selection: Selection, *, ring: bool) -> tuple[int, list[Ring]]:
        """Add a batch and save the cursor in one transaction; return the number of items that wait, and the rings."""
        settings = self._settings

        def add(c: Connection) -> tuple[int, list[Ring]]:
            items = add_images(c, job, selection.refs)
            save_cursor(c, job, selection.cursor, selection.tally, settings.lease_seconds)
            window, chunk = settings.window_items, settings.chunk_items
            return len(items), ring_now(c, items, window=window, chunk=chunk) if ring else []

        return self._commit(add)

    def _commit(self, statements: Callable[[Connection], T]) -> T:
        """Run a whole transaction, again where Postgres asks for it. Raises `DatabaseUnavailable`."""

        def attempt() -> T:
            with transaction(self._engine) as c:
                return statements(c)

        return retry_transaction(attempt)


def _timed(selections: Iterable[Selection]) -> Iterator[Selection]:
    """Count the time that reading the source takes; its images count when they are stored."""
    iterator = iter(selections)
    while True:
        with STAGES.time(Step.LIST, images=0):
            selection = next(iterator, None)
        if selection is None:
            return
        yield selection
