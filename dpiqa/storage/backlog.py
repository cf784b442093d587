"""State of the whole installation at one moment, for alarms: what waits for how long, and what is not taken care of.

Every query reads a bounded number of rows, or an index that holds only what is open, however large the archive is.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, Interval, Text, bindparam, extract, func, select, text

from dpiqa.doorbell import Queue
from dpiqa.storage.access_tables import api_keys
from dpiqa.storage.bucket_tables import postponed_buckets
from dpiqa.storage.columns import NOW, arrays, constant
from dpiqa.storage.listings import LISTING
from dpiqa.storage.tables import items, jobs, workers
from dpiqa.storage.workers import ALIVE_SECONDS
from dpiqa.types import ItemState, Stage

FIRST_ITEMS = 100  #: of each job and queue whose waiting is looked at

# Returns, by queue, for how many seconds the item that waits longest is due, in jobs that are open. Raw: `BETWEEN q
# AND q` and the orders leave only the two partial indexes of waiting items to the planner, as in `storage.feed`.
OLDEST_WAITING = text(
    """
    SELECT q.queue, extract(epoch FROM max(clock_timestamp() - greatest(f.not_before, j.active_since))) AS seconds
    FROM jobs j CROSS JOIN unnest(:queues) AS q (queue)
    CROSS JOIN LATERAL (
        (SELECT i.not_before FROM items i WHERE i.job_id = j.id AND i.queue BETWEEN q.queue AND q.queue
            AND i.state = 'queued' AND i.rung_at IS NULL AND i.not_before <= clock_timestamp()
            ORDER BY i.queue, i.id LIMIT :n)
        UNION ALL
        (SELECT i.not_before FROM items i WHERE i.job_id = j.id AND i.queue BETWEEN q.queue AND q.queue
            AND i.state = 'queued' AND i.rung_at IS NOT NULL AND i.not_before <= clock_timestamp()
            ORDER BY i.queue, i.rung_at LIMIT :n)) AS f
    WHERE j.state IN ('listing', 'running', 'watching') GROUP BY q.queue
    """
).bindparams(*arrays(queues=Text))
_FREE_SINCE = func.greatest(jobs.c.created_at, jobs.c.listing_lease_until, jobs.c.active_since)
OLDEST_UNLISTED = select(extract("epoch", NOW - func.min(_FREE_SINCE))).where(LISTING.is_free)
COUNT_OVERDUE = (
    select(func.count())
    .select_from(items)
    .where(items.c.state == constant(ItemState.LEASED), items.c.lease_until < NOW - bindparam("age", type_=Interval))
)
COUNT_POSTPONED = select(func.count()).select_from(postponed_buckets)
COUNT_WORKERS = (
    select(workers.c.stage, func.count().label("n"))
    .where(workers.c.seen_at > NOW - bindparam("age", type_=Interval))
    .group_by(workers.c.stage)
)
NEXT_KEY_EXPIRY = select(extract("epoch", func.min(api_keys.c.expires_at) - NOW)).where(
    api_keys.c.revoked_at.is_(None), api_keys.c.expires_at > NOW
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Waiting work, and what is not taken care of."""

    oldest_seconds: dict[Queue, float]  #: since the oldest waiting item, or listing, was due; 0: nothing waits
    overdue_leases: int  #: that ran out and that no worker has taken back
    postponed_buckets: int  #: that no worker reads, or that are being tried again
    workers: dict[Stage, int]  #: live ones
    next_key_expiry_seconds: float | None  #: until the next live API key expires; None: none does


def read_backlog(c: Connection, *, overdue_seconds: float = 0.0) -> Backlog:
    """Read it. `overdue_seconds`: since the end of a lease, before it counts as overdue."""
    oldest = dict.fromkeys(Queue, 0.0)
    of_items = [queue.value for queue in Queue if queue is not Queue.MAINTENANCE]
    for row in c.execute(OLDEST_WAITING, {"queues": of_items, "n": FIRST_ITEMS}):
        oldest[Queue(row.queue)] = max(0.0, float(row.seconds))
    oldest[Queue.MAINTENANCE] = max(0.0, float(c.execute(OLDEST_UNLISTED).scalar_one() or 0.0))
    alive = dict.fromkeys(Stage, 0)
    for row in c.execute(COUNT_WORKERS, {"age": timedelta(seconds=ALIVE_SECONDS)}):
        alive[Stage(row.stage)] = row.n
    expiry = c.execute(NEXT_KEY_EXPIRY).scalar_one()
    return Backlog(
        oldest_seconds=oldest,
        overdue_leases=c.execute(COUNT_OVERDUE, {"age": timedelta(seconds=overdue_seconds)}).scalar_one(),
        postponed_buckets=c.execute(COUNT_POSTPONED).scalar_one(),
        workers=alive,
        next_key_expiry_seconds=None if expiry is None else float(expiry),
    )
