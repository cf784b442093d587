"""Lists the objects of a submitted job into the ledger, page by page, and goes on where a killed process stopped."""

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import Engine

from dpiqa.errors import ConfigurationError, DatabaseUnavailable, StoreUnavailable
from dpiqa.messages import Doorbell
from dpiqa.objects.store import ObjectStore
from dpiqa.pipeline.listed_keys import listed_pages
from dpiqa.pipeline.ringing import Ring, ring_all
from dpiqa.settings import Settings
from dpiqa.storage import ledger
from dpiqa.storage.sessions import retrying, transaction
from dpiqa.types import ImageRef, JobKind

log = structlog.get_logger()


def expand(
    engine: Engine, store: ObjectStore, doorbell: Doorbell, job_id: str, settings: Settings, stopping: threading.Event
) -> None:
    """List a job that waits for it. Does nothing when another worker is at it, or when it is done.

    A bucket that is missing or denied fails the job, in one line. Where S3 or Postgres is away the listing lease
    ends, and the feeder rings again.
    """
    try:
        job = retrying(lambda: _start(engine, job_id, settings))
        if job is not None:
            _list(engine, store, doorbell, job, settings, stopping)
    except (DatabaseUnavailable, StoreUnavailable) as error:
        log.warning("listing_postponed", job=job_id, error=str(error))
    except ledger.LeaseLost as error:
        log.info("listing_taken_over", job=job_id, error=str(error))


def _start(engine: Engine, job_id: str, settings: Settings) -> ledger.Job | None:
    with transaction(engine) as c:
        return ledger.start_listing(c, UUID(job_id), settings.lease_seconds)


def _list(
    engine: Engine,
    store: ObjectStore,
    doorbell: Doorbell,
    job: ledger.Job,
    settings: Settings,
    stopping: threading.Event,
) -> None:
    """Add page after page. Raises `LeaseLost` when another took the listing over."""
    try:
        for cursor, page in _pages(engine, store, job, settings):
            if stopping.is_set():
                return
            ring_all(doorbell, retrying(partial(_add, engine, job, page, cursor, settings)))
    except ConfigurationError as error:
        log.warning("listing_failed", job=str(job.id), error=str(error))
        retrying(partial(_fail, engine, job, str(error)))
        return
    retrying(partial(_finish, engine, job))


def _pages(
    engine: Engine, store: ObjectStore, job: ledger.Job, settings: Settings
) -> Iterator[tuple[str, list[ImageRef]]]:
    """Yield what is left to list, page by page, each with the cursor to go on after it."""
    if job.kind is JobKind.LIST:
        yield from listed_pages(engine, store, job, settings.fetch_threads)
    else:
        yield from ((page[-1].key, page) for page in store.list(job.bucket, job.prefix, start_after=job.cursor))


def _add(engine: Engine, job: ledger.Job, page: Sequence[ImageRef], cursor: str, settings: Settings) -> list[Ring]:
    """Write a page down, and that it is; return what to ring."""
    with transaction(engine) as c:
        items = ledger.add_images(c, job, page)
        ledger.save_cursor(c, job, cursor, settings.lease_seconds)
        return ledger.ring_now(c, items, window=settings.window_items, chunk=settings.chunk_items)


def _finish(engine: Engine, job: ledger.Job) -> None:
    with transaction(engine) as c:
        ledger.finish_listing(c, job)


def _fail(engine: Engine, job: ledger.Job, message: str) -> None:
    with transaction(engine) as c:
        ledger.fail_listing(c, job, message)
