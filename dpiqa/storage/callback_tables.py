"""Table of callbacks. Rows are locked after those of `tables.py`."""

from sqlalchemy import BigInteger, Column, ForeignKey, Identity, Index, Integer, Table, Text, Uuid

from dpiqa.storage.columns import counter_column, enum_column, time_column
from dpiqa.storage.tables import metadata
from dpiqa.types import CallbackState

callbacks = Table(
    "callbacks",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="order of the requests"),
    Column("job_id", Uuid, ForeignKey("jobs.id"), nullable=False, unique=True, comment="the job"),
    Column("url", Text, nullable=False, comment="URL that is told when the job ends"),
    Column("message_id", Text, nullable=False, comment="webhook-id: the same for each attempt to tell of one end"),
    enum_column("state", CallbackState, "written by the worker that delivers it", check=True),
    counter_column("attempts", "how often it was sent, or tried to be"),
    Column("status", Integer, comment="HTTP status of the last attempt; NULL: there was no answer"),
    Column("error", Text, comment="why the last attempt failed; NULL: it did not"),
    time_column("due_at", "earliest time of the next attempt", now=True),
    time_column("created_at", "when it was asked for", now=True),
    time_column("finished_at", "when it was delivered or given up; NULL before"),
    time_column("lease_until", "end of the lease of the worker that delivers it; NULL: none does"),
    counter_column("attempt", "fence of that worker: each start adds 1"),
    comment="callbacks of jobs: asked for with a job, delivered at least once after it has ended",
)
Index("callbacks_pending", callbacks.c.due_at, postgresql_where=callbacks.c.state == CallbackState.PENDING)
