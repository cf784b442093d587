"""Tables of standing watches and of reconciliations. The tables of jobs, images and items are in `tables.py`.

Lock order: rows of these tables come after all of `tables.py`, and no transaction locks rows of two of them in another
order than below.
"""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, Table, Text, Uuid, literal_column
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from dpiqa.storage.columns import counter_column, enum_column, time_column
from dpiqa.storage.tables import metadata
from dpiqa.types import OPEN_RECONCILIATION_STATES, Delivery, Difference, ReconciliationState

watches = Table(
    "watches",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id"), primary_key=True, comment="the job of kind watch"),
    Column("backfill_job_id", Uuid, ForeignKey("jobs.id"), comment="the job that lists what was there before"),
    counter_column("events", "objects that events announced, created and removed", big=True),
    counter_column("passed_over", "objects that events announced as created and that are by name no image", big=True),
    time_column("last_event_at", "when the last of them was recorded; NULL: none yet"),
    enum_column("last_event_via", Delivery, "the way in which it came", nullable=True),
    Column("reconcile_seconds", Integer, comment="seconds between scheduled reconciliations; NULL: no schedule"),
    time_column("reconcile_due_at", "when the next one is due; set if and only if there is a schedule"),
    time_column("created_at", "when the row was written", now=True),
    comment="what is known of a watch beside its job; written by ingest and by `dpiqa watches`",
)

probes = Table(
    "probes",
    metadata,
    Column("id", Uuid, primary_key=True, comment="random; part of the object key"),
    Column("job_id", Uuid, ForeignKey("jobs.id"), nullable=False, comment="the watch that is tested"),
    Column("bucket", Text, nullable=False, comment="bucket of the probe object"),
    Column("key", Text, nullable=False, comment="key of the probe object, which is deleted right after"),
    time_column("sent_at", "when it was about to be put", now=True),
    time_column("created_seen_at", "when the event of its creation was recorded; NULL: not yet"),
    time_column("removed_seen_at", "when the event of its removal was recorded; NULL: not yet"),
    enum_column("seen_via", Delivery, "the way in which the last of the two came", nullable=True),
    comment="test events of watches; an object with such a key is never an image",
)
Index("probes_of_job", probes.c.job_id, probes.c.sent_at)

reconciliations = Table(
    "reconciliations",
    metadata,
    Column("id", Uuid, primary_key=True, comment="random, made with the request"),
    Column("bucket", Text, nullable=False, comment="the bucket that is compared"),
    Column("prefix", Text, nullable=False, comment="keys begin with it; empty for the whole bucket"),
    Column("profile", Text, ForeignKey("profiles.id"), nullable=False, comment="profile whose results count"),
    Column("inventory", Text, comment="s3:// address of the inventory's manifest; NULL: the bucket is listed"),
    Column("dry_run", Boolean, nullable=False, comment="whether it only reports"),
    Column("max_deleted", Integer, nullable=False, comment="percent of the ledger's objects that it may mark deleted"),
    Column("watch_id", Uuid, ForeignKey("jobs.id"), comment="the watch whose schedule asked for it"),
    enum_column("state", ReconciliationState, "written by the process that works on it", check=True),
    Column("cursor", Text, comment="last key that was compared, or marked; NULL at the start of each of the two"),
    time_column("as_of", "time by the database's clock that the listing shows, or that of the inventory"),
    counter_column("loaded", "rows of the inventory that were loaded", big=True),
    Column(
        "counts",
        JSONB,
        nullable=False,
        server_default=literal_column("'{}'"),
        comment="objects by kind: listed, unchanged, waiting, missing, changed, deleted, failed, skipped, ledger",
    ),
    Column(
        "examples",
        JSONB,
        nullable=False,
        server_default=literal_column("'{}'"),
        comment="by kind of difference, up to ten keys",
    ),
    Column("job_id", Uuid, ForeignKey("jobs.id"), comment="the job that its missing and changed objects went to"),
    Column("error", Text, comment="why it failed, in one line"),
    time_column("lease_until", "end of the lease of the process that works on it; NULL: none does"),
    counter_column("attempt", "fence of that process: each start adds 1"),
    time_column("created_at", "when it was asked for", now=True),
    time_column("started_at", "when a process first took it"),
    time_column("finished_at", "when it completed or failed"),
    Column("grants", ARRAY(Text), comment="buckets and prefixes that the caller's key is limited to; NULL: no limit"),
    comment="comparisons of a bucket with the ledger, and their reports",
)
_OPEN = reconciliations.c.state.in_(
    [literal_column(f"'{state}'") for state in ReconciliationState if state in OPEN_RECONCILIATION_STATES]
)
Index("reconciliations_newest", reconciliations.c.created_at, reconciliations.c.id)
Index(
    "reconciliations_one_open", reconciliations.c.bucket, reconciliations.c.prefix, unique=True, postgresql_where=_OPEN
)

differences = Table(
    "reconciliation_differences",
    metadata,
    Column("reconciliation_id", Uuid, ForeignKey("reconciliations.id"), primary_key=True, comment="the reconciliation"),
    enum_column("kind", Difference, "the kind of difference", primary_key=True),
    Column("key", Text(collation="C"), primary_key=True, comment="object key"),
    Column("image_id", BigInteger, comment="the ledger's image; NULL for one that is missing"),
    time_column("observed_at", "images.news_at when it was compared: a later event keeps it from being marked"),
    comment="the differences that reconciliations found; kept until the next one of the same bucket and prefix",
)

staged_objects = Table(
    "staged_objects",
    metadata,
    Column("reconciliation_id", Uuid, primary_key=True, comment="the reconciliation; its row may be gone"),
    Column("key", Text(collation="C"), primary_key=True, comment="object key"),
    Column("etag", Text, nullable=False, comment="without quotes"),
    Column("size", BigInteger, comment="bytes"),
    time_column("last_modified", "by the store's clock"),
    prefixes=["UNLOGGED"],
    comment="rows of an inventory while it is compared; unlogged: empty after a crash of the server",
)
