"""Lists the objects of a submitted job into the ledger, page by page, and goes on where a killed process stopped."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import Engine

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


def expand(
    engine: Engine, store: ObjectStore, doorbell: Doorbell, job_id: str, settings: Settings, stopping: threading.Event
) -> None:
    """List a job that waits for it. Does nothing when another worker is at it, or when it is done.

    A bucket that is missing or denied fails the job, in one line. Where S3 or Postgres is away the listing lease
    ends, and the feeder rings again.
    """
    try:
        job = retry_transaction(lambda: _start(engine, job_id, settings))
        if job is not None:
            _list(engine, store, doorbell, job, settings, stopping)
    except (DatabaseUnavailable, StoreUnavailable) as error:
        log.warning("listing_postponed", job=job_id, error=str(error))
    except LeaseLost as error:
        log.info("listing_taken_over", job=job_id, error=str(error))


def _start(engine: Engine, job_id: str, settings: Settings) -> Job | None:
    with transaction(engine) as c:
        return start_listing(c, UUID(job_id), settings.lease_seconds)


def _list(
    engine: Engine,
    store: ObjectStore,
    doorbell: Doorbell,
    job: Job,
    settings: Settings,
    stopping: threading.Event,
) -> None:
    """Add page after page. Raises `LeaseLost` when another took the listing over."""
    try:
        for cursor, page in _pages(engine, store, job, settings):
            if stopping.is_set():
                return
            ring_score(doorbell, retry_transaction(partial(_add, engine, job, page, cursor, settings)))
    except ConfigurationError as error:
        log.warning("listing_failed", job=str(job.id), error=str(error))
        retry_transaction(partial(_fail, engine, job, str(error)))
        return
    retry_transaction(partial(_finish, engine, job))


def _pages(engine: Engine, store: ObjectStore, job: Job, settings: Settings) -> Iterator[tuple[str, list[ImageRef]]]:
    """Yield what is left to list, page by page, each with the cursor to go on after it."""
    if job.kind is JobKind.LIST:
        yield from listed_pages(engine, store, job, settings.fetch_threads)
    else:
        yield from ((page[-1].key, page) for page in store.list(job.bucket, job.prefix, start_after=job.cursor))


def _add(engine: Engine, job: Job, page: Sequence[ImageRef], cursor: str, settings: Settings) -> list[Ring]:
    """Write a page down, and that it is; return what to ring."""
    with transaction(engine) as c:
        items = add_images(c, job, page)
        save_cursor(c, job, cursor, settings.lease_seconds)
        return ring_now(c, items, window=settings.window_items, chunk=settings.chunk_items)


def _finish(engine: Engine, job: Job) -> None:
    with transaction(engine) as c:
        finish_listing(c, job)


def _fail(engine: Engine, job: Job, message: str) -> None:
    with transaction(engine) as c:
        fail_listing(c, job, message)


PAGE_KEYS = 100  #: few enough to be looked up well within a listing lease


def listed_pages(engine: Engine, store: ObjectStore, job: Job, threads: int) -> Iterator[tuple[str, list[ImageRef]]]:
    """Yield pages of objects, each with the cursor to save once it is added; begins after `job.cursor`.

    Raises `ConfigurationError`, `StoreUnavailable`, `DatabaseUnavailable`.
    """
    after = int(job.cursor or 0)
    with ThreadPoolExecutor(threads, thread_name_prefix="head") as pool:
        while page := retry_transaction(partial(_read, engine, job, after)):
            after = page[-1][0]
            yield str(after), list(pool.map(partial(look_up, store, job.bucket), [key for _, key in page]))


def look_up(store: ObjectStore, bucket: str, key: str) -> ImageRef:
    """Return what the store has under a key.

    A key without an object still becomes an item, so that whoever named it sees why it has no score: an empty ETag
    lets the worker meet the same refusal and record it.
    """
    try:
        return store.head(bucket, key)
    except (ObjectGone, ImageRejected):
        return ImageRef(bucket=bucket, key=key, etag="")


def _read(engine: Engine, job: Job, after: int) -> list[tuple[int, str]]:
    with transaction(engine) as c:
        return read_keys(c, job.id, after=after, limit=PAGE_KEYS)
