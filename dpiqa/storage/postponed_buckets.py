"""Postponed buckets: those that no worker reads until a time, because their latest fetches failed.

Shared by all workers, so that one finds out for all of them, and so that the feeder leaves their items out. A delay
doubles each time that a try fails, up to `LAST_SECONDS`, and is partly random.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

from sqlalchemy import (
    BigInteger,
    Connection,
    Double,
    Interval,
    Row,
    Text,
    any_,
    bindparam,
    delete,
    exists,
    func,
    select,
    text,
)

from dpiqa.storage.bucket_tables import postponed_buckets as table
from dpiqa.storage.columns import NOW, array, arrays
from dpiqa.storage.tables import images, items, jobs
from dpiqa.text import iso_minute, storable
from dpiqa.types import ItemState

FIRST_SECONDS, LAST_SECONDS = 5.0, 60.0  #: delays of the first try, and at most

# Postpones a bucket, unless another worker did so before. Raw: the old row decides the new delay.
POSTPONE = text(
    """
    INSERT INTO postponed_buckets AS p (bucket, times, detail, until)
    VALUES (:bucket, 1, :detail, clock_timestamp() + make_interval(secs => :first * (0.75 + random() / 2)))
    ON CONFLICT (bucket) DO UPDATE SET times = p.times + 1, detail = excluded.detail,
        until = clock_timestamp()
            + make_interval(secs => least(:last, :first * power(2, least(p.times, 20))) * (0.75 + random() / 2))
    WHERE p.until <= clock_timestamp()
    """
).bindparams(bindparam("first", type_=Double), bindparam("last", type_=Double), bindparam("bucket", type_=Text))
READMIT = delete(table).where(table.c.bucket == bindparam("of_bucket"))
DELETE_OLD = delete(table).where(table.c.until < NOW - bindparam("age", type_=Interval))
READ_POSTPONED = select(table, func.date_part("epoch", table.c.until - NOW).label("seconds_left")).order_by(
    table.c.bucket
)
#: Of a job, for its items to be left out by the feeder.
JOB_IS_POSTPONED = exists().where(table.c.bucket == jobs.c.bucket, table.c.until > NOW)
ITEMS_OF_BUCKETS = (
    select(items.c.id, items.c.queue, items.c.crashes, images.c.bucket)
    .join(images, images.c.id == items.c.image_id)
    .where(items.c.id == any_(array("ids", BigInteger)), images.c.bucket == any_(array("buckets", Text)))
)
# Lets items wait for a number of seconds each. Raw: pairs of id and seconds come as two arrays, and rows are locked in
# id order.
DELAY_ITEMS = text(
    """
    WITH free AS (
        SELECT i.id, d.seconds FROM items i JOIN unnest(:ids, :seconds) AS d (id, seconds) ON d.id = i.id
        WHERE i.state = :queued ORDER BY i.id FOR NO KEY UPDATE OF i SKIP LOCKED)
    UPDATE items SET rung_at = NULL,
        not_before = greatest(items.not_before, clock_timestamp() + make_interval(secs => free.seconds))
    FROM free WHERE items.id = free.id
    """
).bindparams(*arrays(ids=BigInteger, seconds=Double))


@dataclass(frozen=True, slots=True)
class PostponedBucket:
    """A row of `postponed_buckets`."""

    bucket: str
    times: int  #: tries in a row that failed
    detail: str  #: the last error
    since: datetime
    until: datetime
    seconds_left: float  #: by the database's clock; negative while it is tried again

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of READ_POSTPONED."""
        return cls(**row._mapping)

    def __str__(self) -> str:
        """Say in one line what is the case."""
        when = f"tried again in {self.seconds_left:.0f} s" if self.seconds_left > 0 else "being tried again"
        return (
            f"bucket {self.bucket}, {when} ({self.times} times in vain since {iso_minute(self.since)}): {self.detail}"
        )


class ItemOfBucket(NamedTuple):
    """An item with the bucket of its image."""

    id: int
    queue: str
    crashes: int
    bucket: str


def postpone(c: Connection, bucket: str, detail: str) -> None:
    """Let no worker read the bucket for a while, each time in a row for longer."""
    values = {"bucket": bucket, "detail": (storable(detail) or "")[:500]}
    c.execute(POSTPONE, {**values, "first": FIRST_SECONDS, "last": LAST_SECONDS})


def readmit(c: Connection, bucket: str) -> None:
    """Let all workers read the bucket as before."""
    c.execute(READMIT, {"of_bucket": bucket})


def read_postponed(c: Connection) -> list[PostponedBucket]:
    """Return the postponed buckets, and those that are being tried again."""
    return [PostponedBucket.from_row(row) for row in c.execute(READ_POSTPONED)]


def remove_old(c: Connection) -> None:
    """Forget the buckets that nobody has tried to read for a day."""
    c.execute(DELETE_OLD, {"age": timedelta(days=1)})


def items_of_buckets(c: Connection, item_ids: Sequence[int], buckets: Collection[str]) -> list[ItemOfBucket]:
    """Return the items, among these, whose image is in one of the buckets."""
    if not buckets:
        return []
    rows = c.execute(ITEMS_OF_BUCKETS, {"ids": list(item_ids), "buckets": sorted(buckets)})
    return [ItemOfBucket(*row) for row in rows]


def delay_items(c: Connection, seconds_of: dict[int, float]) -> None:
    """Let waiting items wait for these seconds more, and take back their announcements."""
    if seconds_of:
        values = {"ids": list(seconds_of), "seconds": list(seconds_of.values()), "queued": ItemState.QUEUED}
        c.execute(DELAY_ITEMS, values)
