"""Tables beside a job: its report, written when it ends, and the check that pauses a job that looks like a mistake.

Lock order: rows of these tables come after all of `tables.py`, except that a check is locked before its job.
"""

from sqlalchemy import BigInteger, Boolean, Column, Double, ForeignKey, Identity, Index, Table, Text, Uuid

from dpiqa.storage.columns import counter_column, enum_column, time_column
from dpiqa.storage.tables import metadata
from dpiqa.types import ReportState

reports = Table(
    "reports",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="named by doorbell messages"),
    Column("job_id", Uuid, ForeignKey("jobs.id"), nullable=False, unique=True, comment="the job"),
    Column("output", Text, nullable=False, comment="s3:// address of the object; its name ends in the format"),
    Column("failures", Boolean, nullable=False, comment="whether it holds only the items that ended unscored"),
    enum_column("state", ReportState, "written by the worker that writes the report", check=True),
    Column("n_rows", BigInteger, comment="rows of the object; set when it is written"),
    Column("error", Text, comment="why it cannot be written, in one line"),
    time_column("created_at", "when it was requested", now=True),
    time_column("finished_at", "when it was written or given up; NULL before"),
    time_column("lease_until", "end of the lease of the worker that writes it; NULL: none does"),
    counter_column("attempt", "fence of the worker that writes it: each start adds 1"),
    comment="reports that are written when their job ends",
)
Index("reports_pending", reports.c.created_at, postgresql_where=reports.c.state == ReportState.PENDING)

failure_checks = Table(
    "failure_checks",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id"), primary_key=True, comment="a job that has not been checked yet"),
    Column("share", Double, nullable=False, comment="share of failures, 0 to 1, above which the job is paused"),
    comment="checks of the first items of jobs; a row ends with its check: a resumed job is not paused again",
)
