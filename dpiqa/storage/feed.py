"""The windowed feeder and the sweeper in one: the doorbells to ring after the commit.

`rung_at` is when a doorbell was last rung for a waiting item. Every job has its share of the window of each queue,
so an unavailable teacher or an unserved model does not block other jobs, and the broker's memory follows the work in
flight, not the size of the archive.

Shares are in proportion to 2 to the power of the priority. As the broker's queues are first in, first out, jobs are
then served in these proportions. The windows of `bulk` and `teacher` hold what was claimed within the last
`AHEAD_SECONDS`, so that a new job, or a changed priority, takes effect that soon, however slow the model is.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Interval,
    Row,
    Text,
    any_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    text,
    update,
)

from dpiqa.doorbell import Queue, Ring
from dpiqa.storage.claims import expire
from dpiqa.storage.columns import NOW, array, arrays, constant, constants
from dpiqa.storage.counts import fold_counts
from dpiqa.storage.engine import Lock, try_lock
from dpiqa.storage.job_profiles import profile_of_item
from dpiqa.storage.jobs import finish_jobs
from dpiqa.storage.postponed_buckets import JOB_IS_POSTPONED
from dpiqa.storage.tables import OPEN_JOB_STATES, items, jobs
from dpiqa.storage.workers import remove_old_workers
from dpiqa.types import ItemState, Stage

AHEAD_SECONDS = 10.0  #: of work in the windows of `bulk` and `teacher`
LEAST_CHUNKS = 8  #: in these windows, so that workers that were idle find something; they double it at each feed
SMALL_CHUNK = 32  #: items; of events and of the first of a job. Larger ones save statements where much is worked off

_LOST = items.alias()
CLEAR_LOST_RINGS = (
    update(items)
    .where(
        items.c.id.in_(
            select(_LOST.c.id)
            .select_from(jobs)
            .join(_LOST, _LOST.c.job_id == jobs.c.id)
            .where(jobs.c.state.in_(constants(OPEN_JOB_STATES)), _LOST.c.state == constant(ItemState.QUEUED))
            .where(_LOST.c.rung_at.is_not(None), _LOST.c.rung_at < NOW - bindparam("age", type_=Interval))
            .where(
                or_(
                    _LOST.c.queue == any_(array("empty_queues", Text)),
                    _LOST.c.rung_at < NOW - bindparam("long_age", type_=Interval),
                )
            )
            .order_by(_LOST.c.id)
            .with_for_update(of=_LOST, key_share=True, skip_locked=True)
        )
    )
    .values(rung_at=None)
)
# Returns how many items of each queue were claimed lately: claims are the changes that raise the count of leased items.
CLAIMED_LATELY = text(
    """
    SELECT CASE WHEN k.stage = 'teacher' THEN 'teacher' ELSE j.queue END AS queue, CAST(sum(k.n) AS bigint) AS n
    FROM count_changes k JOIN jobs j ON j.id = k.job_id
    WHERE k.state = 'leased' AND k.n > 0 AND k.at > clock_timestamp() - make_interval(secs => :seconds) GROUP BY 1
    """
)
# Marks, for every open job and queue, as many unrung items as its share of the window has room for, and returns them.
# A job of which nothing is due (S3 is unavailable, say) has no share: others have all of the window meanwhile. Nor has
# one whose bucket is postponed; while that is tried again, its jobs have a chunk each.
# Raw: a window function and a LATERAL subquery per job keep the cost to the items that are picked. The order by queue
# and `BETWEEN q AND q` leave only the partial index `items_unrung`: for an equal queue the planner may read all items
# in the order of the primary key. For the same reason the items to ring are an array, and siblings are not joined.
PICK_ITEMS_TO_RING = text(
    """
    WITH waiting AS (
        SELECT j.id AS job_id, cardinality(j.further_profiles) > 0 AS is_several, q.queue, q.size, q.chunk,
            power(2, j.priority) AS weight, pb.until IS NOT NULL AS is_probed
        FROM jobs j LEFT JOIN postponed_buckets pb ON pb.bucket = j.bucket
        CROSS JOIN unnest(:queues, :sizes, :chunks) AS q (queue, size, chunk)
        CROSS JOIN LATERAL (SELECT i.id FROM items i WHERE i.job_id = j.id AND i.queue BETWEEN q.queue AND q.queue
            AND i.state = 'queued' AND i.rung_at IS NULL AND i.not_before <= clock_timestamp()
            ORDER BY i.queue, i.id LIMIT 1) AS first
        WHERE j.state IN ('listing', 'running', 'watching') AND (pb.until IS NULL OR pb.until <= clock_timestamp())),
    shares AS (
        SELECT w.*, CASE WHEN is_probed THEN least(chunk, size)
            ELSE greatest(least(chunk, size), floor(size * weight / sum(weight) OVER (PARTITION BY queue))) END
            AS share
        FROM waiting w),
    picked AS (
        SELECT p.id, p.image_id, s.job_id, s.queue, s.is_several FROM shares s
        CROSS JOIN LATERAL (SELECT count(*) AS n FROM items i WHERE i.job_id = s.job_id AND i.queue = s.queue
            AND i.state = 'queued' AND i.rung_at IS NOT NULL) AS outstanding
        CROSS JOIN LATERAL (SELECT i.id, i.image_id FROM items i
            WHERE i.job_id = s.job_id AND i.queue BETWEEN s.queue AND s.queue
            AND i.state = 'queued' AND i.rung_at IS NULL AND i.not_before <= clock_timestamp()
            ORDER BY i.queue, i.id LIMIT CAST(greatest(0, s.share - outstanding.n) AS bigint)
            FOR NO KEY UPDATE OF i SKIP LOCKED) AS p),
    siblings AS (
        SELECT s.id FROM picked p CROSS JOIN LATERAL (SELECT i.id FROM items i
            WHERE p.is_several AND i.job_id = p.job_id AND i.image_id = p.image_id AND i.queue = p.queue
            AND i.state = 'queued' AND i.rung_at IS NULL AND i.not_before <= clock_timestamp()
            FOR NO KEY UPDATE OF i SKIP LOCKED) AS s)
    UPDATE items SET rung_at = clock_timestamp() FROM jobs
    WHERE items.id = ANY (ARRAY (SELECT id FROM picked UNION SELECT id FROM siblings)) AND jobs.id = items.job_id
    RETURNING items.id, items.image_id, items.queue, items.crashes,
        coalesce(nullif(items.profile, ''), jobs.profile) AS profile
    """
).bindparams(*arrays(queues=Text, sizes=BigInteger, chunks=BigInteger))
_NAMED = items.alias()
_TO_RING = (
    select(_NAMED.c.id, profile_of_item(_NAMED).label("profile"))
    .join(jobs, jobs.c.id == _NAMED.c.job_id)
    .where(_NAMED.c.id == any_(array("ids", BigInteger)), _NAMED.c.state == constant(ItemState.QUEUED))
    .where(jobs.c.state.in_(constants(OPEN_JOB_STATES)))
    .where(_NAMED.c.rung_at.is_(None), _NAMED.c.not_before <= NOW, ~JOB_IS_POSTPONED)
    .order_by(_NAMED.c.id)
    .limit(bindparam("n"))
    .with_for_update(of=_NAMED, key_share=True, skip_locked=True)
    .cte("to_ring")
)
RING_ITEMS = (
    update(items)
    .where(items.c.id == _TO_RING.c.id)
    .values(rung_at=NOW)
    .returning(items.c.id, items.c.image_id, items.c.queue, items.c.crashes, _TO_RING.c.profile)
)
_SKIPPED = items.alias()
_STILL_DUE = (
    select(_SKIPPED.c.id, profile_of_item(_SKIPPED).label("profile"))
    .join(jobs, jobs.c.id == _SKIPPED.c.job_id)
    .where(_SKIPPED.c.id == any_(array("ids", BigInteger)), _SKIPPED.c.state == constant(ItemState.QUEUED))
    .where(_SKIPPED.c.stage == bindparam("of_stage"), _SKIPPED.c.crashes == literal_column("0"))
    .where(jobs.c.state.in_(constants(OPEN_JOB_STATES)), _SKIPPED.c.not_before <= NOW)
    .order_by(_SKIPPED.c.id)
)
_SKIPPED_AND_FREE = _STILL_DUE.with_for_update(of=_SKIPPED, key_share=True, skip_locked=True).cte("skipped_and_free")
RING_AGAIN = (
    update(items)
    .where(items.c.id == _SKIPPED_AND_FREE.c.id)
    .values(rung_at=NOW)
    .returning(items.c.id, items.c.image_id, items.c.queue, items.c.crashes, _SKIPPED_AND_FREE.c.profile)
)
_RUNG = items.alias()
TAKE_BACK_RINGS = (
    update(items)
    .where(
        items.c.id.in_(
            select(_RUNG.c.id)
            .where(_RUNG.c.id == any_(array("ids", BigInteger)), _RUNG.c.state == constant(ItemState.QUEUED))
            .where(_RUNG.c.rung_at.is_not(None))
            .order_by(_RUNG.c.id)
            .with_for_update(key_share=True, skip_locked=True)
        )
    )
    .values(rung_at=None)
)
QUEUES_OF_ITEMS = select(items.c.queue).distinct().where(items.c.id == any_(array("ids", BigInteger)))
COUNT_RUNG_ITEMS = (
    select(func.count())
    .select_from(jobs)
    .join(items, items.c.job_id == jobs.c.id)
    .where(jobs.c.state.in_(constants(OPEN_JOB_STATES)), items.c.queue == any_(array("queues", Text)))
    .where(items.c.state == constant(ItemState.QUEUED), items.c.rung_at.is_not(None))
)


def feed(
    c: Connection,
    *,
    window: int,
    rering_seconds: float,
    chunk: int,
    empty_queues: set[Queue],
    max_crashes: int = 3,
    on_expired: Callable[[int], None] = lambda _: None,
) -> list[Ring]:
    """Sweep, then return the chunks of item ids to ring once this transaction is committed.

    Counts the crashes of leases that ran out, clears unanswered announcements (after `rering_seconds` if the queue
    is empty, ten times that if it is not), finishes jobs, and fills each queue's window of at most `window` items, in
    chunks of at most `chunk` items: of some seconds of work, so that a slow model holds few items.
    Returns nothing while another process feeds. Call it often: between calls, no queue is filled. `on_expired` is told
    how many leases ran out.
    """
    if not try_lock(c, Lock.FEEDER):
        return []
    on_expired(expire(c, max_crashes=max_crashes))
    age = timedelta(seconds=rering_seconds)
    c.execute(
        CLEAR_LOST_RINGS,
        {"age": age, "long_age": 10 * age, "empty_queues": sorted(empty_queues)},
    )
    fold_counts(c)
    remove_old_workers(c)
    finish_jobs(c)
    claimed = {row.queue: row.n for row in c.execute(CLAIMED_LATELY, {"seconds": AHEAD_SECONDS})}
    small = min(chunk, SMALL_CHUNK)
    sizes, chunks = {Queue.LIVE: window}, {Queue.LIVE: small}
    for queue in (Queue.BULK, Queue.TEACHER):
        sizes[queue] = min(window, max(LEAST_CHUNKS * small, claimed.get(queue, 0)))
        chunks[queue] = min(chunk, max(small, sizes[queue] // LEAST_CHUNKS))
    values = {"queues": list(sizes), "sizes": list(sizes.values()), "chunks": list(chunks.values())}
    return _chunks(c.execute(PICK_ITEMS_TO_RING, values).all(), chunks)


def ring_now(c: Connection, item_ids: Sequence[int], *, window: int = 4096, chunk: int = SMALL_CHUNK) -> list[Ring]:
    """Return the chunks to ring at once for items just added, as far as their queue has room.

    That is all of the window of `live`, and the least of the others: the feeder rings the rest, and shares fairly.
    """
    if not item_ids:
        return []
    chunk = min(chunk, SMALL_CHUNK)
    queues = list(c.execute(QUEUES_OF_ITEMS, {"ids": list(item_ids)}).scalars())
    size = window if Queue.LIVE in queues else min(window, LEAST_CHUNKS * chunk)
    n = size - c.execute(COUNT_RUNG_ITEMS, {"queues": queues}).scalar_one()
    return (
        _chunks(c.execute(RING_ITEMS, {"ids": list(item_ids), "n": n}).all(), dict.fromkeys(Queue, chunk))
        if n > 0
        else []
    )


def take_back_rings(c: Connection, item_ids: Sequence[int]) -> None:
    """Take back the announcements of these items, which nobody will answer: the next feed announces them again."""
    if item_ids:
        c.execute(TAKE_BACK_RINGS, {"ids": list(item_ids)})


def ring_again(
    c: Connection, item_ids: Set[int], *, stage: Stage, chunk: int = SMALL_CHUNK
) -> tuple[list[Ring], set[int]]:
    """Return the chunks to ring for items that a claim of this stage skipped, because another transaction held them.

    Also returns the ids of those that are still due and still held: call again for them. Items that were refused
    because they crashed a worker are left to `feed`.
    """
    rows = c.execute(RING_AGAIN, {"ids": sorted(item_ids), "of_stage": stage}).all()
    others = sorted(item_ids - {row.id for row in rows})
    held = set(c.execute(_STILL_DUE, {"ids": others, "of_stage": stage}).scalars()) if others else set()
    return _chunks(rows, dict.fromkeys(Queue, min(chunk, SMALL_CHUNK))), held


def _chunks(rows: Sequence[Row[Any]], sizes: Mapping[Queue, int]) -> list[Ring]:
    """Group by queue, in chunks of its size at most, and by profiles, so that the same models serve a chunk.

    What crashed a worker goes alone. The items of an image stay together, so that it is fetched once. `live` first.
    """
    order = {Queue.LIVE: 0, Queue.TEACHER: 1, Queue.BULK: 2}
    rows = sorted(rows, key=lambda row: row.id)
    chunks: list[Ring] = [(Queue(row.queue), [row.id]) for row in rows if row.crashes > 0]
    of_image: dict[tuple[str, int], list[Row[Any]]] = defaultdict(list)
    for row in rows:
        if row.crashes == 0:
            of_image[row.queue, row.image_id].append(row)
    alike: dict[tuple[str, tuple[str, ...]], list[list[int]]] = defaultdict(list)
    for (queue, _), members in of_image.items():
        alike[queue, tuple(sorted({row.profile for row in members}))].append([row.id for row in members])
    for (queue, _), groups in sorted(alike.items()):
        n_images = max(1, sizes[Queue(queue)] // max(map(len, groups)))
        for start in range(0, len(groups), n_images):
            ids = [item_id for group in groups[start : start + n_images] for item_id in group]
            chunks.append((Queue(queue), ids))
    return sorted(chunks, key=lambda entry: order[entry[0]])
