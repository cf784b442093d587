"""The sources of jobs: those of `dpiqa.sources`, and the one whose rows the ledger holds."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import Connection

from dpiqa.errors import ImageRejected, ObjectGone
from dpiqa.objects.store import ObjectStore
from dpiqa.settings import Settings
from dpiqa.sources.base import Source, SourcePage
from dpiqa.sources.opening import open_source
from dpiqa.storage.jobs import Job, read_keys
from dpiqa.storage.uploads import read_upload_page
from dpiqa.types import ImageRef, JobKind

PAGE_KEYS = 100  #: of a list job; few enough to be looked up well within a listing lease


class Commit(Protocol):
    """A function that runs statements in a transaction of their own, again where Postgres asks for it."""

    def __call__(self, statements: Callable[[Connection], Any]) -> Any:
        """Return what the statements return."""


def open_job_source(job: Job, store: ObjectStore, commit: Commit, settings: Settings) -> Source:
    """Return the source of a job. Reads nothing yet."""
    if job.source.upload is not None:
        return UploadSource(job.source.upload, commit)
    if job.kind is JobKind.LIST:
        return KeysSource(job, store, commit, settings.fetch_threads)
    return open_source(store, job.kind, job.bucket, job.prefix, job.source)


class KeysSource:
    """The keys that a request named, each looked up in the store. The cursor is the position of the last one."""

    def __init__(self, job: Job, store: ObjectStore, commit: Commit, threads: int) -> None:
        self._job, self._store, self._commit, self._threads = job, store, commit, threads

    def pages(self, cursor: str | None = None) -> Iterator[SourcePage]:
        """See `Source.pages`."""
        after = int(cursor or 0)

        def read_page(c: Connection) -> list[tuple[int, str]]:
            return read_keys(c, self._job.id, after=after, limit=PAGE_KEYS)

        with ThreadPoolExecutor(self._threads, thread_name_prefix="head") as pool:
            while page := self._commit(read_page):
                after = page[-1][0]
                refs = list(pool.map(self._look_up, [key for _, key in page]))
                yield SourcePage(refs=refs, cursor=str(after))

    def _look_up(self, key: str) -> ImageRef:
        """Return the object under a key.

        A key without an object still becomes an item, so that its job says why it has no score: with an empty ETag
        the worker gets the same error and records it.
        """
        try:
            return self._store.head(self._job.bucket, key)
        except (ObjectGone, ImageRejected):
            return ImageRef(bucket=self._job.bucket, key=key, etag="")


class UploadSource:
    """The objects of an upload. The cursor is the position of the last page."""

    def __init__(self, upload_id: UUID, commit: Commit) -> None:
        self._upload_id, self._commit = upload_id, commit

    def pages(self, cursor: str | None = None) -> Iterator[SourcePage]:
        """See `Source.pages`."""
        position = int(cursor or 0) + 1

        def read_page(c: Connection) -> list[ImageRef] | None:
            return read_upload_page(c, self._upload_id, position)

        while (refs := self._commit(read_page)) is not None:
            yield SourcePage(refs=refs, cursor=str(position))
            position += 1
