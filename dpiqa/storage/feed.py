"""The windowed feeder and the sweeper in one: which doorbells to ring after the commit.

`rung_at` says when a doorbell was last rung for a waiting item. Every job has its share of the window of each queue,
so neither a down teacher nor a job whose models nobody serves stops the others, and the broker's memory follows
the work in flight, not the size of the archive.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, text

from dpiqa.doorbell import Queue
from dpiqa.storage.counts import fold_counts
from dpiqa.storage.engine import Lock, try_lock
from dpiqa.storage.jobs import finish_jobs
from dpiqa.storage.leases import expire
from dpiqa.storage.workers import forget_workers

Chunks = list[tuple[Queue, list[int]]]

_LOST = text(
    """
    UPDATE items SET rung_at = NULL WHERE id IN (
        SELECT i.id FROM jobs j JOIN items i ON i.job_id = j.id
        WHERE j.state IN ('listing', 'running', 'watching') AND i.state = 'queued' AND i.rung_at IS NOT NULL
        AND i.rung_at < clock_timestamp() - make_interval(secs => :seconds)
        AND (i.queue = ANY (CAST(:empty AS text[]))
             OR i.rung_at < clock_timestamp() - make_interval(secs => 10 * :seconds))
        ORDER BY i.id FOR NO KEY UPDATE OF i SKIP LOCKED)
    """
)
# For every open job and queue: as many unrung items as its share of the window has room for.
_PICK = text(
    """
    WITH waiting AS (
        SELECT j.id AS job_id, j.profile, q.queue
        FROM jobs j CROSS JOIN unnest(CAST(:queues AS text[])) AS q (queue)
        CROSS JOIN LATERAL (SELECT i.id FROM items i WHERE i.job_id = j.id AND i.queue = q.queue
            AND i.state = 'queued' AND i.rung_at IS NULL ORDER BY i.id LIMIT 1) AS first
        WHERE j.state IN ('listing', 'running', 'watching')),
    shares AS (
        SELECT w.*, greatest(least(:chunk, :window), CAST(:window AS bigint) / count(*) OVER (PARTITION BY queue))
            AS share
        FROM waiting w),
    picked AS (
        SELECT p.id, s.profile FROM shares s
        CROSS JOIN LATERAL (SELECT count(*) AS n FROM items i WHERE i.job_id = s.job_id AND i.queue = s.queue
            AND i.state = 'queued' AND i.rung_at IS NOT NULL) AS outstanding
        CROSS JOIN LATERAL (SELECT i.id FROM items i WHERE i.job_id = s.job_id AND i.queue = s.queue
            AND i.state = 'queued' AND i.rung_at IS NULL AND i.not_before <= clock_timestamp()
            ORDER BY i.id LIMIT greatest(0, s.share - outstanding.n) FOR NO KEY UPDATE OF i SKIP LOCKED) AS p)
    UPDATE items SET rung_at = clock_timestamp() FROM picked WHERE items.id = picked.id
    RETURNING items.id, items.queue, items.crashes, picked.profile
    """
)
_RING = text(
    """
    WITH named AS (
        SELECT i.id, j.profile FROM items i JOIN jobs j ON j.id = i.job_id
        WHERE i.id = ANY (CAST(:ids AS bigint[])) AND i.state = 'queued' AND i.rung_at IS NULL
        AND i.not_before <= clock_timestamp()
        ORDER BY i.id LIMIT :room FOR NO KEY UPDATE OF i SKIP LOCKED)
    UPDATE items SET rung_at = clock_timestamp() FROM named WHERE items.id = named.id
    RETURNING items.id, items.queue, items.crashes, named.profile
    """
)
_QUEUES_OF = text("SELECT DISTINCT job_id, queue FROM items WHERE id = ANY (CAST(:ids AS bigint[]))")
_OUTSTANDING = text(
    "SELECT count(*) FROM items WHERE job_id = ANY (CAST(:job_ids AS uuid[])) "
    "AND queue = ANY (CAST(:queues AS text[])) AND state = 'queued' AND rung_at IS NOT NULL"
)


def feed(
    c: Connection,
    *,
    window: int,
    rering_seconds: float,
    chunk: int,
    empty_queues: set[Queue],
    max_crashes: int = 3,
) -> Chunks:
    """Sweep, then return the chunks of item ids to ring once this transaction is committed.

    Counts the crashes of leases that ran out, forgets doorbells that nobody answered (after `rering_seconds` if the
    queue is empty, ten times that if it is not), finishes jobs, and fills each queue's window of `window` items.
    Returns nothing while another process is at it. Call it often: it is the pump of the system.
    """
    if not try_lock(c, Lock.FEEDER):
        return []
    expire(c, max_crashes=max_crashes)
    c.execute(_LOST, {"seconds": rering_seconds, "empty": sorted(empty_queues)})
    fold_counts(c)
    forget_workers(c)
    finish_jobs(c)
    queues = [Queue.LIVE, Queue.BULK, Queue.TEACHER]
    return _chunks(c.execute(_PICK, {"window": window, "chunk": chunk, "queues": queues}).all(), chunk)


def ring_now(c: Connection, item_ids: Sequence[int], *, window: int = 4096, chunk: int = 32) -> Chunks:
    """Return the chunks to ring at once for items just added, as far as their jobs have room in the window."""
    if not item_ids:
        return []
    pairs = c.execute(_QUEUES_OF, {"ids": list(item_ids)}).all()
    where = {"job_ids": list({pair.job_id for pair in pairs}), "queues": list({pair.queue for pair in pairs})}
    room = window - c.execute(_OUTSTANDING, where).scalar_one()
    return _chunks(c.execute(_RING, {"ids": list(item_ids), "room": max(0, room)}).all(), chunk) if room > 0 else []


def _chunks(rows: Sequence[Row[Any]], size: int) -> Chunks:
    """Group by queue and profile, so that one model serves a chunk; what crashed a worker goes alone. `live` first."""
    order = {Queue.LIVE: 0, Queue.TEACHER: 1, Queue.BULK: 2}
    chunks: Chunks = []
    for (queue, _), group in groupby(sorted(rows, key=_group), key=_group_name):
        members = list(group)
        healthy = [row.id for row in members if row.crashes == 0]
        chunks += [(Queue(queue), healthy[i : i + size]) for i in range(0, len(healthy), size)]
        chunks += [(Queue(queue), [row.id]) for row in members if row.crashes > 0]
    return sorted(chunks, key=lambda entry: order[entry[0]])


def _group(row: Row[Any]) -> tuple[str, str, int]:
    return row.queue, row.profile, row.id


def _group_name(row: Row[Any]) -> tuple[str, str]:
    return row.queue, row.profile
