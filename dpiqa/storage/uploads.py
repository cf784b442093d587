"""Uploads: the objects of a manifest that workers cannot read where it is, stored in pages until they are listed.

A page of thousands of objects is one compressed row: ten million objects are two thousand rows. An upload that was cut
off is found again by its request and its first page; pages that are stored already are only compared. So a command that
was killed continues when it is repeated, without a key from the user.
"""

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Interval, bindparam, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from dpiqa.errors import LeaseLost
from dpiqa.storage.columns import NOW, constant
from dpiqa.storage.tables import jobs
from dpiqa.storage.upload_tables import upload_pages, uploads
from dpiqa.types import ImageRef, JobState

ABANDONED = timedelta(days=7)  #: after which an upload that nobody continued is deleted

_IS_OPEN = uploads.c.job_id.is_(None)
_INSERT_UPLOAD = insert(uploads)
START_UPLOAD = _INSERT_UPLOAD.on_conflict_do_update(
    index_elements=[uploads.c.request_hash],
    index_where=_IS_OPEN,
    set_={"fence": uploads.c.fence + 1, "seen_at": NOW},
).returning(uploads.c.id, uploads.c.fence)
_OF_UPLOAD = upload_pages.c.upload_id == bindparam("of_upload")
DIGESTS = select(upload_pages.c.position, upload_pages.c.digest).where(_OF_UPLOAD)
HOLD_UPLOAD = (
    update(uploads)
    .where(uploads.c.id == bindparam("of_upload"), uploads.c.fence == bindparam("held_fence"), _IS_OPEN)
    .values(seen_at=NOW)
    .returning(uploads.c.id)
)
_PUT_PAGE = insert(upload_pages)
PUT_PAGE = _PUT_PAGE.on_conflict_do_update(
    index_elements=[upload_pages.c.upload_id, upload_pages.c.position],
    set_={"digest": _PUT_PAGE.excluded.digest, "objects": _PUT_PAGE.excluded.objects},
)
CUT_PAGES = delete(upload_pages).where(_OF_UPLOAD, upload_pages.c.position > bindparam("last"))
READ_PAGE = select(upload_pages.c.objects).where(_OF_UPLOAD, upload_pages.c.position == bindparam("at"))
ASSIGN_UPLOAD = (
    update(uploads).where(uploads.c.id == bindparam("of_upload")).values(job_id=bindparam("to_job"), seen_at=NOW)
)
DELETE_UPLOAD = delete(uploads).where(uploads.c.id == bindparam("of_upload"))
_LISTED = select(jobs.c.id).where(
    jobs.c.id == uploads.c.job_id,
    jobs.c.state.not_in([constant(JobState.LISTING), constant(JobState.PAUSED)]),
)
PRUNE_UPLOADS = delete(uploads).where(
    or_(_IS_OPEN & (uploads.c.seen_at < NOW - bindparam("age", type_=Interval)), _LISTED.exists())
)


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that this command writes; another that continues it raises the fence."""

    id: UUID
    fence: int


@dataclass(frozen=True, slots=True)
class Packed:
    """A page of objects as it is stored."""

    digest: bytes  #: SHA-256
    objects: bytes


def pack(refs: Sequence[ImageRef]) -> Packed:
    """Pack a page of objects."""
    columns = {
        "bucket": _same([ref.bucket for ref in refs]),
        "key": [ref.key for ref in refs],
        "etag": _same([ref.etag for ref in refs]),
        "version_id": _same([ref.version_id for ref in refs]),
        "size": _same([ref.size for ref in refs]),
        "last_modified": _same([ref.last_modified and ref.last_modified.isoformat() for ref in refs]),
    }
    data = json.dumps(columns, separators=(",", ":")).encode()
    return Packed(hashlib.sha256(data).digest(), zlib.compress(data, 1))


def unpack(objects: bytes) -> list[ImageRef]:
    """Read what `pack` packed."""
    columns: dict[str, Any] = json.loads(zlib.decompress(objects))
    n = len(columns["key"])
    buckets, etags, versions, sizes, times = (
        value if isinstance(value := columns[name], list) else [value] * n
        for name in ("bucket", "etag", "version_id", "size", "last_modified")
    )
    return [
        ImageRef(
            bucket=bucket,
            key=key,
            etag=etag,
            version_id=version_id,
            size=size,
            last_modified=None if time is None else datetime.fromisoformat(time),
        )
        for bucket, key, etag, version_id, size, time in zip(
            buckets, columns["key"], etags, versions, sizes, times, strict=True
        )
    ]


def _same(values: list[Any]) -> Any:
    """Return the one value that all are, else the list."""
    return values[0] if values and values.count(values[0]) == len(values) else values


def start_upload(c: Connection, request: str, first: Packed) -> tuple[Upload, dict[int, bytes]]:
    """Begin an upload, or continue the one that the same request and first page began.

    A command that still writes it fails from now on. Returns the digests of the stored pages, too, by position.
    """
    request_hash = hashlib.sha256(request.encode() + first.digest).hexdigest()
    row = c.execute(START_UPLOAD, {"id": uuid4(), "request_hash": request_hash}).one()
    pages = c.execute(DIGESTS, {"of_upload": row.id})
    return Upload(row.id, row.fence), {page.position: bytes(page.digest) for page in pages}


def hold_upload(c: Connection, upload: Upload) -> None:
    """Lock the upload. Raises `LeaseLost` when another command continues it."""
    if c.execute(HOLD_UPLOAD, {"of_upload": upload.id, "held_fence": upload.fence}).one_or_none() is None:
        raise LeaseLost("another command uploads the same manifest", hint="wait for it, or repeat this one")


def put_page(c: Connection, upload: Upload, position: int, page: Packed) -> None:
    """Store a page. Raises `LeaseLost`."""
    hold_upload(c, upload)
    c.execute(PUT_PAGE, {"upload_id": upload.id, "position": position, "digest": page.digest, "objects": page.objects})


def cut_pages(c: Connection, upload: Upload, last: int) -> None:
    """Delete the pages after `last`: what an earlier command stored of a manifest that was longer."""
    c.execute(CUT_PAGES, {"of_upload": upload.id, "last": last})


def assign_upload(c: Connection, upload: Upload, job_id: UUID) -> None:
    """Make the upload the source of a job."""
    c.execute(ASSIGN_UPLOAD, {"of_upload": upload.id, "to_job": job_id})


def read_upload_page(c: Connection, upload_id: UUID, position: int) -> list[ImageRef] | None:
    """Return a page, from position 1; None after the last."""
    objects = c.execute(READ_PAGE, {"of_upload": upload_id, "at": position}).scalar_one_or_none()
    return None if objects is None else unpack(objects)


def delete_upload(c: Connection, upload_id: UUID) -> None:
    """Delete an upload with its pages."""
    c.execute(DELETE_UPLOAD, {"of_upload": upload_id})


def prune_uploads(c: Connection) -> None:
    """Delete the uploads of jobs that are listed, and those that nobody continued for a week."""
    c.execute(PRUNE_UPLOADS, {"age": ABANDONED})
