"""The sources of jobs: those of `dpiqa.sources`, and the one whose rows the ledger holds."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import Connection

from dpiqa.errors import ImageRejected, ObjectGone, StoreUnavailable
from dpiqa.objects.store import ObjectStore
from dpiqa.sources.base import Source, SourcePage
from dpiqa.sources.opening import open_source
from dpiqa.sources.selection import Selection
from dpiqa.storage.jobs import Job
from dpiqa.storage.listings import read_keys
from dpiqa.storage.uploads import read_upload_page
from dpiqa.types import ImageRef, JobKind

PAGE_KEYS = 100  #: keys that are looked up at once; few enough for a listing lease
PATIENT_STARTS = 10  #: starts of a listing at which it waits for a store that answers for no object of a part


class Commit(Protocol):
    """A function that runs statements in a transaction of their own, again where Postgres asks for it."""

    def __call__(self, statements: Callable[[Connection], Any]) -> Any:
        """Return what the statements return."""


def open_job_source(job: Job, store: ObjectStore, commit: Commit) -> Source:
    """Return the source of a job. Reads nothing yet."""
    if job.source.upload is not None:
        return UploadSource(job.source.upload, commit)
    if job.kind is JobKind.LIST:
        return KeysSource(job, commit)
    return open_source(store, job.kind, job.bucket, job.prefix, job.source)


class KeysSource:
    """The keys that a request named. The cursor is the position of the last one."""

    def __init__(self, job: Job, commit: Commit) -> None:
        self._job, self._commit = job, commit

    def pages(self, cursor: str | None = None) -> Iterator[SourcePage]:
        """See `Source.pages`."""
        after = int(cursor or 0)

        def read_page(c: Connection) -> list[tuple[int, str]]:
            return read_keys(c, self._job.id, after=after, limit=PAGE_KEYS)

        while page := self._commit(read_page):
            after = page[-1][0]
            refs = [ImageRef(bucket=self._job.bucket, key=key, etag="") for _, key in page]
            yield SourcePage(refs=refs, cursor=str(after))


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


def look_up(store: ObjectStore, selections: Iterable[Selection], job: Job, threads: int) -> Iterator[Selection]:
    """Yield the selections with the ETags of objects whose source named none, some at a time.

    What is yielded before the end of a selection has the cursor before it: a listing that is cut off there looks the
    same objects up again, which adds nothing twice. An object at which the store fails holds up nothing: the worker
    that reads it says what became of it. Raises `StoreUnavailable` where no object of a part can be looked up, at the
    first starts of a listing; later ones add the objects all the same.
    """
    cursor, tally = job.cursor, job.tally
    with ThreadPoolExecutor(threads, thread_name_prefix="head") as pool:
        for selection in selections:
            refs = selection.refs
            if all(ref.etag for ref in refs):
                yield selection
            else:
                for start in range(0, len(refs), PAGE_KEYS):
                    part = refs[start : start + PAGE_KEYS]
                    looked_up = list(pool.map(partial(_current, store), part))
                    errors = [found for found in looked_up if isinstance(found, StoreUnavailable)]
                    if len(errors) == len(part) and job.listing_attempt < PATIENT_STARTS:
                        raise errors[0]
                    found = [
                        ref if isinstance(now, StoreUnavailable) else now
                        for ref, now in zip(part, looked_up, strict=True)
                    ]
                    is_last = start + PAGE_KEYS >= len(refs)
                    yield (
                        Selection(found, selection.cursor, selection.tally)
                        if is_last
                        else Selection(found, cursor, tally)
                    )
            cursor, tally = selection.cursor, selection.tally


def _current(store: ObjectStore, ref: ImageRef) -> ImageRef | StoreUnavailable:
    """Return the object as it is, or the error of a store that does not say.

    A key without an object still becomes an item, so that its job says why it has no score: with an empty ETag the
    worker gets the same error and records it.
    """
    if ref.etag:
        return ref
    try:
        return store.head(ref.bucket, ref.key, ref.version_id)
    except (ObjectGone, ImageRejected):
        return ref
    except StoreUnavailable as error:
        return error
