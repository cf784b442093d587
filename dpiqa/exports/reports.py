"""The report of a job: written to S3 by one worker when the job has ended."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar

import structlog
from sqlalchemy import Connection, Engine

from dpiqa.access import Grants
from dpiqa.addresses import parse_s3
from dpiqa.errors import ConfigurationError, InvalidRequest, LeaseLost, NotFound, Unavailable
from dpiqa.exports.formats import Format, encode
from dpiqa.exports.rows import item_batches
from dpiqa.exports.schemas import FAILURES, ITEMS, Columns
from dpiqa.objects.s3 import S3Store
from dpiqa.retries import retry_transaction
from dpiqa.settings import Settings
from dpiqa.storage.engine import transaction
from dpiqa.storage.jobs import read_job
from dpiqa.storage.reports import RENEW_REPORT, WRITING, Report, fail_report, finish_report, start_report

log = structlog.get_logger()
T = TypeVar("T")


def check_report_output(output: str) -> str:
    """Return the address of a report that a worker is to write. Raises `InvalidRequest` for what it cannot write."""
    address = parse_s3(output)
    if not address.key or address.key.endswith("/"):
        raise InvalidRequest(f"{output} does not name an object", hint="write s3://bucket/folder/report.parquet")
    Format.of_name(address.key)
    return output


def write_report(engine: Engine, settings: Settings, report_id: int) -> None:
    """Write a report that is due. Does nothing when another worker writes it, or when it is written.

    What cannot be written (no such bucket, no permission) fails the report, with one line. While S3 or Postgres is
    unavailable its lease ends, and the feeder announces it again. Writing it twice stores the same object.
    """

    def commit(statements: Callable[[Connection], T]) -> T:
        def attempt() -> T:
            with transaction(engine) as c:
                return statements(c)

        return retry_transaction(attempt)

    n_rows, lease = 0, timedelta(seconds=settings.lease_seconds)

    def renewed(report: Report, batches: Iterator[Columns]) -> Iterator[Columns]:
        """Yield the batches under the lease, which is renewed before each."""
        nonlocal n_rows
        for columns in batches:
            commit(lambda c: WRITING.write(c, RENEW_REPORT, report.id, report.attempt, lease=lease))
            n_rows += len(columns[0])
            yield columns

    try:
        report = commit(lambda c: start_report(c, report_id, settings.lease_seconds))
        if report is None:
            return
        job = commit(lambda c: read_job(c, report.job_id))
        schema = FAILURES if report.failures else ITEMS.with_details() if job.details else ITEMS
        address = parse_s3(report.output)
        kind = Format.of_name(address.key)
        chunks = encode(kind, schema, renewed(report, item_batches(engine, report.job_id, schema)))
        try:
            grants = Grants.of(job.grants)
            grants.require_address(report.output)  # checked when it was asked for, and where it is written
            S3Store.from_settings(settings).put(address.bucket, address.key, chunks, media_type=kind.media_type)
        except (ConfigurationError, NotFound) as error:
            message = str(error)
            commit(lambda c: fail_report(c, report, message))
            log.warning("report_failed", job=str(report.job_id), output=report.output, error=message)
        else:
            commit(lambda c: finish_report(c, report, n_rows))
            log.info("report_written", job=str(report.job_id), output=report.output, rows=n_rows)
    except Unavailable as error:
        log.warning("report_postponed", report=report_id, error=str(error))
    except LeaseLost as error:
        log.info("report_taken_over", report=report_id, error=str(error))
