"""Retention: removal of items that ended long ago, and of the scores of versions that are no longer current.

An item says how one image went through one job. Once it has ended, the job's counts and the image's result say what
matters, and the item is only weight. A request is a row of `sweeps` per job, with the time before which its items must
have ended; the sweeper makes the batches (`dpiqa/storage/sweeps.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Connection,
    DateTime,
    Interval,
    Uuid,
    any_,
    bindparam,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from dpiqa.storage.audit import audited
from dpiqa.storage.columns import NOW, array, constant, constants
from dpiqa.storage.jobs import Job
from dpiqa.storage.tables import items, jobs, sweeps
from dpiqa.types import ENDED_JOB_STATES, AuditAction, JobKind, SweepAction

WATCH_PAUSE = timedelta(days=1)  #: between two automatic prunings of a watch: each reads all of its items

_BEFORE = bindparam("before", type_=DateTime(timezone=True))
_HAS_ENDED = jobs.c.state.in_(constants(sorted(ENDED_JOB_STATES)))
#: A job that ended is pruned once. A watch does not end: it is pruned again and again.
PRUNABLE_JOBS = (
    select(jobs)
    .where(jobs.c.deleted_at.is_(None), ~exists().where(sweeps.c.job_id == jobs.c.id))
    .where(
        or_(
            _HAS_ENDED
            & (jobs.c.finished_at < _BEFORE)
            & (jobs.c.pruned_at.is_(None) | (jobs.c.pruned_at < jobs.c.finished_at)),
            ~_HAS_ENDED
            & (jobs.c.kind == constant(JobKind.WATCH))
            & (func.coalesce(jobs.c.pruned_at + bindparam("pause", type_=Interval), jobs.c.created_at) < NOW),
        )
    )
    .order_by(jobs.c.created_at, jobs.c.id)
)
COUNT_OLD_ITEMS = (
    select(items.c.job_id, func.count().label("n"))
    .where(items.c.job_id == any_(array("ids", Uuid)), items.c.finished_at < _BEFORE)
    .group_by(items.c.job_id)
)
MARK_PRUNED = update(jobs).where(jobs.c.id == any_(array("ids", Uuid))).values(pruned_at=NOW)
INSERT_SWEEPS = insert(sweeps)


# Looks at some images in the order of their ids and deletes the results, scores and measures of those that were
# replaced, or deleted, before a time, or counts the images. The rows of the images stay: the order of later events
# depends on them. Raw: a chain of CTEs that locks images before results and scores, as recording does.
PRUNE_VERSIONS = text(
    """
    WITH next AS MATERIALIZED (SELECT id FROM images WHERE id > :after ORDER BY id LIMIT :n),
    old AS MATERIALIZED (
        SELECT o.id FROM images o
        LEFT JOIN LATERAL (
            SELECT first_seen_at FROM images WHERE bucket = o.bucket AND key = o.key AND current OFFSET 0) AS c ON true
        WHERE o.id = ANY (ARRAY (SELECT id FROM next)) AND NOT o.current
        AND coalesce(o.deleted_at, c.first_seen_at) < :before
        AND (EXISTS (SELECT FROM results r WHERE r.image_id = o.id) OR EXISTS (
            SELECT FROM scores s WHERE s.image_id = o.id))
        ORDER BY o.id FOR NO KEY UPDATE OF o),
    without_results AS (DELETE FROM results r USING old WHERE r.image_id = old.id AND :is_meant RETURNING 1),
    without_scores AS (DELETE FROM scores s USING old WHERE s.image_id = old.id AND :is_meant RETURNING 1),
    without_measures AS (DELETE FROM measures d USING old WHERE d.image_id = old.id AND :is_meant RETURNING 1)
    SELECT (SELECT max(id) FROM next) AS last, (SELECT count(*) FROM old) AS n
    """
).bindparams(bindparam("before", type_=DateTime(timezone=True)), bindparam("is_meant", type_=Boolean))


@dataclass(frozen=True, slots=True)
class Pruning:
    """A job of which items are, or would be, removed."""

    job: Job
    n_items: int  #: that ended before the time


def prunable(c: Connection, before: datetime) -> list[Pruning]:
    """Return the jobs with items that ended before a time, oldest first, except those that are being swept.

    Of jobs that have not ended only watches. Reads every item of those jobs.
    """
    found = [Job.from_row(row) for row in c.execute(PRUNABLE_JOBS, {"before": before, "pause": timedelta()})]
    counted = c.execute(COUNT_OLD_ITEMS, {"ids": [job.id for job in found], "before": before})
    n_items = {row.job_id: row.n for row in counted}
    return [Pruning(job, n_items[job.id]) for job in found if job.id in n_items]


def request_pruning(c: Connection, before: datetime, *, watch_pause: timedelta = timedelta()) -> list[UUID]:
    """Ask the sweeper to remove the items that ended before a time; return the ids of their jobs.

    `watch_pause`: leave out watches that were pruned more recently. Results, scores and counts stay.
    """
    rows = c.execute(PRUNABLE_JOBS.with_for_update(key_share=True), {"before": before, "pause": watch_pause}).all()
    ids: Sequence[UUID] = [row.id for row in rows]
    if ids:
        c.execute(INSERT_SWEEPS, [{"job_id": job_id, "action": SweepAction.PRUNE, "before": before} for job_id in ids])
        c.execute(MARK_PRUNED, {"ids": ids})
        audited(c, AuditAction.PRUNE, "items", before=before.isoformat(), jobs=len(ids))
    return list(ids)


def prune_versions(
    c: Connection, before: datetime, *, after: int = 0, limit: int = 10_000, dry_run: bool = False
) -> tuple[int, int | None]:
    """Delete the results and scores of some versions that were replaced or deleted before a time.

    Looks at up to `limit` images with ids above `after`. Returns how many had any, and the last id; None at the end.
    """
    if after == 0 and not dry_run:
        audited(c, AuditAction.PRUNE, "old versions", before=before.isoformat())
    row = c.execute(PRUNE_VERSIONS, {"before": before, "after": after, "n": limit, "is_meant": not dry_run}).one()
    return row.n, row.last
