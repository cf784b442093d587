"""Sweeps: changes of many items of one job, in batches, so that no transaction grows with the job.

A row of `sweeps` lasts until nothing is left to do; it survives any process. A transaction that changes items of a row
holds the row. Items that a worker holds are left to it: they end with its outcome, or are swept when their lease has
run out.
"""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Row,
    Text,
    Uuid,
    any_,
    bindparam,
    delete,
    exists,
    insert,
    select,
    text,
    update,
)

from dpiqa.storage.columns import array, arrays
from dpiqa.storage.engine import Lock, try_lock
from dpiqa.storage.tables import count_changes, job_counts, job_keys, sweeps
from dpiqa.types import ItemState, Reason, SweepAction

BATCH = 10_000  #: items changed in one transaction
_ROWS = 100  #: sweeps looked at in one transaction

INSERT_SWEEP = insert(sweeps).returning(sweeps)
NEXT_SWEEPS = select(sweeps).order_by(sweeps.c.id).limit(_ROWS).with_for_update(skip_locked=True)
ARE_PENDING = select(exists().where(sweeps.c.job_id == any_(array("ids", Uuid))))
MOVE_SWEEP = update(sweeps).where(sweeps.c.id == bindparam("sweep_id")).values(after=bindparam("last"))
END_SWEEP = delete(sweeps).where(sweeps.c.id == bindparam("sweep_id"))
# The statements below are raw: each subquery is ordered as the partial index that serves it, because for a LIMIT
# without an order the planner may read the whole table in hope of an early match.
# Ends items that wait and returns how many. Locked ones are about to be claimed or recorded: the next batch has them.
CANCEL_ITEMS = text(
    """
    WITH unrung AS (
        SELECT id FROM items WHERE job_id = :job_id AND state = 'queued' AND rung_at IS NULL
        ORDER BY queue, id LIMIT :n FOR NO KEY UPDATE SKIP LOCKED),
    rung AS (
        SELECT id FROM items WHERE job_id = :job_id AND state = 'queued' AND rung_at IS NOT NULL
        ORDER BY queue, rung_at LIMIT :n FOR NO KEY UPDATE SKIP LOCKED),
    ended AS (
        UPDATE items SET state = 'cancelled', reason = 'job_cancelled', finished_at = clock_timestamp(), rung_at = NULL
        WHERE id IN (SELECT id FROM unrung UNION ALL SELECT id FROM rung) RETURNING id)
    SELECT count(*) FROM ended
    """
)
# Reopens items of one state, so that the index gives them in order, under a new fence; returns how many and the last of
# their image ids. Results that were made final because the teacher could not answer wait for it again.
RETRY_ITEMS = text(
    """
    WITH chosen AS (
        SELECT id, image_id, profile, stage FROM items WHERE job_id = :job_id
        AND state IN ('rejected', 'superseded', 'deleted', 'dead', 'cancelled') AND state = :state
        AND (:reasons IS NULL OR reason = ANY (:reasons)) AND image_id >= :after
        ORDER BY image_id LIMIT :n FOR NO KEY UPDATE),
    reopened AS (
        UPDATE items SET state = 'queued', reason = NULL, detail = NULL, finished_at = NULL, owner = NULL,
            attempt = items.attempt + 1, crashes = 0, errors = 0, rung_at = NULL, not_before = clock_timestamp()
        FROM chosen WHERE items.id = chosen.id),
    awaited AS (
        SELECT r.image_id, r.profile FROM chosen JOIN jobs j ON j.id = :job_id
        JOIN results r ON r.image_id = chosen.image_id AND r.profile = coalesce(nullif(chosen.profile, ''), j.profile)
        WHERE chosen.stage = 'teacher' AND r.status = 'final' AND r.stage = 'student'
        ORDER BY r.image_id, r.profile FOR NO KEY UPDATE OF r),
    unsettled AS (
        UPDATE results r SET status = 'provisional', updated_at = clock_timestamp()
        FROM awaited WHERE r.image_id = awaited.image_id AND r.profile = awaited.profile)
    SELECT count(*) AS n, max(image_id) AS last FROM chosen
    """
).bindparams(*arrays(reasons=Text))
PRUNE_ITEMS = text(
    """
    WITH old AS (
        SELECT id FROM items WHERE job_id = :job_id AND state <> 'leased'
        ORDER BY image_id LIMIT :n FOR UPDATE SKIP LOCKED),
    pruned AS (DELETE FROM items USING old WHERE items.id = old.id RETURNING items.id)
    SELECT count(*) FROM pruned
    """
)
# Looks at some items of a job in the order of their images and deletes those that ended before a time. What the trigger
# takes off the counts is added again. Returns how many were looked at, and the image of the last. The rows are locked
# first and looked at again, because one that came back meanwhile is open.
PRUNE_ENDED_ITEMS = text(
    """
    WITH next AS MATERIALIZED (
        SELECT id, image_id, finished_at FROM items WHERE job_id = :job_id AND image_id >= :after
        ORDER BY image_id LIMIT :n),
    old AS MATERIALIZED (
        SELECT id FROM items WHERE id = ANY (ARRAY (SELECT id FROM next WHERE finished_at < :before))
        AND finished_at < :before ORDER BY id FOR UPDATE),
    pruned AS (
        DELETE FROM items USING old WHERE items.id = old.id
        RETURNING items.profile, items.stage, items.state, items.reason, items.reused),
    counted AS (
        INSERT INTO count_changes (job_id, profile, stage, state, reason, n, reused)
        SELECT :job_id, profile, stage, state, coalesce(reason, ''), count(*), count(*) FILTER (WHERE reused)
        FROM pruned GROUP BY profile, stage, state, reason)
    SELECT (SELECT count(*) FROM next) AS n_seen, (SELECT max(image_id) FROM next) AS last
    """
)
# Returns whether the job has an item that a worker holds, or that waits, in the order of a partial index each.
HAS_OPEN_ITEMS = text(
    """
    SELECT (SELECT id FROM items WHERE job_id = :job_id AND state = 'queued' AND rung_at IS NULL
            ORDER BY queue, id LIMIT 1) IS NOT NULL
        OR (SELECT id FROM items WHERE job_id = :job_id AND state = 'queued' AND rung_at IS NOT NULL
            ORDER BY queue, rung_at LIMIT 1) IS NOT NULL
        OR (SELECT id FROM items WHERE job_id = :job_id AND state = 'leased' ORDER BY lease_until LIMIT 1) IS NOT NULL
    """
)
HAS_ITEMS = text("SELECT (SELECT id FROM items WHERE job_id = :job_id ORDER BY image_id LIMIT 1) IS NOT NULL")
DROP_KEYS = delete(job_keys).where(job_keys.c.job_id == bindparam("of_job"))
DROP_COUNTS = delete(job_counts).where(job_counts.c.job_id == bindparam("of_job"))
DROP_COUNT_CHANGES = delete(count_changes).where(count_changes.c.job_id == bindparam("of_job"))


def sweep(
    c: Connection,
    job_id: UUID,
    action: SweepAction,
    *,
    state: ItemState | None = None,
    reasons: Sequence[Reason] | None = None,
) -> None:
    """Ask for a sweep of a job's items and make its first batch. The caller holds the job's row."""
    values = {"job_id": job_id, "action": action, "state": state, "reasons": reasons}
    _make_batch(c, c.execute(INSERT_SWEEP, values).one(), BATCH)


def pending_sweeps(c: Connection, job_ids: Collection[UUID]) -> bool:
    """Return whether a sweep of one of the jobs is not finished."""
    return bool(c.execute(ARE_PENDING, {"ids": sorted(job_ids)}).scalar_one())


def sweep_once(c: Connection, *, batch: int = BATCH) -> bool:
    """Make one batch of the oldest sweep that has something to do. Returns whether more may be left at once.

    Returns False while another process sweeps.
    """
    return try_lock(c, Lock.SWEEPER) and any(_make_batch(c, row, batch) for row in c.execute(NEXT_SWEEPS).all())


def _make_batch(c: Connection, row: Row[Any], batch: int) -> bool:
    """Change one batch of items, and end the sweep where nothing is left. Returns whether the batch was full."""
    values, n = {"job_id": row.job_id, "n": batch}, 0
    match row.action:
        case SweepAction.CANCEL:
            n = c.execute(CANCEL_ITEMS, values).scalar_one()
            is_left = n >= batch or c.execute(HAS_OPEN_ITEMS, values).scalar_one()
        case SweepAction.RETRY:
            chosen = {"state": row.state, "reasons": row.reasons, "after": row.after}
            reopened = c.execute(RETRY_ITEMS, {**values, **chosen}).one()
            n, is_left = reopened.n, reopened.n >= batch
            c.execute(MOVE_SWEEP, {"sweep_id": row.id, "last": reopened.last or row.after})
        case SweepAction.PRUNE if row.before is not None:
            pruned = c.execute(PRUNE_ENDED_ITEMS, {**values, "before": row.before, "after": row.after}).one()
            n, is_left = pruned.n_seen, pruned.n_seen >= batch
            c.execute(MOVE_SWEEP, {"sweep_id": row.id, "last": pruned.last or row.after})
        case _:
            n = c.execute(PRUNE_ITEMS, values).scalar_one()
            # With the feeder's lock, so that nobody folds the counts that are dropped.
            is_left = n >= batch or c.execute(HAS_ITEMS, values).scalar_one() or not try_lock(c, Lock.FEEDER)
            if not is_left:
                for statement in (DROP_KEYS, DROP_COUNTS, DROP_COUNT_CHANGES):
                    c.execute(statement, {"of_job": row.job_id})
    if not is_left:
        c.execute(END_SWEEP, {"sweep_id": row.id})
    return bool(n >= batch)
