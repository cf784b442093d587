"""Submission of sources: of those that workers read where they are, and of those that are uploaded first."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, Engine

from dpiqa.access import EVERYTHING, Caller
from dpiqa.doorbell import Queue
from dpiqa.errors import InvalidRequest
from dpiqa.profiles import Profile
from dpiqa.retries import retry_transaction
from dpiqa.sources.base import PassedOver, Source
from dpiqa.sources.selection import select
from dpiqa.sources.spec import SourceSpec, Tally
from dpiqa.storage.engine import transaction
from dpiqa.storage.jobs import Job, create_job
from dpiqa.storage.uploads import (
    Upload,
    assign_upload,
    cut_pages,
    delete_upload,
    hold_upload,
    pack,
    put_page,
    start_upload,
)
from dpiqa.types import JobKind

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A job to be made of a source that is uploaded."""

    kind: JobKind
    bucket: str  #: of all objects; empty for several
    spec: SourceSpec
    profiles: Sequence[Profile]
    plan: Callable[[Connection, Job], Job]  #: stores with the job what is to become of it; returns it as it is then
    idempotency_key: str | None = None
    caller: Caller | None = None  #: see `create_job`


def count(
    source: Source,
    spec: SourceSpec,
    *,
    at_most: int | None = None,
    on_page: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Return what would become of a source; with `at_most`, stop once that many objects were read.

    Raises as `select`.
    """
    tally = Tally()
    for selection in select(source, spec, None, tally):
        tally = selection.tally
        on_page(tally)
        if at_most is not None and tally.read >= at_most:
            break
    return tally


def upload(
    engine: Engine,
    source: Source,
    request: Request,
    *,
    on_page: Callable[[Tally], None] = lambda _: None,
    confirm: Callable[[Tally], None] = lambda _: None,
) -> Job:
    """Store the objects of a source that pass the filters, and make a job of them.

    A command that was cut off continues where it was: see `dpiqa.storage.uploads`. While the job of the same objects
    and request is open, it is returned instead of another one.

    Args:
        engine: of the ledger.
        source: read once, from its beginning.
        request: the job.
        on_page: called with what has been read so far.
        confirm: called when all is stored and nothing is submitted; raises to stop.

    Raises `InvalidRequest` for a source that is not what it should be or has too many malformed rows: nothing is then
    submitted. `LeaseLost` when another command uploads the same at this time; as `create_job`.
    """
    stored: Upload | None = None
    known: dict[int, bytes] = {}
    digest, position, tally = hashlib.sha256(), 0, Tally()
    try:
        grants = EVERYTHING if request.caller is None else request.caller.grants
        for selection in select(source, request.spec, None, tally, grants):
            tally = selection.tally
            if selection.refs:
                page = pack(selection.refs)
                if stored is None:
                    stored, known = _commit(engine, partial(start_upload, request=_describe(request), first=page))
                position += 1
                digest.update(page.digest)
                if known.get(position) != page.digest:
                    _commit(engine, partial(put_page, upload=stored, position=position, page=page))
            on_page(tally)
        if stored is None:
            raise InvalidRequest(f"nothing is to be scored: {describe_tally(tally)}", hint="check source and filters")
        confirm(tally)
        submit = partial(
            _submit, request=request, stored=stored, last=position, tally=tally, content=digest.hexdigest()
        )
        return _commit(engine, submit)
    except InvalidRequest:  # not for other errors: the same command may continue
        if stored is not None:
            _commit(engine, partial(delete_upload, upload_id=stored.id))
        raise


def _submit(c: Connection, request: Request, stored: Upload, last: int, tally: Tally, content: str) -> Job:
    hold_upload(c, stored)
    cut_pages(c, stored, last)
    job = create_job(
        c,
        kind=request.kind,
        bucket=request.bucket,
        prefix="",
        profile=request.profiles,
        queue=Queue.BULK,
        source=request.spec.model_copy(update={"upload": stored.id}),
        tally=tally.model_copy(update={"taken": 0, "taken_bytes": 0, "threshold": None}),
        content=content,
        idempotency_key=request.idempotency_key,
        caller=request.caller,
    )
    if job.source.upload == stored.id:
        assign_upload(c, stored, job.id)
    else:
        delete_upload(c, stored.id)
    return request.plan(c, job)


def _describe(request: Request) -> str:
    """Return what, beside its content, tells one upload from another."""
    ids = [profile.id for profile in request.profiles]
    parts = [request.kind, request.bucket, request.spec.stored(), ids, request.idempotency_key]
    if request.caller is not None and request.caller.client is not None:
        parts.append(request.caller.client)  # two clients never continue one upload
    return json.dumps(parts, separators=(",", ":"))


def _commit(engine: Engine, statements: Callable[[Connection], T]) -> T:
    def attempt() -> T:
        with transaction(engine) as c:
            return statements(c)

    return retry_transaction(attempt)


def describe_tally(tally: Tally) -> str:
    """Return in words what was read of a source."""
    parts = [f"{tally.taken} objects"]
    if tally.passed_over:
        parts.append(f"passed over: {passed_over(tally)}")
    if tally.malformed:
        parts.append(f"{tally.malformed} malformed rows ({'; '.join(tally.examples)})")
    return "; ".join(parts)


_WORDS = {
    PassedOver.NAME: "by name no image",
    PassedOver.OTHER_PREFIX: "outside the prefix",
    PassedOver.OLD_VERSION: "old versions",
    PassedOver.DELETE_MARKER: "delete markers",
    PassedOver.OLDER: "older",
    PassedOver.EXCLUDED: "excluded",
    PassedOver.NOT_INCLUDED: "not included",
    PassedOver.NOT_SAMPLED: "not sampled",
    PassedOver.NOT_GRANTED: "not within the buckets and prefixes of the key",
}


def passed_over(tally: Tally) -> str:
    """Return in words what the filters left out, by reason."""
    return ", ".join(f"{n:,} {_WORDS[PassedOver(reason)]}" for reason, n in tally.passed_over.items())
