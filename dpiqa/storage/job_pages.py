"""Jobs and their items, paged."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, literal, select, text, tuple_

from dpiqa.errors import InvalidRequest
from dpiqa.storage.cursors import Page, decode, encode
from dpiqa.storage.jobs import job_uuid, read_job
from dpiqa.storage.rows import Job, to_job
from dpiqa.storage.score_pages import MAX_LIMIT
from dpiqa.storage.tables import images, items, jobs
from dpiqa.types import REASONS_OF, ItemState, Reason, Route, Stage

# Spelt as in the index `items_unscored`: a partial index serves only what the planner can see to be within it.
_UNSCORED = text("items.state IN ('rejected', 'superseded', 'deleted', 'dead')")


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRow:
    """One image in one job."""

    id: int
    job_id: UUID
    image_id: int
    bucket: str
    key: str
    etag: str
    version_id: str | None
    state: ItemState
    stage: Stage
    reason: Reason | None
    detail: str | None
    route: Route | None
    attempt: int
    crashes: int
    errors: int
    owner: str | None
    created_at: datetime
    finished_at: datetime | None


def list_jobs(c: Connection, *, limit: int = 100, cursor: str | None = None) -> Page[Job]:
    """Return jobs, newest first. Raises `InvalidRequest` for a bad cursor or a limit outside 1-1000."""
    query = select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(_checked(limit) + 1)
    if cursor is not None:
        created_at, job_id = _job_position(cursor)
        there = tuple_(literal(created_at, jobs.c.created_at.type), literal(job_id, jobs.c.id.type))
        query = query.where(tuple_(jobs.c.created_at, jobs.c.id) < there)
    found = [to_job(row) for row in c.execute(query)]
    if len(found) <= limit:
        return Page(found, None)
    last = found[limit - 1]
    return Page(found[:limit], encode("jobs", [last.created_at.isoformat(), str(last.id)]))


def job_items(
    c: Connection,
    job_id: UUID | str,
    state: ItemState | None = None,
    *,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[ItemRow]:
    """Return a job's items, those in one state if asked. Raises `NotFound`, `InvalidRequest` as `list_jobs`."""
    job = read_job(c, job_uuid(job_id))
    question = ("items", str(job.id), state)
    query = (
        select(items, images.c.bucket, images.c.key, images.c.etag, images.c.version_id)
        .join(images, images.c.id == items.c.image_id)
        .where(items.c.job_id == job.id)
        .order_by(items.c.image_id)
        .limit(_checked(limit) + 1)
    )
    if state is not None:
        query = query.where(items.c.state == state)
    if state in REASONS_OF:
        query = query.where(_UNSCORED)
    if cursor is not None:
        query = query.where(items.c.image_id > decode(question, cursor, [int])[0])
    found = [_to_item(row._mapping) for row in c.execute(query)]
    more = len(found) > limit
    return Page(found[:limit], encode(question, [found[limit - 1].image_id]) if more else None)


def _to_item(fields: Any) -> ItemRow:
    values = {name: fields[name] for name in ItemRow.__dataclass_fields__}
    values.update(
        state=ItemState(values["state"]),
        stage=Stage(values["stage"]),
        reason=Reason(values["reason"]) if values["reason"] else None,
        route=Route(values["route"]) if values["route"] else None,
    )
    return ItemRow(**values)


def _checked(limit: int) -> int:
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"a page has 1 to {MAX_LIMIT} rows, not {limit}")
    return limit


def _job_position(cursor: str) -> tuple[datetime, UUID]:
    created_at, job_id = decode("jobs", cursor, [str, str])
    try:
        return datetime.fromisoformat(str(created_at)), UUID(str(job_id))
    except ValueError:
        raise InvalidRequest("the cursor is not one of ours") from None
