"""`dpiqa jobs` and `dpiqa items`."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.options import parse_job_id
from dpiqa.types import ItemState

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from dpiqa.storage.items import Item
    from dpiqa.storage.job_queries import JobReport
    from dpiqa.storage.jobs import Job
    from dpiqa.storage.pages import Page

ITEM_COLUMNS: dict[str, type] = {
    "bucket": str,
    "key": str,
    "etag": str,
    "state": str,
    "stage": str,
    "reason": str,
    "detail": str,
    "route": str,
    "attempt": str,
    "crashes": str,
    "errors": str,
    "created_at": datetime,
    "finished_at": datetime,
}
State = Annotated[ItemState | None, typer.Option(help="Only items in this state.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "jobs", "dpiqa jobs", "dpiqa jobs --limit 100 --json")(jobs)
    command(
        app,
        "items",
        "dpiqa items 0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f --state rejected",
        "dpiqa items 0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f --output report.csv",
    )(items)


def jobs(limit: options.Limit = None, as_json: options.Json = False) -> None:
    """List the jobs, newest first, and how far each is. `dpiqa watch JOB` follows one."""
    from dpiqa.cli.support.output import SHOWN, walk
    from dpiqa.storage.engine import transaction
    from dpiqa.storage.job_queries import get_job, list_jobs

    def ask(connection: "Connection", rows: int, cursor: str | None) -> "Page[Job]":
        return list_jobs(connection, limit=rows, cursor=cursor)

    with context.database() as engine:
        found = list(walk(engine, ask, limit or SHOWN))
        with transaction(engine) as connection:
            reports = [get_job(connection, job.id) for job in found]
    if as_json:
        console.print_json(reports)
    elif reports:
        names = ("job", "kind", "of", "profile", "state", "done", "total", "waits for", "created")
        console.table(names, map(_line, reports))
    else:
        console.note("no jobs yet: `dpiqa submit s3://bucket/prefix` makes one")


def _line(report: "JobReport") -> tuple[Any, ...]:
    job = report.job
    waits = job.error or report.waiting_for
    where = f"s3://{job.bucket}/{job.prefix}"
    return job.id, job.kind, where, job.profile, job.state, report.done, report.total, waits, job.created_at


def items(
    job: options.JobId,
    state: State = None,
    limit: options.Limit = None,
    as_json: options.Json = False,
    output: options.Output = None,
) -> None:
    """List a job's images: the state of each and, where it was not scored, why."""
    from dpiqa.cli.support.output import as_rows, check_output, deliver, rows_wanted, walk
    from dpiqa.storage.job_queries import job_items

    if output:
        check_output(output)
    job_id = parse_job_id(job)

    def ask(connection: "Connection", rows: int, cursor: str | None) -> "Page[Item]":
        return job_items(connection, job_id, state, limit=rows, cursor=cursor)

    with context.database() as engine:
        found = walk(engine, ask, rows_wanted(as_json=as_json, output=output, limit=limit))
        rows = as_rows(list(ITEM_COLUMNS), found)
        deliver(rows, ITEM_COLUMNS, as_json=as_json, output=output, limit=limit, line=(_NAMES, _cells))


_NAMES = ("image", "state", "stage", "route", "reason", "detail")


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    return f"s3://{row['bucket']}/{row['key']}", row["state"], row["stage"], row["route"], row["reason"], row["detail"]
