"""The objects of a job of kind `list`: its keys, looked up in the store page by page."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from sqlalchemy import Engine

from dpiqa.errors import ImageRejected, ObjectGone
from dpiqa.objects.store import ObjectStore
from dpiqa.storage.job_keys import read_keys
from dpiqa.storage.rows import Job
from dpiqa.storage.sessions import retrying, transaction
from dpiqa.types import ImageRef

PAGE_KEYS = 100  #: few enough to be looked up well within a listing lease


def listed_pages(engine: Engine, store: ObjectStore, job: Job, threads: int) -> Iterator[tuple[str, list[ImageRef]]]:
    """Yield pages of objects, each with the cursor to save once it is added; begins after `job.cursor`.

    Raises `ConfigurationError`, `StoreUnavailable`, `DatabaseUnavailable`.
    """
    after = int(job.cursor or 0)
    with ThreadPoolExecutor(threads, thread_name_prefix="head") as pool:
        while page := retrying(partial(_read, engine, job, after)):
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
