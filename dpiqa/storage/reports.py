"""Reports of jobs: requested with a job, written once by one worker when the job has ended, whatever dies meanwhile."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Connection, Row, bindparam, exists, select
from sqlalchemy.dialects.postgresql import insert

from dpiqa.storage.callbacks import request_callback
from dpiqa.storage.columns import NOW, after, constant, constants
from dpiqa.storage.failure_checks import add_failure_check
from dpiqa.storage.jobs import Job
from dpiqa.storage.leases import RowLease
from dpiqa.storage.measures import request_details
from dpiqa.storage.report_tables import reports
from dpiqa.storage.tables import jobs, sweeps
from dpiqa.types import ENDED_JOB_STATES, JobKind, ReportState


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A row of `reports`. `attempt` is the fence of the worker that writes it."""

    id: int
    job_id: UUID
    output: str  #: s3://bucket/key
    failures: bool  #: only the items that ended unscored
    state: ReportState
    n_rows: int | None  #: of the object
    error: str | None  #: why it cannot be written
    created_at: datetime
    finished_at: datetime | None
    lease_until: datetime | None
    attempt: int

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of `reports`, all columns of it."""
        return cls(**row._mapping)


#: A cancelled job has ended when the sweeper has ended its items.
_JOB_HAS_ENDED = exists().where(
    jobs.c.id == reports.c.job_id,
    jobs.c.state.in_(constants(sorted(ENDED_JOB_STATES))),
    jobs.c.deleted_at.is_(None),
) & ~exists().where(sweeps.c.job_id == reports.c.job_id)
WRITING = RowLease(
    table=reports,
    noun="the report",
    until=reports.c.lease_until,
    fence=reports.c.attempt,
    is_open=(reports.c.state == constant(ReportState.PENDING)) & _JOB_HAS_ENDED,
)
START_REPORT = WRITING.start_statement()
RENEW_REPORT = WRITING.write_statement(lease_until=after("lease"))
FINISH_REPORT = WRITING.write_statement(state=ReportState.WRITTEN, n_rows=bindparam("rows"), finished_at=NOW)
FAIL_REPORT = WRITING.write_statement(state=ReportState.FAILED, error=bindparam("why"), finished_at=NOW)
DUE_REPORTS = WRITING.free_rows()
REPORT_OF_JOB = select(reports).where(reports.c.job_id == bindparam("of_job"))


def plan_job(
    c: Connection,
    job: Job,
    *,
    auto_pause: float,
    report: str | None = None,
    failures: bool = False,
    callback: str | None = None,
    details: bool = False,
) -> Job:
    """Store with a job that was just submitted when it is paused, where its report goes, and who is told of its end.

    May be repeated: nothing is stored twice, and a job that a worker has begun is not checked again. A watch is not
    checked: it has no first items. Returns the job as it is now.

    Args:
        c: The connection.
        job: The job.
        auto_pause: Share of failures, 0 to 1, among its first items above which it is paused; 1: never.
        report: s3:// address of the report; None: none is written.
        failures: The report holds only the items that ended unscored.
        callback: URL that is told when it ends; None: none is.
        details: Whether its pictures are measured; False leaves a job that was asked for them before as it is.
    """
    if callback is not None:
        request_callback(c, job.id, callback)
    if job.kind is not JobKind.WATCH and job.active_since is None:
        add_failure_check(c, job.id, auto_pause)
    if report is not None:
        request_report(c, job.id, report, failures=failures)
    if details:
        request_details(c, job.id)
    return replace(job, details=job.details or details)


def request_report(c: Connection, job_id: UUID, output: str, *, failures: bool = False) -> None:
    """Ask for a report of a job that has none yet, to be written to `s3://bucket/key` when the job has ended."""
    values = {"job_id": job_id, "output": output, "failures": failures, "state": ReportState.PENDING}
    c.execute(insert(reports).on_conflict_do_nothing(), values)


def read_report(c: Connection, job_id: UUID) -> Report | None:
    """Return the report of a job; None if none was asked for."""
    row = c.execute(REPORT_OF_JOB, {"of_job": job_id}).one_or_none()
    return None if row is None else Report.from_row(row)


def due_reports(c: Connection) -> list[int]:
    """Return the ids of the reports whose job has ended and that no worker writes."""
    return list(c.execute(DUE_REPORTS).scalars())


def start_report(c: Connection, report_id: int, lease_seconds: float) -> Report | None:
    """Take a report for writing. None if it is not due, or another worker writes it."""
    row = WRITING.start(c, START_REPORT, report_id, lease_seconds)
    return None if row is None else Report.from_row(row)


def finish_report(c: Connection, report: Report, n_rows: int) -> None:
    """Record that the object is complete. Raises `LeaseLost`."""
    WRITING.write(c, FINISH_REPORT, report.id, report.attempt, rows=n_rows)


def fail_report(c: Connection, report: Report, error: str) -> None:
    """Record that the report cannot be written. Raises `LeaseLost`."""
    WRITING.write(c, FAIL_REPORT, report.id, report.attempt, why=error)
